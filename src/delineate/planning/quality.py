"""How good a candidate is expected to become: a learning curve with few constants, for comparing candidates.

    error = asymptote * penalties + learning * (reference steps / effective steps) ^ exponent

The asymptote falls slowly with capacity and rises when the patch shows too little, cuts slices out of a volume or works
at low resolution. Effective steps grow with the batch. No number here claims to predict a Dice; only the order of
the candidates matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from delineate.planning.plan import Configuration


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetModel:
    """The constants of the budget planner. Measured ones come from MSD Hippocampus, fold 0; see docs/log.md."""

    asymptotic_error: float = 0.105
    """1 - Dice after endless training, at ``reference_parameters``."""
    reference_parameters: float = 1.4e6
    capacity_exponent: float = 0.05
    """The asymptotic error falls with parameters to this power."""
    capacity_per_structure: float = 0.5
    """More than two structures need parameters by their number to this power."""
    learning_error: float = 0.025
    """Error on top of the asymptote after ``reference_steps`` of ``reference_batch`` with full context."""
    reference_steps: float = 1000
    reference_batch: float = 2
    learning_exponent: float = 0.4
    """The error on top falls with effective steps to this power."""
    batch_exponent: float = 0.5
    """Beyond the reference batch, effective steps grow with the batch to this power; below, linearly."""
    patch_exponent: float = 0.7
    """Effective steps grow with the patch to this power: neighbouring voxels teach much the same."""
    width_exponent: float = -0.4
    """Effective steps grow with parameters to this power; negative, because wider networks need more of them."""
    context_penalty: float = 1.0
    """Relative rise of the asymptote for each halving of the patch edges below what matters."""
    plane_penalty: float = 0.12
    """Relative rise for a 2-D network on isotropic volumes; none where slices are thicker than ``thick_slices``."""
    thick_slices: float = 5.0
    """Ratio of spacings from which a 2-D network loses nothing."""
    coarse_penalty: float = 0.25
    """Relative rise for each doubling of the spacing below full resolution."""
    shallow_penalty: float = 0.03
    """Relative rise for each half of the network (encoder, decoder) with a single convolution per stage."""
    passes_for_full_augmentation: float = 150.0
    """From so many passes over the data on, nnU-Net's full augmentation; with fewer, the cheap one of few changes."""
    deep_supervision_from_stages: int = 5
    """Networks at least this deep are trained with deep supervision."""
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    gradient_clip: float = 12.0
    foreground_fraction: float = 0.5
    """Share of foreground-centred patches when a patch shows less than half of an image (nnU-Net: 0.33)."""
    probe_share: float = 0.05
    """Largest share of the budget spent on measuring candidates."""
    probe_seconds: float = 20.0
    """Most seconds spent on measuring candidates,"""
    long_probe_share: float = 0.005
    """unless this share of the budget is more."""
    probe_steps: float = 5.0
    """Steps that measuring one candidate takes, warming up included: what cannot be measured in time is left out."""
    first_probe_share: float = 0.25
    """Largest share of the measuring time for the first candidate, while the speed of the machine is unknown."""
    most_trials: int = 8
    memory_share: float = 0.85
    """Share of the memory that a training may fill."""
    least_seconds: float = 10.0
    """Shortest budget that is tried at all."""
    least_iterations: int = 60
    """Fewest training steps that can give anything of use."""
    few_iterations: int = 300
    """Below this many training steps the person is warned of a rough result."""
    operations_per_value: float = 3000.0
    """Normalisation and activation of one feature-map value take as long as this many operations of a convolution."""
    operations_per_parameter: float = 4000.0
    """Updating one parameter (gradient norm, optimiser, average) takes as long as this many operations."""
    assumed_operations_per_second: float = 1e11
    """Before anything is measured; decides only which candidate is measured first."""
    activation_copies: float = 4.0
    """Copies of each feature-map value that a training step holds, for the forecast of memory."""
    memory_retreat: float = 0.6
    """After a candidate did not fit, only those with less than this share of its forecast memory are tried."""
    least_sightings: int = 100
    """A structure that fewer patches show will probably be missed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """What a candidate sees of the data."""

    context: float
    """Share (0 to 1) of the edge lengths that matter which the patch covers, geometric mean over axes and cases."""
    patch_share: float
    """Voxels of the patch relative to the plan's own patch or the whole image, whichever is smaller."""
    slice_ratio: float
    """Slice thickness over in-plane spacing, of the volumes; large for thick slices. 1 for images of one slice."""
    planar: bool
    """A 2-D network on volumes."""
    coarseness: float
    """Spacing relative to full resolution, geometric mean over axes; 1 at full resolution."""


def expected_dice(
    model: BudgetModel,
    configuration: Configuration,
    sight: Sight,
    *,
    parameters: int,
    structures: int,
    iterations: float,
) -> float:
    """Return the Dice that the learning curve promises after so many iterations; below 0 means hopeless.

    ``parameters`` is the number of parameters of the network, ``structures`` that of foreground labels to learn.
    """
    needed = model.reference_parameters * max(1.0, structures / 2) ** model.capacity_per_structure
    capacity = parameters / needed
    asymptote = model.asymptotic_error * capacity**-model.capacity_exponent * _penalties(model, configuration, sight)
    batch = configuration.batch_size / model.reference_batch
    per_step = min(batch, batch**model.batch_exponent) * sight.patch_share**model.patch_exponent
    effective = max(iterations, 1e-9) * per_step * capacity**model.width_exponent
    dice: float = 1 - asymptote - model.learning_error * (model.reference_steps / effective) ** model.learning_exponent
    return dice


def _penalties(model: BudgetModel, configuration: Configuration, sight: Sight) -> float:
    architecture = configuration.architecture
    thick = min(1.0, math.log(max(1.0, sight.slice_ratio)) / math.log(model.thick_slices))
    shallow = int(architecture.kind == "plain_unet" and max(architecture.encoder_blocks) == 1)
    shallow += int(max(architecture.decoder_convs, default=1) == 1)
    return (
        (1 - model.context_penalty * math.log2(min(1.0, sight.context)))
        * (1 + model.plane_penalty * (1 - thick) * sight.planar)
        * (1 + model.coarse_penalty * math.log2(max(1.0, sight.coarseness)))
        * (1 + model.shallow_penalty * shallow)
    )
