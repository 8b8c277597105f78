"""Fine-tuning: the plan and the recipe of a training that starts from a trained model.

The network, its patch and, where it makes sense, its spacing and normalisation are the model's, because trained weights
know structures at one size in voxels and at one range of intensities; everything else is the dataset's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delineate.errors import PlanError
from delineate.planning.fingerprint import Fingerprint
from delineate.planning.plan import Configuration, Plan
from delineate.planning.recipe import Recipe
from delineate.planning.rules.spacing import resampled_shapes
from delineate.planning.rules.topology import round_up

COMPARABLE_SPACING = 2.0
"""Up to this ratio the images are brought to the model's spacing; a halving moves structures by a whole stage."""
LEARNING_RATE_SHARE = 0.1
"""Of the rate from scratch: a full rate would undo in the first steps what the model knows."""
WARMUP_SHARE = 0.05
"""Steps in which the rate rises, because the new outputs send large gradients at first; nnU-Net 2.8.1's
``nnUNetTrainer_warmup`` takes 50 of 1000 epochs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedNetwork:
    """What a plan takes over of a model."""

    name: str
    plan: Plan
    configuration: Configuration
    channel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.configuration.previous_stage is not None:
            raise PlanError(
                f"The model {self.name} is the second stage of a cascade ({self.configuration.name}) and needs the "
                "result of the first as input. Start from its model of 3d_fullres or 3d_lowres."
            )


def plan_like(trained: TrainedNetwork, own: Plan, fingerprint: Fingerprint, channel_names: Sequence[str]) -> Plan:
    """Return the plan of a dataset for the network of a model.

    Where the spacings are comparable, axes and spacing are the model's; channels that the model knows by name are
    normalised as for the model; the patch is the model's, cut where the images are smaller.

    Parameters
    ----------
    trained
        The model.
    own
        What the planner decides for the dataset by itself.
    fingerprint
        Of the dataset.
    channel_names
        Of the dataset.

    Raises
    ------
    PlanError
        If the dataset's own plan has no configuration of as many axes as the model's network.
    """
    geometry = _geometry(trained, own, fingerprint)
    configuration, model = trained.configuration, trained.plan
    known = {name.casefold(): index for index, name in enumerate(trained.channel_names)}
    sources = [known.get(name.casefold()) for name in channel_names]
    standard = geometry.standard
    name = f"{own.plans_name}_from_{re.sub('[^A-Za-z0-9_-]+', '_', trained.name)}"
    adopted = replace(
        configuration,
        data_identifier=f"{name}_{configuration.name}",
        spacing_mm=geometry.spacing_mm,
        patch_size=_patch(configuration, geometry.median_shape),
        median_shape=geometry.median_shape,
        normalization=tuple(
            standard.normalization[i] if j is None else configuration.normalization[j] for i, j in enumerate(sources)
        ),
        use_mask_for_norm=tuple(
            standard.use_mask_for_norm[i] if j is None else configuration.use_mask_for_norm[j]
            for i, j in enumerate(sources)
        ),
        next_stage=None,
        inherits_from=None,
    )
    return replace(
        own,
        plans_name=name,
        planner_name=model.planner_name,
        transpose_forward=geometry.forward,
        transpose_backward=tuple(int(i) for i in np.argsort(geometry.forward)),
        original_median_spacing_mm=_reordered(own, own.original_median_spacing_mm, geometry.forward),
        original_median_shape=_reordered(own, own.original_median_shape, geometry.forward),
        intensities=tuple(own.intensities[i] if j is None else model.intensities[j] for i, j in enumerate(sources)),
        configurations=(adopted,),
    )


def reasons_for(trained: TrainedNetwork, configuration: Configuration, channel_names: Sequence[str]) -> tuple[str, ...]:
    """Say how what will be trained on a dataset follows from the model that it starts from."""
    return (
        f"The network is that of the model {trained.name}.",
        _spacing_sentence(trained.configuration.spacing_mm, configuration.spacing_mm),
        _patch_sentence(trained.configuration.patch_size, configuration.patch_size),
        *_intensity_sentences(trained, configuration, channel_names),
    )


def fine_tuned(recipe: Recipe, reasons: Sequence[str], mirror_axes: tuple[int, ...]) -> Recipe:
    """Return a recipe for going on from trained weights: a lower rate that is warmed up; ``reasons`` come first.

    ``mirror_axes`` are the model's: one that was not mirrored may know left from right.
    """
    rate, warmup = recipe.learning_rate * LEARNING_RATE_SHARE, max(1, round(WARMUP_SHARE * recipe.iterations))
    why = (
        f"Fine-tuning: the learning rate is {rate:.3g} instead of {recipe.learning_rate:.3g}, so that what the model "
        f"knows is refined and not undone; it rises over {warmup} steps, as new outputs first send large gradients."
    )
    told = [*reasons, why]
    if mirror_axes != recipe.mirror_axes:
        told.append(f"Images are mirrored along the axes {mirror_axes or 'none'}, as for the model.")
    return replace(
        recipe,
        learning_rate=rate,
        warmup_iterations=warmup,
        mirror_axes=mirror_axes,
        reasons=(*told, *recipe.reasons),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Geometry:
    """Axes and spacing in which the dataset is shown to the network."""

    standard: Configuration
    """What the dataset's own plan has for as many axes."""
    forward: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    median_shape: tuple[float, ...]


