"""Presets of the planner: which network, and how much of it fits which memory.

The numbers are nnU-Net's (2.8.1: ``ExperimentPlanner``, ``ResEncUNetPlanner``, ``nnUNetPlannerResEncM/L/XL``; the
ResEnc presets are those of Isensee et al., arXiv 2404.09556).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from delineate.planning.plan import NetworkKind

BASE_FEATURES = 32
"""Channels at full resolution (nnU-Net ``UNet_base_num_features``)."""
MAX_FEATURES = {2: 512, 3: 320}
"""Most channels of any stage, by number of axes (nnU-Net)."""
REFERENCE_BATCH = {2: 12, 3: 2}
"""Batch size at which the memory references were found, by number of axes (nnU-Net)."""

_PLAIN_BLOCKS = (2,) * 14
_RESIDUAL_BLOCKS = (1, 3, 4, *(6,) * 10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What the planner takes as given."""

    planner_name: str
    """Name of nnU-Net's planner class, written into the plan."""
    plans_name: str
    kind: NetworkKind
    reference_3d: float
    """Feature-map values of a 3-D batch of 2 that fit ``reference_gb``."""
    reference_2d: float
    """Feature-map values of a 2-D batch of 12 that fit ``reference_gb``."""
    reference_gb: float
    target_gb: float
    """Memory to plan for; references scale with ``target_gb / reference_gb``."""
    dataset_share: float
    """Largest share of the dataset in one batch."""
    encoder_blocks: tuple[int, ...]
    """Convolutions (plain) or blocks per encoder stage, as many as could ever be needed."""
    decoder_convs: tuple[int, ...]
    shares_default_data: bool
    """2d and 3d_fullres use the prepared data of the default preset."""
    shrinks_by_batch: bool
    """The patch shrinks until a batch of 2 fits (default planner); else until the reference batch's estimate fits."""
    expansion_ratios: tuple[int, ...] = ()
    """MedNeXt only: expansion per stage, as many as the publication has."""
    kernel: int = 3
    """MedNeXt only: edge of the depthwise kernels."""

    def reference(self, dims: int) -> float:
        """Return the feature-map values that fit the memory target, for 2 or 3 axes."""
        return (self.reference_2d if dims == 2 else self.reference_3d) * (self.target_gb / self.reference_gb)

    def with_memory(self, target_gb: float) -> Preset:
        """Return the same preset for another GPU memory in GB."""
        return replace(self, target_gb=target_gb)


DEFAULT = Preset(
    planner_name="ExperimentPlanner",
    plans_name="nnUNetPlans",
    kind="plain_unet",
    reference_3d=560_000_000,
    reference_2d=85_000_000,
    reference_gb=8,
    target_gb=8,
    dataset_share=0.05,
    encoder_blocks=_PLAIN_BLOCKS,
    decoder_convs=_PLAIN_BLOCKS[1:],
    shares_default_data=False,
    shrinks_by_batch=True,
)


def _residual(size: str, reference_3d: float, reference_2d: float, gigabytes: float) -> Preset:
    return Preset(
        planner_name=f"nnUNetPlannerResEnc{size}",
        plans_name=f"nnUNetResEncUNet{size}Plans",
        kind="residual_unet",
        reference_3d=reference_3d,
        reference_2d=reference_2d,
        reference_gb=gigabytes,
        target_gb=gigabytes,
        dataset_share=1,
        encoder_blocks=_RESIDUAL_BLOCKS,
        decoder_convs=(1,) * 12,
        shares_default_data=True,
        shrinks_by_batch=False,
    )


RESENC_M = _residual("M", 680_000_000, 135_000_000, 8)
RESENC_L = _residual("L", 2_100_000_000, 380_000_000, 24)
RESENC_XL = _residual("XL", 3_600_000_000, 560_000_000, 40)


_MEDNEXT_SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "S": ((2, 2, 2, 2, 2), (2, 2, 2, 2, 2)),
    "B": ((2, 2, 2, 2, 2), (2, 3, 4, 4, 4)),
    "M": ((3, 4, 4, 4, 4), (2, 3, 4, 4, 4)),
    "L": ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8)),
}
"""Blocks and expansion ratios per stage of the published sizes (Roy et al. 2023, arXiv 2303.09975, table 1)."""


def _mednext(size: str, kernel: int) -> Preset:
    """Return nnU-Net's default planner with a MedNeXt in place of the U-Net: same spacing, patch, batch and data.

    The publication resamples everything to 1 mm and cuts patches of 128 voxels; nnU-Net's rules are kept here, so that
    the two networks can be compared on the same prepared data. Memory is therefore judged by the U-Net's needs.
    """
    blocks, ratios = _MEDNEXT_SIZES[size]
    return replace(
        DEFAULT,
        planner_name=f"MedNeXtPlanner{size}{kernel}",
        plans_name=f"MedNeXt{size}{kernel}Plans",
        kind="mednext",
        encoder_blocks=blocks,
        decoder_convs=(),
        shares_default_data=True,
        expansion_ratios=ratios,
        kernel=kernel,
    )


PRESETS: dict[str, Preset] = {
    "default": DEFAULT,
    "resenc-m": RESENC_M,
    "resenc-l": RESENC_L,
    "resenc-xl": RESENC_XL,
    **{f"mednext-{size.lower()}": _mednext(size, 3) for size in _MEDNEXT_SIZES},
    **{f"mednext-{size.lower()}-k5": _mednext(size, 5) for size in _MEDNEXT_SIZES},
}
"""The presets by the name that users type."""
