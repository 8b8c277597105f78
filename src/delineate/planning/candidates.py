"""Candidates of the budget planner: configurations and recipes that vary patch, depth, width, batch and precision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from delineate.planning.fingerprint import Fingerprint
from delineate.planning.machine import Machine
from delineate.planning.plan import Architecture, Configuration, Plan
from delineate.planning.quality import BudgetModel, Sight
from delineate.planning.recipe import Precision, Recipe
from delineate.planning.rules.cost import parameter_count, step_operations
from delineate.planning.rules.mednext import mednext_architecture
from delineate.planning.rules.memory import feature_map_voxels
from delineate.planning.rules.spacing import ANISOTROPY_THRESHOLD, resampled_shapes
from delineate.planning.rules.topology import Pooling, architecture, features_per_stage, pooling
from delineate.planning.schedule import ema_decay

BASE_FEATURES = (16, 24, 32)
"""Channels at full resolution that are tried; nnU-Net has 32."""
FEATURE_CAP_FACTOR = 8
"""No stage has more channels than this times the base (nnU-Net: 10 in 3-D, 16 in 2-D)."""
BATCHES = {3: (2, 4, 8), 2: (4, 8, 16, 32)}
PLAIN_CONVS = ((2, 2), (2, 1), (1, 1))
"""Convolutions per encoder and decoder stage that are tried; nnU-Net has (2, 2)."""
RESIDUAL_BLOCKS = ((1, 3, 4, *(6,) * 10), (1, *(2,) * 12))
"""Blocks per encoder stage of residual networks that are tried; the first are the ResEnc presets'."""
PATCH_SHARES = (1.0, 0.5, 0.25, 0.125)
"""Parts of the plan's own patch, by volume, that are tried."""
WHOLE_IMAGE_LIMIT = 2.0
"""A patch holds the whole image if that has at most this times the voxels of the plan's own patch."""
COVERED_PERCENTILES = (50, 95)
"""Whole-image patches hold the median image, or nearly all."""
MAX_STAGES = 6
FEW_SLICES = 16
"""Volumes of fewer slices are also offered to a 2-D network."""
NAME_SUFFIX = "_budget"
WEIGHT_BYTES = 24
"""Bytes per parameter while training: weight, gradient, two moments, average, working copy; float32."""
STANDARD_FOREGROUND_FRACTION = 0.33
"""Share of foreground-centred patches in nnU-Net."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way to spend the budget; the recipe's number of iterations is still open."""

    configuration: Configuration
    recipe: Recipe
    sight: Sight
    parameters: int
    """Of the network."""
    work: float
    """Operations of one training step; normalisation, activation and optimiser count as so many more."""
    forecast_bytes: float
    """Memory that training will roughly take."""


def candidates(plan: Plan, fingerprint: Fingerprint, machine: Machine, model: BudgetModel) -> list[Candidate]:
    """Return all candidates for a dataset and a machine, the plan's own configurations included.

    Volumes are offered to 3-D networks at full and low resolution; planes, thin volumes and thick slices to 2-D ones.
    """
    found = []
    heads = len(fingerprint.structures) + 1
    for base in _bases(plan):
        shapes = image_shapes(plan, fingerprint, base)
        for configuration in (base, *_variants(base, shapes, machine)):
            sight = _sight(plan, base, configuration.patch_size, shapes)
            recipe = _recipe(configuration, machine, model, sight)
            found.append(_candidate(configuration, recipe, sight, model, heads))
    return found


def _candidate(configuration: Configuration, recipe: Recipe, sight: Sight, model: BudgetModel, heads: int) -> Candidate:
    network, patch, batch = configuration.architecture, configuration.patch_size, configuration.batch_size
    channels = len(configuration.normalization)
    parameters = parameter_count(network, channels, heads)
    values = feature_map_voxels(network, patch, heads)
    per_patch = step_operations(network, patch, channels, heads) + values * model.operations_per_value
    bytes_per_value = 2 if recipe.precision == "bfloat16" else 4
    return Candidate(
        configuration=configuration,
        recipe=recipe,
        sight=sight,
        parameters=parameters,
        work=batch * per_patch + parameters * model.operations_per_parameter,
        forecast_bytes=batch * values * bytes_per_value * model.activation_copies + parameters * WEIGHT_BYTES,
    )


def image_shapes(plan: Plan, fingerprint: Fingerprint, configuration: Configuration) -> NDArray[np.int64]:
    """Return the sizes ``(case, axis)`` of the images in voxels as a configuration sees them."""
    forward = list(plan.transpose_forward)[-configuration.dims :]
    spacings = np.array(fingerprint.spacings_mm)[:, forward]
    shapes = np.array(fingerprint.shapes_after_crop)[:, forward]
    return np.maximum(resampled_shapes(shapes, spacings, np.array(configuration.spacing_mm)), 1)


def _bases(plan: Plan) -> list[Configuration]:
    named = {c.name: c for c in plan.configurations}
    volumes = [named[name] for name in ("3d_fullres", "3d_lowres") if name in named]
    planes = [named["2d"]] if "2d" in named and (not volumes or _is_thin(volumes[0])) else []
    alone = [c for c in plan.configurations if c.previous_stage is None]
    return [*volumes, *planes] or alone or list(plan.configurations)


