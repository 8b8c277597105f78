"""One batch through a policy: draw all decisions, then change only the samples and channels that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from delineate.errors import GeometryError
from delineate.training.augment.draws import Draws, Selection, draw
from delineate.training.augment.intensity import add_noise, scale_brightness, stretch_contrast, warp_gamma
from delineate.training.augment.policy import AugmentationPolicy
from delineate.training.augment.resolution import blur, lower_resolution
from delineate.training.augment.spatial import centre_crop, mirror, outside_value, warp_images, warp_labels


@torch.no_grad()
def augment(
    images: Tensor,
    labels: Tensor,
    policy: AugmentationPolicy,
    generator: torch.Generator,
    output_size: tuple[int, ...] | None = None,
    *,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return randomly changed copies of a batch; the arguments are left as they are.

    The same generator state gives the same result on the same kind of device, whether samples come in one batch or
    one by one; the generator's state is the only state.

    Parameters
    ----------
    images
        (B, C, *p) float32.
    labels
        (B, *p) of an integer dtype; voxels beyond the border become -1 (0 for unsigned dtypes).
    policy
        What may happen.
    generator
        Source of all randomness; best on the CPU, where drawing does not wait for a device.
    output_size
        Voxels per axis of the result, cut from the centre; None: as the input. The input should be larger (see
        :meth:`AugmentationPolicy.input_size`), or rotated corners show padding.
    first
        Number of the first sample within a larger batch: what chance decided for the samples before it is passed over.

    Returns
    -------
    tuple
        Images (B, C, *output_size) and labels (B, *output_size), dtypes as given.

    Raises
    ------
    GeometryError
        If images, labels, output size and policy do not fit each other.
    """
    images, (changed,) = augment_together(images, (labels,), policy, generator, output_size, first=first)
    return images, changed


@torch.no_grad()
def augment_together(
    images: Tensor,
    maps: Sequence[Tensor],
    policy: AugmentationPolicy,
    generator: torch.Generator,
    output_size: tuple[int, ...] | None = None,
    *,
    first: int = 0,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As :func:`augment`, with any number of label maps (B, *p), at least one, that move with the images.

    Raises
    ------
    GeometryError
        If images, maps, output size and policy do not fit each other.
    """
    size = tuple(maps[0].shape[1:]) if output_size is None else tuple(output_size)
    for labels in maps:
        _check(images, labels, policy, size)
    draw(policy, generator, first, images.shape[1], len(size))
    draws = draw(policy, generator, len(images), images.shape[1], len(size))
    with torch.autocast(images.device.type, enabled=False):
        images, placed = _placed(images, maps, draws.affine, policy, size)
        _change_rows(images, draws, policy)
        return mirror(images, draws.flips), tuple(mirror(labels, draws.flips) for labels in placed)


def _check(images: Tensor, labels: Tensor, policy: AugmentationPolicy, size: tuple[int, ...]) -> None:
    if images.ndim != labels.ndim + 1 or images.shape[2:] != labels.shape[1:] or len(images) != len(labels):
        raise GeometryError(
            f"Images must be (B, C, *patch) and labels (B, *patch); got {tuple(images.shape)}, {tuple(labels.shape)}."
        )
    if len(size) != labels.ndim - 1 or min(size) < 1:
        raise GeometryError(f"The output size must have {labels.ndim - 1} positive numbers; got {size}.")
    if policy.spatial is not None and policy.spatial.in_plane and len(size) != 3:
        raise GeometryError(f"An in-plane policy is for volumes; got patches of {size}.")


def _placed(
    images: Tensor, maps: Sequence[Tensor], affine: Selection, policy: AugmentationPolicy, size: tuple[int, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Return fresh images and label maps of ``size``: cropped, or warped for the chosen samples."""
    placed = centre_crop(images, size, 0)
    placed_maps = [centre_crop(labels, size, outside_value(labels)) for labels in maps]
    if len(affine) and policy.spatial is not None:
        index = affine.index.to(images.device)
        linear = policy.spatial.labels == "linear"
        placed[index] = warp_images(images[index], affine.values, size)
        for labels, target in zip(maps, placed_maps, strict=True):
            target[index] = warp_labels(labels[index], affine.values, size, linear=linear)
    return placed, placed_maps


def _change_rows(images: Tensor, draws: Draws, policy: AugmentationPolicy) -> None:
    """Change intensities and resolution of the chosen rows in place, in nnU-Net's order."""
    rows = images.flatten(0, 1)
    for sample, (deviation, seed) in zip(draws.noise.index.tolist(), draws.noise.values.tolist(), strict=True):
        add_noise(images[sample], deviation, int(seed))
    _apply(blur, rows, draws.blur, on_device=False)
    _apply(scale_brightness, rows, draws.brightness)
    _apply(stretch_contrast, rows, draws.contrast)
    in_plane = policy.low_resolution is not None and policy.low_resolution.in_plane
    _apply(partial(lower_resolution, in_plane=in_plane), rows, draws.low_resolution, on_device=False)
    for gamma, chosen in zip(policy.gammas, draws.gammas, strict=True):
        _apply(partial(warp_gamma, inverted=gamma.inverted), rows, chosen)


def _apply(
    change: Callable[[Tensor, Tensor], Tensor], rows: Tensor, chosen: Selection, *, on_device: bool = True
) -> None:
    if len(chosen):
        index = chosen.index.to(rows.device)
        values = chosen.values.to(rows) if on_device else chosen.values
        rows[index] = change(rows[index], values)
