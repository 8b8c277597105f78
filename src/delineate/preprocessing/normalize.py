"""Intensity normalisation, one function per scheme; the numbers are nnU-Net's.

Every function takes one channel (z, y, x) float32 and returns a new array of that shape. Files, labels and plans are
unknown here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.planning.plan import IntensityStatistics, Normalization

SMALLEST_STD = 1e-8
"""Standard deviations are not taken smaller than this (nnU-Net)."""
RGB_MAXIMUM = 255.0

Channel = NDArray[np.float32]


def normalize(
    channel: Channel,
    scheme: Normalization,
    *,
    statistics: IntensityStatistics | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> Channel:
    """Normalise one channel.

    Parameters
    ----------
    channel
        (z, y, x) float32.
    scheme
        ``ct``, ``zscore``, ``rescale_to_0_1``, ``rgb_to_0_1`` or ``none``.
    statistics
        The dataset's foreground intensities of this channel; needed by ``ct``.
    mask
        (z, y, x) bool: ``zscore`` inside it only, and leave the rest as it is.

    Returns
    -------
    NDArray
        (z, y, x) float32.

    Raises
    ------
    InputError
        If an intensity is not finite, or the intensities do not allow the scheme.
    """
    lowest, highest = float(channel.min()), float(channel.max())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise InputError(
            "Intensities must be finite numbers; found NaN or infinity. "
            "Run `delineate verify` on the dataset, and repair or remove the image."
        )
    if scheme == "ct":
        return _ct(channel, statistics)
    if scheme == "zscore":
        return _zscore(channel) if mask is None else _masked_zscore(channel, mask)
    if scheme == "rescale_to_0_1":
        return _rescale(channel, lowest, highest)
    if scheme == "rgb_to_0_1":
        return _rgb(channel, lowest, highest)
    return channel.copy()


def _ct(channel: Channel, statistics: IntensityStatistics | None) -> Channel:
    if statistics is None:
        raise InputError(
            "CT normalisation needs the dataset's intensity statistics; the plan has none for this channel."
        )
    result = np.clip(channel, statistics.percentile_00_5, statistics.percentile_99_5)
    result -= statistics.mean
    result /= max(statistics.std, SMALLEST_STD)
    return result


def _zscore(channel: Channel) -> Channel:
    std = _positive_std(channel)
    result: Channel = channel - channel.mean()
    result /= std
    return result


def _masked_zscore(channel: Channel, mask: NDArray[np.bool_]) -> Channel:
    inside = channel[mask]
    std = _positive_std(inside)
    result = channel.copy()
    result[mask] = (inside - inside.mean()) / std
    return result


def _positive_std(values: Channel) -> np.float32:
    std = values.std() if values.size else np.float32(0)
    if std <= SMALLEST_STD:
        found = f"all are {float(values.flat[0]):g}" if values.size else "there are none, the image is empty"
        raise InputError(
            f"Z-score normalisation needs intensities that differ; {found}. "
            "Remove the case, or give the channel a normalisation that takes constant images (`nonorm`)."
        )
    return np.float32(std)


def _rescale(channel: Channel, lowest: float, highest: float) -> Channel:
    if highest <= lowest:
        raise InputError(f"Rescaling to 0..1 needs intensities that differ; all are {lowest:g}. Remove the case.")
    result: Channel = channel - np.float32(lowest)
    result /= max(float(result.max()), SMALLEST_STD)
    return result


def _rgb(channel: Channel, lowest: float, highest: float) -> Channel:
    if lowest < 0 or highest > RGB_MAXIMUM:
        raise InputError(
            f"RGB normalisation takes intensities 0 to 255; found {lowest:g} to {highest:g}. "
            "Give the channel another name in dataset.json (for instance `rescale_to_0_1`) and plan again."
        )
    return channel / np.float32(RGB_MAXIMUM)