def _is_thin(volume: Configuration) -> bool:
    slices = volume.spacing_mm[0] / max(volume.spacing_mm[1:])
    return slices >= ANISOTROPY_THRESHOLD or volume.median_shape[0] < FEW_SLICES


def _variants(base: Configuration, shapes: NDArray[np.int64], machine: Machine) -> Iterator[Configuration]:
    own_batch = {base.batch_size} if machine.is_gpu else set()
    for found in _topologies(base, shapes):
        for width in BASE_FEATURES:
            for network in _networks(base, found, width):
                for batch in sorted({*BATCHES[base.dims], *own_batch}):
                    yield replace(
                        base,
                        name=base.name + NAME_SUFFIX,
                        patch_size=found.patch_size,
                        batch_size=batch,
                        architecture=network,
                        inherits_from=base.name,
                        next_stage=None,
                    )


def _topologies(base: Configuration, shapes: NDArray[np.int64]) -> list[Pooling]:
    """Return the different topologies that the patches allow, at most :data:`MAX_STAGES` deep, and one stage less."""
    found: dict[tuple[tuple[int, ...], int], Pooling] = {}
    for patch in _patches(base, shapes):
        full = pooling(base.spacing_mm, patch, MAX_STAGES)
        shallower = pooling(base.spacing_mm, patch, max(2, len(full.strides) - 1))
        for each in (full, shallower):
            found.setdefault((each.patch_size, len(each.strides)), each)
    return list(found.values())


def _patches(base: Configuration, shapes: NDArray[np.int64]) -> Iterator[tuple[int, ...]]:
    own = base.patch_size
    limit = WHOLE_IMAGE_LIMIT * math.prod(own)
    for percentile in COVERED_PERCENTILES:
        whole = np.percentile(shapes, percentile, axis=0)
        if np.prod(whole) <= limit:
            yield tuple(math.ceil(n) for n in whole)
    for share in PATCH_SHARES:
        yield tuple(max(1, round(n * share ** (1 / len(own)))) for n in own)


def _networks(base: Configuration, found: Pooling, width: int) -> Iterator[Architecture]:
    kind, stages = base.architecture.kind, len(found.strides)
    if kind == "mednext":
        own = base.architecture
        kernel = max(k for sizes in own.kernel_sizes for k in sizes)
        blocks, ratios = own.encoder_blocks, own.expansion_ratios
        yield mednext_architecture(found, width=width, blocks=blocks, ratios=ratios, kernel=kernel)
        return
    features = features_per_stage(stages, width, FEATURE_CAP_FACTOR * width)
    if kind == "residual_unet":
        for blocks in RESIDUAL_BLOCKS:
            yield architecture(kind, found, features=features, encoder_blocks=blocks, decoder_convs=(1,) * stages)
        return
    for encoder, decoder in PLAIN_CONVS:
        yield architecture(
            kind, found, features=features, encoder_blocks=(encoder,) * stages, decoder_convs=(decoder,) * stages
        )


def _sight(plan: Plan, base: Configuration, patch: Sequence[int], shapes: NDArray[np.int64]) -> Sight:
    # what matters is the whole image if it is small, else as much as nnU-Net's own patch shows
    limit = WHOLE_IMAGE_LIMIT * math.prod(base.patch_size)
    small = np.prod(np.percentile(shapes, COVERED_PERCENTILES[-1], axis=0)) <= limit
    matters = shapes if small else np.minimum(shapes, base.patch_size)
    covered = np.minimum(1.0, np.array(patch) / matters)
    volumes = [c for c in plan.configurations if c.dims == 3]
    finest = min(volumes, key=lambda c: math.prod(c.spacing_mm), default=base)
    full = finest if base.dims == 3 else base
    return Sight(
        context=float(np.exp(np.log(covered).mean())),
        patch_share=float(min(1.0, math.prod(patch) / np.median(np.prod(matters, axis=1)))),
        slice_ratio=finest.spacing_mm[0] / max(finest.spacing_mm[1:]),
        planar=base.dims == 2 and bool(volumes),
        coarseness=float(np.exp(np.log(np.array(base.spacing_mm) / np.array(full.spacing_mm)).mean())),
    )


def _recipe(configuration: Configuration, machine: Machine, model: BudgetModel, sight: Sight) -> Recipe:
    precision: Precision = "bfloat16" if machine.bfloat16 else "float32"
    iterations = model.least_iterations
    return Recipe(
        iterations=iterations,
        batch_size=configuration.batch_size,
        patch_size=configuration.patch_size,
        optimizer="adamw",
        learning_rate=model.learning_rate,
        weight_decay=model.weight_decay,
        schedule="cosine",
        gradient_clip=model.gradient_clip,
        ema_decay=ema_decay(iterations),
        precision=precision,
        channels_last=precision == "bfloat16",
        deep_supervision=configuration.architecture.stages >= model.deep_supervision_from_stages,
        foreground_fraction=model.foreground_fraction if sight.patch_share < 0.5 else STANDARD_FOREGROUND_FRACTION,
        case_order="shuffled",
        augmentation="light",
        mirror_axes=tuple(range(configuration.dims)),
    )
