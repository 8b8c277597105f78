"""The plan: how a dataset is prepared and which network learns it.

These are values only. How they are decided stands in ``rules`` (nnU-Net's rules) and ``budget`` (the machine and the
time); how nnU-Net spells them in JSON stands in ``formats.nnunet``. All axes are array axes *after*
``transpose_forward`` unless a field says otherwise; all spacings are mm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from delineate.case.labels import LabelScheme
from delineate.errors import PlanError

NetworkKind = Literal["plain_unet", "residual_unet", "vnet", "mednext"]
Normalization = Literal["ct", "zscore", "rescale_to_0_1", "rgb_to_0_1", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class IntensityStatistics:
    """Foreground intensities of one channel over the whole dataset (nnU-Net's fingerprint, same definitions)."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_99_5: float
    percentile_00_5: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The topology of an encoder-decoder network; one entry per stage, full resolution first.

    ``kernel_sizes`` and ``strides`` have ``dims`` numbers per stage; ``strides[0]`` is all ones.
    """

    kind: NetworkKind
    dims: int
    features: tuple[int, ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    encoder_blocks: tuple[int, ...]
    """Convolutions (plain) or blocks (residual, MedNeXt) per encoder stage."""
    decoder_convs: tuple[int, ...]
    """Convolutions (MedNeXt: blocks) per decoder stage, coarsest first; one entry fewer than stages."""
    expansion_ratios: tuple[int, ...] = ()
    """MedNeXt only: how many times wider a block is inside; one per stage, the same on the way down and up."""

    @property
    def stages(self) -> int:
        """Number of resolution stages, bottleneck included."""
        return len(self.features)

    @property
    def divisor(self) -> tuple[int, ...]:
        """What each patch axis must be a multiple of: the product of all strides."""
        product = [1] * self.dims
        for stride in self.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return tuple(product)


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """One way to see the data: target spacing, patch, batch, normalisation and network."""

    name: str
    """``2d``, ``3d_fullres``, ``3d_lowres``, ``3d_cascade_fullres`` or a name of the budget planner."""
    data_identifier: str
    """Folder name of the prepared cases; configurations with equal preparation share it."""
    spacing_mm: tuple[float, ...]
    """Target spacing; for 2-D configurations the two in-plane axes only."""
    patch_size: tuple[int, ...]
    batch_size: int
    median_shape: tuple[float, ...]
    """Median image size in voxels at the target spacing (3 axes for volumes, 2 for 2-D configurations)."""
    normalization: tuple[Normalization, ...]
    """One scheme per channel."""
    use_mask_for_norm: tuple[bool, ...]
    architecture: Architecture
    batch_dice: bool
    previous_stage: str | None = None
    next_stage: str | None = None
    inherits_from: str | None = None

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch_size)

    def input_channels(self, scheme: LabelScheme) -> int:
        """Return what the network takes: image channels and, in a cascade, one per label of the stage before it."""
        stage = len(scheme.values) if self.previous_stage is not None else 0
        return len(self.normalization) + stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything that is decided from the fingerprint of a dataset."""

    dataset_name: str
    plans_name: str
    planner_name: str
    image_reader: str
    transpose_forward: tuple[int, ...]
    transpose_backward: tuple[int, ...]
    original_median_spacing_mm: tuple[float, ...]
    """After transposing."""
    original_median_shape: tuple[float, ...]
    """After cropping and transposing, before resampling."""
    intensities: tuple[IntensityStatistics, ...]
    """One per channel."""
    configurations: tuple[Configuration, ...]

    def configuration(self, name: str) -> Configuration:
        """Return the configuration of that name.

        Raises
        ------
        PlanError
            If the plan has none of that name.
        """
        for candidate in self.configurations:
            if candidate.name == name:
                return candidate
        have = ", ".join(c.name for c in self.configurations)
        raise PlanError(f"The plan {self.plans_name} has no configuration '{name}'; it has: {have}.")
