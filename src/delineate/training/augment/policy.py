"""Augmentation policies: which random changes a patch gets, how often and how strong. Values only, no tensors.

The ranges and their order are those of nnU-Net 2.8's trainer (``get_training_transforms``); the light policy is for
short budgets on a CPU. Axes are patch axes, counted from 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from delineate.errors import PlanError
from delineate.planning.recipe import Augmentation

Range = tuple[float, float]
"""Least and largest value."""

ANISOTROPY_THRESHOLD = 3.0
"""A volume patch whose longest edge exceeds its first edge by this factor is rotated in plane only (nnU-Net)."""
PLANE_ASPECT_LIMIT = 1.5
"""A plane patch with a larger aspect is rotated by small angles only (nnU-Net)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spatial:
    """Rotation and isotropic scaling about the centre of the patch."""

    probability: float = 1.0
    """Chance that a sample is considered at all; the two chances below are within it."""
    rotation_probability: float
    rotation_rad: float
    """Each angle is uniform in plus or minus this."""
    scaling_probability: float
    scaling: Range
    """Factor on the sampled coordinates: larger than 1 shows more of the image, smaller."""
    in_plane: bool = False
    """Leave axis 0 alone (nnU-Net's dummy 2-D mode for anisotropic volumes)."""
    labels: Literal["linear", "nearest"] = "linear"
    """``linear``: the label with the largest linearly interpolated indicator (nnU-Net); ``nearest`` is cheaper."""
    margin: float
    """The rotated patch is enlarged by this factor to get the size to cut from the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise:
    """Additive Gaussian noise; all channels of a sample share the standard deviation."""

    probability: float
    deviation: Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Blur:
    """Gaussian blur; a width of its own for every channel and axis."""

    probability: float
    channel_probability: float
    sigma_voxels: Range


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """A factor per channel, drawn below 1 or above 1 with equal chance (brightness, contrast)."""

    probability: float
    factor: Range


@dataclass(frozen=True, kw_only=True, slots=True)
class LowResolution:
    """Nearest-neighbour shrinking and linear enlarging; one zoom per channel."""

    probability: float
    channel_probability: float
    zoom: Range
    in_plane: bool = False
    """Leave axis 0 alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gamma:
    """Power law on intensities scaled to [0, 1]; mean and standard deviation are kept."""

    probability: float
    exponent: Range
    inverted: bool
    """Apply it to the negative image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousStage:
    """Faults of the one-hot label map of a cascade's previous stage; the values are nnU-Net's."""

    shape_probability: float = 0.4
    """Chance that the shapes of a sample are changed: dilated, eroded, closed or opened."""
    removal_probability: float = 0.2
    """Chance that a sample loses components."""
    channel_probability: float = 0.5
    """Chance of every label within a chosen sample."""
    radius_voxels: Range = (1.0, 8.0)
    """Of the ball that shapes are changed with."""
    largest_share: float = 0.15
    """Only components of fewer voxels than this share of the patch are lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentationPolicy:
    """Everything that may happen to a sample, in this order; None or empty: not at all."""

    spatial: Spatial | None = None
    noise: Noise | None = None
    blur: Blur | None = None
    brightness: Factor | None = None
    contrast: Factor | None = None
    low_resolution: LowResolution | None = None
    gammas: tuple[Gamma, ...] = ()
    mirror_axes: tuple[int, ...] = ()
    """Axes that are flipped with a chance of one half each."""
    previous_stage: PreviousStage | None = None
    """Faults of a previous stage's label map; without a cascade there is none."""

    def input_size(self, patch_size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the size to cut from the image so that a rotated and scaled patch (seldom) needs padding, in voxels.

        Equal to nnU-Net's initial patch size for its policy; ``patch_size`` itself without spatial changes.
        """
        if self.spatial is None:
            return patch_size
        fixed = 1 if self.spatial.in_plane else 0
        angle = min(math.pi / 2, self.spatial.rotation_rad)
        # in-plane: nnU-Net turns the whole volume about each axis too, then resets axis 0
        reach = _rotated_extent(patch_size, angle)
        return patch_size[:fixed] + tuple(int(size * self.spatial.margin) for size in reach[fixed:])


NONE = AugmentationPolicy()
"""Nothing happens; patches are cut centrally if they are larger than wanted."""


def policy_for(
    name: Augmentation, patch_size: tuple[int, ...], dims: int, mirror_axes: tuple[int, ...]
) -> AugmentationPolicy:
    """Return the policy of that name for patches of ``patch_size`` voxels.

    Raises
    ------
    PlanError
        If the patch does not have ``dims`` axes, a mirror axis does not exist, or the name is unknown.
    """
    if len(patch_size) != dims or dims not in (2, 3):
        raise PlanError(f"A patch for augmentation needs {dims} axes (2 or 3); got {patch_size}.")
    if any(axis not in range(dims) for axis in mirror_axes):
        raise PlanError(f"Mirror axes must be among 0 to {dims - 1}; got {mirror_axes}.")
    if name == "none":
        return NONE
    if name == "light":
        return _light(patch_size, mirror_axes)
    if name == "nnunet":
        return _nnunet(patch_size, mirror_axes)
    raise PlanError(f"The augmentation must be 'none', 'light' or 'nnunet'; got '{name}'.")


def _light(patch_size: tuple[int, ...], mirror_axes: tuple[int, ...]) -> AugmentationPolicy:
    """Return cheap changes for short budgets: no convolutions, nearest labels."""
    scaling = (0.85, 1.15)
    return AugmentationPolicy(
        spatial=Spatial(
            probability=0.3,
            rotation_probability=1.0,
            rotation_rad=math.radians(15),
            scaling_probability=1.0,
            scaling=scaling,
            in_plane=_anisotropic(patch_size),
            labels="nearest",
            margin=scaling[1],
        ),
        noise=Noise(probability=0.1, deviation=(0.0, 0.1)),
        brightness=Factor(probability=0.15, factor=(0.75, 1.25)),
        contrast=Factor(probability=0.15, factor=(0.75, 1.25)),
        gammas=(Gamma(probability=0.15, exponent=(0.7, 1.5), inverted=False),),
        mirror_axes=mirror_axes,
        previous_stage=PreviousStage(),
    )


def _nnunet(patch_size: tuple[int, ...], mirror_axes: tuple[int, ...]) -> AugmentationPolicy:
    """Return nnU-Net's own list."""
    in_plane = _anisotropic(patch_size)
    return AugmentationPolicy(
        spatial=Spatial(
            rotation_probability=0.2,
            rotation_rad=_nnunet_rotation_rad(patch_size, in_plane=in_plane),
            scaling_probability=0.2,
            scaling=(0.7, 1.4),
            in_plane=in_plane,
            margin=1 / 0.85,
        ),
        noise=Noise(probability=0.1, deviation=(0.0, 0.1)),
        blur=Blur(probability=0.2, channel_probability=0.5, sigma_voxels=(0.5, 1.0)),
        brightness=Factor(probability=0.15, factor=(0.75, 1.25)),
        contrast=Factor(probability=0.15, factor=(0.75, 1.25)),
        low_resolution=LowResolution(probability=0.25, channel_probability=0.5, zoom=(0.5, 1.0), in_plane=in_plane),
        gammas=(
            Gamma(probability=0.1, exponent=(0.7, 1.5), inverted=True),
            Gamma(probability=0.3, exponent=(0.7, 1.5), inverted=False),
        ),
        mirror_axes=mirror_axes,
        previous_stage=PreviousStage(),
    )


def _anisotropic(patch_size: tuple[int, ...]) -> bool:
    return len(patch_size) == 3 and max(patch_size) / patch_size[0] > ANISOTROPY_THRESHOLD


def _nnunet_rotation_rad(patch_size: tuple[int, ...], *, in_plane: bool) -> float:
    if len(patch_size) == 2:
        return math.radians(15 if max(patch_size) / min(patch_size) > PLANE_ASPECT_LIMIT else 180)
    return math.radians(180 if in_plane else 30)


def _rotated_extent(patch_size: tuple[int, ...], angle: float) -> list[float]:
    """Return the extent per axis of the patch's diagonal, turned by ``angle`` about each axis in turn (nnU-Net)."""
    extent = [float(size) for size in patch_size]
    pairs = [(0, 1)] if len(patch_size) == 2 else [(1, 2), (0, 2), (0, 1)]
    for a, b in pairs:
        # the signs are those of nnU-Net's rotation matrices: row vector times matrix
        sign = -1 if (a, b) == (0, 2) else 1
        turned_a = abs(patch_size[a] * math.cos(angle) + sign * patch_size[b] * math.sin(angle))
        turned_b = abs(-sign * patch_size[a] * math.sin(angle) + patch_size[b] * math.cos(angle))
        extent[a], extent[b] = max(extent[a], turned_a), max(extent[b], turned_b)
    return extent
