"""Rules on intensities: which normalisation each channel gets, and whether only inside the object."""

from __future__ import annotations

from collections.abc import Sequence

from delineate.planning.plan import Normalization

MASK_BELOW_RELATIVE_SIZE = 0.75
"""Cropping that removes more than a quarter of the median image means a zero background (nnU-Net)."""

_SCHEME_OF_CHANNEL: dict[str, Normalization] = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "zscore",
    "rescale_to_0_1": "rescale_to_0_1",
    "rgb_to_0_1": "rgb_to_0_1",
}


def normalization_of(channel_name: str) -> Normalization:
    """Return the scheme for a channel: what its name asks for, else z-score (MR and everything unknown).

    References
    ----------
    nnU-Net 2.8.1, ``get_normalization_scheme``; upper and lower case are the same.
    """
    return _SCHEME_OF_CHANNEL.get(channel_name.casefold(), "zscore")


def masks_for_normalization(schemes: Sequence[Normalization], median_relative_size: float) -> tuple[bool, ...]:
    """Say per channel whether statistics are taken inside the non-zero region only.

    ``median_relative_size`` is the median over cases of (voxels after cropping / voxels before). Only z-score can use
    a mask.

    References
    ----------
    nnU-Net 2.8.1, ``determine_normalization_scheme_and_whether_mask_is_used_for_norm``.
    """
    large_background = median_relative_size < MASK_BELOW_RELATIVE_SIZE
    return tuple(large_background and scheme == "zscore" for scheme in schemes)
