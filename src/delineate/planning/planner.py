"""The planner: fingerprint and preset in, plan out; nnU-Net's plan to the last digit.

Only the order in which the rules act stands here; the rules themselves stand in :mod:`delineate.planning.rules`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from delineate.errors import PlanError
from delineate.planning.fingerprint import Fingerprint
from delineate.planning.plan import Architecture, Configuration, Plan
from delineate.planning.presets import BASE_FEATURES, DEFAULT, MAX_FEATURES, REFERENCE_BATCH, Preset
from delineate.planning.rules.batch import batch_size
from delineate.planning.rules.lowres import coarser, covers_too_little, too_similar
from delineate.planning.rules.mednext import mednext_architecture
from delineate.planning.rules.memory import feature_map_voxels
from delineate.planning.rules.normalization import masks_for_normalization, normalization_of
from delineate.planning.rules.patch import fit_patch
from delineate.planning.rules.spacing import AxisOrder, axis_order, checked_target, resampled_shapes, target_spacing
from delineate.planning.rules.topology import Pooling, architecture, features_per_stage


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """What a plan needs to know of a dataset besides its fingerprint."""

    name: str
    """``DatasetXXX_Name``."""
    channel_names: tuple[str, ...]
    label_count: int
    """Number of declared labels: background, regions and the ignore label all count (nnU-Net's proxy does so)."""
    training_cases: int
    """``numTraining`` as declared, which nnU-Net trusts, not the number of files."""
    reader_name: str = "SimpleITKIO"
    """nnU-Net's name of the image reader."""

    def __post_init__(self) -> None:
        if not self.channel_names or self.label_count < 1 or self.training_cases < 1:
            raise PlanError(
                f"A plan for '{self.name}' needs at least one channel, one label and one training case; got "
                f"{len(self.channel_names)}, {self.label_count} and {self.training_cases}."
            )


def plan_dataset(
    fingerprint: Fingerprint,
    facts: DatasetFacts,
    preset: Preset = DEFAULT,
    *,
    target_spacing_mm: Sequence[float] | None = None,
) -> Plan:
    """Decide spacing, patch, batch, network and configurations for a dataset.

    Parameters
    ----------
    fingerprint
        Measured over the training cases.
    facts
        Names and numbers from the dataset's declaration.
    preset
        Which network for which memory.
    target_spacing_mm
        Overrides the target spacing at full resolution, mm (z, y, x); as nnU-Net's ``-overwrite_target_spacing``.

    Raises
    ------
    PlanError
        If the fingerprint has another number of channels than the dataset declares, the target spacing is not
        three positive numbers, or no patch fits the memory target.

    References
    ----------
    nnU-Net 2.8.1, ``ExperimentPlanner.plan_experiment``.
    """
    if len(fingerprint.intensities) not in (0, len(facts.channel_names)):
        raise PlanError(
            f"The fingerprint of '{facts.name}' has {len(fingerprint.intensities)} channels, the dataset declares "
            f"{len(facts.channel_names)}. Extract the fingerprint again."
        )
    scene = _Scene.of(fingerprint, facts, preset, target_spacing_mm)
    return Plan(
        dataset_name=facts.name,
        plans_name=preset.plans_name,
        planner_name=preset.planner_name,
        image_reader=facts.reader_name,
        transpose_forward=scene.order.forward,
        transpose_backward=scene.order.backward,
        original_median_spacing_mm=tuple(float(s) for s in scene.transposed_median(fingerprint.spacings_mm)),
        original_median_shape=tuple(round(n) for n in scene.transposed_median(fingerprint.shapes_after_crop)),
        intensities=fingerprint.intensities,
        configurations=_configurations(scene),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scene:
    """The transposed dataset at full resolution, and the preset that looks at it."""

    fingerprint: Fingerprint
    facts: DatasetFacts
    preset: Preset
    order: AxisOrder
    spacing_mm: NDArray[np.float64]
    median_shape: NDArray[np.float64]

    @staticmethod
    def of(fingerprint: Fingerprint, facts: DatasetFacts, preset: Preset, target_mm: Sequence[float] | None) -> _Scene:
        spacings = np.array(fingerprint.spacings_mm, dtype=np.float64)
        shapes = np.array(fingerprint.shapes_after_crop, dtype=np.int64)
        target = target_spacing(spacings, shapes) if target_mm is None else checked_target(target_mm)
        order = axis_order(target)
        median = np.median(resampled_shapes(shapes, spacings, target), 0)
        if median.min() < 1:
            raise PlanError(
                f"At the target spacing {tuple(target.tolist())} mm the median image of '{facts.name}' would have "
                f"{tuple(median.tolist())} voxels. Give a finer target spacing."
            )
        forward = list(order.forward)
        return _Scene(
            fingerprint=fingerprint,
            facts=facts,
            preset=preset,
            order=order,
            spacing_mm=target[forward],
            median_shape=median[forward],
        )

    def transposed_median(self, per_case: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        median: NDArray[np.float64] = np.median(per_case, 0)[list(self.order.forward)]
        return median

    @property
    def median_voxels(self) -> float:
        return float(np.prod(self.median_shape))

    @property
    def dataset_voxels(self) -> float:
        return self.median_voxels * self.facts.training_cases


def _configurations(scene: _Scene) -> tuple[Configuration, ...]:
    """Return the configurations in the order in which nnU-Net writes them."""
    flat = _plane(scene)
    if scene.median_shape[0] == 1:
        return (flat,)
    full = _configuration(scene, "3d_fullres", scene.spacing_mm, tuple(scene.median_shape), scene.dataset_voxels)
    low = _lowres(scene, full)
    if low is None:
        return (flat, full)
    full = replace(full, batch_dice=True)
    cascade = replace(full, name="3d_cascade_fullres", previous_stage="3d_lowres", inherits_from="3d_fullres")
    return (flat, replace(low, next_stage="3d_cascade_fullres"), full, cascade)


def _plane(scene: _Scene) -> Configuration:
    planned = _configuration(scene, "2d", scene.spacing_mm[1:], tuple(scene.median_shape[1:]), scene.dataset_voxels)
    return replace(planned, batch_dice=True)


def _lowres(scene: _Scene, full: Configuration) -> Configuration | None:
    """Coarsen the view step by step until a patch covers enough of the median image, or return None if not needed."""
    spacing, median_voxels = scene.spacing_mm, scene.median_voxels
    found: Configuration | None = None
    patch_voxels = math.prod(full.patch_size)
    while covers_too_little(patch_voxels, median_voxels):
        spacing = coarser(spacing)
        shape = scene.spacing_mm / spacing * scene.median_shape
        median_voxels = float(np.prod(shape))
        rounded = tuple(round(n) for n in shape)
        found = _configuration(scene, "3d_lowres", spacing, rounded, median_voxels * scene.facts.training_cases)
        patch_voxels = math.prod(found.patch_size)
    return None if too_similar(scene.median_voxels, median_voxels) else found


def _configuration(
    scene: _Scene,
    name: str,
    spacing_mm: NDArray[np.float64],
    median_shape: Sequence[float],
    dataset_voxels: float,
) -> Configuration:
    """Plan patch, network and batch for one spacing (mm) and median size (voxels), 2 or 3 axes."""
    preset, dims = scene.preset, len(spacing_mm)
    reference, batch = preset.reference(dims), REFERENCE_BATCH[dims]
    judged = DEFAULT if preset.kind == "mednext" else preset  # a MedNeXt gets the U-Net's patch and batch

    def estimate(found: Pooling) -> int:
        return feature_map_voxels(_network(judged, found), found.patch_size, scene.facts.label_count)

    def too_large(found: Pooling) -> bool:
        return (estimate(found) / batch * 2 if preset.shrinks_by_batch else estimate(found)) > reference

    found = fit_patch(spacing_mm.tolist(), median_shape, too_large=too_large)
    schemes = tuple(normalization_of(channel) for channel in scene.facts.channel_names)
    return Configuration(
        name=name,
        data_identifier=_data_identifier(preset, name),
        spacing_mm=tuple(spacing_mm.tolist()),
        patch_size=found.patch_size,
        batch_size=batch_size(
            reference,
            estimate(found),
            batch,
            dataset_voxels=dataset_voxels,
            share=preset.dataset_share,
            patch=found.patch_size,
        ),
        median_shape=tuple(n if isinstance(n, int) else float(n) for n in median_shape),
        normalization=schemes,
        use_mask_for_norm=masks_for_normalization(schemes, scene.fingerprint.median_relative_size_after_cropping),
        architecture=_network(preset, found),
        batch_dice=False,
    )


def _network(preset: Preset, found: Pooling) -> Architecture:
    dims, stages = len(found.divisor), len(found.strides)
    if preset.kind == "mednext":
        blocks, ratios = preset.encoder_blocks, preset.expansion_ratios
        return mednext_architecture(found, width=BASE_FEATURES, blocks=blocks, ratios=ratios, kernel=preset.kernel)
    return architecture(
        preset.kind,
        found,
        features=features_per_stage(stages, BASE_FEATURES, MAX_FEATURES[dims]),
        encoder_blocks=preset.encoder_blocks,
        decoder_convs=preset.decoder_convs,
    )


def _data_identifier(preset: Preset, name: str) -> str:
    shared = preset.shares_default_data and name in ("2d", "3d_fullres")
    return f"{DEFAULT.plans_name if shared else preset.plans_name}_{name}"