def _geometry(trained: TrainedNetwork, own: Plan, fingerprint: Fingerprint) -> _Geometry:
    configuration = trained.configuration
    standard = _standard(own, configuration)
    axes = trained.plan.transpose_forward[-configuration.dims :]
    spacing = dict(zip(own.transpose_forward[-standard.dims :], standard.spacing_mm, strict=True))
    comparable = set(axes) == set(spacing) and all(
        1 / COMPARABLE_SPACING <= spacing[axis] / mm <= COMPARABLE_SPACING
        for axis, mm in zip(axes, configuration.spacing_mm, strict=True)
    )
    if not comparable:
        return _Geometry(
            standard=standard,
            forward=own.transpose_forward,
            spacing_mm=standard.spacing_mm,
            median_shape=standard.median_shape,
        )
    shapes = np.array(fingerprint.shapes_after_crop)[:, list(axes)]
    spacings = np.array(fingerprint.spacings_mm)[:, list(axes)]
    median = np.median(resampled_shapes(shapes, spacings, np.array(configuration.spacing_mm)), 0)
    return _Geometry(
        standard=standard,
        forward=trained.plan.transpose_forward,
        spacing_mm=configuration.spacing_mm,
        median_shape=tuple(float(n) for n in median),
    )


def _standard(own: Plan, configuration: Configuration) -> Configuration:
    alike = [c for c in own.configurations if c.dims == configuration.dims and c.previous_stage is None]
    if not alike:
        raise PlanError(
            f"The model's network has {configuration.dims} axes, but {own.dataset_name} can only be planned for "
            f"{own.configurations[0].dims}. Start from another model."
        )
    return min(alike, key=lambda c: float(np.prod(c.spacing_mm)))


def _patch(configuration: Configuration, median_shape: Sequence[float]) -> tuple[int, ...]:
    """Return the model's patch, less where the images are smaller; never a single voxel at the bottleneck."""
    divisor = configuration.architecture.divisor
    smaller = tuple(
        min(size, round_up(max(1.0, n), step))
        for size, n, step in zip(configuration.patch_size, median_shape, divisor, strict=True)
    )
    return configuration.patch_size if smaller == divisor else smaller


def _reordered(own: Plan, values: Sequence[float], forward: Sequence[int]) -> tuple[float, ...]:
    """Return values after the plan's own transposition in the order of another one."""
    original = [values[own.transpose_backward[axis]] for axis in range(len(values))]
    return tuple(original[axis] for axis in forward)


def _spacing_sentence(trained: Sequence[float], chosen: Sequence[float]) -> str:
    if len(trained) == len(chosen) and np.allclose(trained, chosen):
        return (
            f"Images are brought to the model's spacing of {_millimetres(trained)}, at which its weights know the "
            "sizes of things."
        )
    return (
        f"Images have a spacing of {_millimetres(chosen)} here and had {_millimetres(trained)} for the model; a "
        f"model's spacing is taken over only up to a factor of {COMPARABLE_SPACING:g}, and when planning with --from."
    )


def _patch_sentence(trained: Sequence[int], chosen: Sequence[int]) -> str:
    if tuple(trained) == tuple(chosen):
        return f"The patch of {_times(chosen)} voxels is the model's."
    return f"The patch is {_times(chosen)} voxels; the model saw {_times(trained)}."


def _intensity_sentences(
    trained: TrainedNetwork, configuration: Configuration, channel_names: Sequence[str]
) -> Iterator[str]:
    schemes = dict(zip(map(str.casefold, trained.channel_names), trained.configuration.normalization, strict=True))
    for name, scheme in zip(channel_names, configuration.normalization, strict=True):
        before = schemes.get(name.casefold())
        if before is None:
            yield f"The model does not know a channel '{name}'; it is normalised by the scheme '{scheme}'."
        elif before != scheme:
            yield f"Channel '{name}' is normalised by '{scheme}' here, by '{before}' for the model."


def _millimetres(spacing_mm: Sequence[float]) -> str:
    return "×".join(f"{s:.3g}" for s in spacing_mm) + " mm"


def _times(size: Sequence[int]) -> str:
    return "×".join(map(str, size))
