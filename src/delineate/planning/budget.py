"""The budget planner: the configuration and recipe that promise most within the user's time on the user's machine.

A handful of candidates is measured, the learning curve of :mod:`delineate.planning.quality` says what each would
reach in the steps it can afford, the best is taken, and the reasons are written down. Pure but for ``measure`` and
``clock``, which are passed in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from delineate.errors import PlanError, ResourceError
from delineate.planning.candidates import Candidate, candidates, image_shapes
from delineate.planning.fingerprint import Fingerprint, StructureFacts
from delineate.planning.machine import Machine, StepCost
from delineate.planning.plan import Configuration, Plan
from delineate.planning.quality import BudgetModel, expected_dice
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import (
    STANDARD_ITERATIONS,
    fast_recipe,
    iterations_within,
    seconds_for,
    standard_recipe,
)

Measure = Callable[[Configuration, Recipe], StepCost]
"""Trains a few steps of a candidate and tells what one costs; raises ResourceError where memory does not suffice."""

STANDARD_CONFIGURATIONS = ("3d_fullres", "2d")
"""Which configuration ``standard`` trains: the first that the plan has."""
GIBIBYTE = 2**30


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A candidate that was measured; ``cost`` is None where memory did not suffice."""

    candidate: Candidate
    cost: StepCost | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Search:
    """Everything the search for the best candidate looks at."""

    plan: Plan
    fingerprint: Fingerprint
    budget_seconds: float
    machine: Machine
    model: BudgetModel
    fixed_network: bool = False

    @property
    def memory_limit(self) -> float:
        return self.machine.memory_bytes * self.model.memory_share

    @property
    def allowance(self) -> float:
        """Seconds that measuring may take."""
        most = max(self.model.probe_seconds, self.model.long_probe_share * self.budget_seconds)
        return min(self.model.probe_share * self.budget_seconds, most)

    def expected(self, candidate: Candidate, seconds_per_step: float, seconds: float | None = None) -> float:
        """Return the Dice that a candidate promises in the given seconds (default: budget without measuring)."""
        iterations = iterations_within(self.budget_seconds if seconds is None else seconds, seconds_per_step)
        return expected_dice(
            self.model,
            candidate.configuration,
            candidate.sight,
            parameters=candidate.parameters,
            structures=max(1, len(self.fingerprint.structures)),
            iterations=min(iterations, STANDARD_ITERATIONS),
        )


def decide(
    plan: Plan,
    fingerprint: Fingerprint,
    budget_seconds: float | None,
    machine: Machine,
    measure: Measure,
    *,
    model: BudgetModel | None = None,
    clock: Callable[[], float] = time.monotonic,
    fixed_network: bool = False,
) -> tuple[Configuration, Recipe]:
    """Choose what to train, and how, so that training ends within the budget with the best expected result.

    Parameters
    ----------
    plan
        nnU-Net's plan for the dataset.
    fingerprint
        Of the same dataset; with structures, so that rare ones can be warned of.
    budget_seconds
        Wall-clock seconds for measuring and training together; None: nnU-Net's own schedule, nothing is measured.
    machine
        Where training will run.
    measure
        Trains a few steps of a candidate; called a handful of times within 5 % of the budget and about 20 s
        (of a budget over an hour: 0.5 %).
    model
        Constants of the search; None: the built-in ones.
    clock
        Seconds; only differences count.
    fixed_network
        Train a configuration of the plan as it stands, because its network is given; only the time is fitted.

    Returns
    -------
    tuple
        The configuration (a new name, inheriting from one of the plan, or one of the plan) and the recipe, whose
        ``reasons`` tell a person what was measured and why this was chosen.

    Raises
    ------
    PlanError
        If the budget is too short for anything of use; says how much is needed.
    ResourceError
        If no candidate fits the memory.
    """
    if budget_seconds is None:
        standard = standard_configuration(plan)
        reason = "No time budget was given: this is nnU-Net's own schedule."
        return standard, replace(standard_recipe(standard, machine), reasons=(reason,))
    search = _Search(
        plan=plan,
        fingerprint=fingerprint,
        budget_seconds=budget_seconds,
        machine=machine,
        model=model or BudgetModel(),
        fixed_network=fixed_network,
    )
    check_budget(budget_seconds, search.model)
    started = clock()
    trials = _explore(search, measure, clock)
    spent = clock() - started
    return _conclude(search, trials, spent)


def check_budget(budget_seconds: float, model: BudgetModel | None = None) -> None:
    """Refuse a time that is too short for anything of use.

    Raises
    ------
    PlanError
        If it is; says how much is needed.
    """
    model = model or BudgetModel()
    if not math.isfinite(budget_seconds) or budget_seconds < model.least_seconds:
        raise PlanError(
            f"{spell_seconds(budget_seconds)} for training is too short to train anything; give a budget of at least "
            f"{spell_seconds(model.least_seconds)}, better some minutes, for example --budget 5min."
        )


def standard_configuration(plan: Plan) -> Configuration:
    """Return the configuration that nnU-Net would train first: 3d_fullres, or 2d for planes."""
    names = [c.name for c in plan.configurations]
    return plan.configuration(next((n for n in STANDARD_CONFIGURATIONS if n in names), names[0]))


def _explore(search: _Search, measure: Measure, clock: Callable[[], float]) -> list[Trial]:
    """Measure the most promising candidates in turn, until the most promising one is measured or time is up."""
    fitting = candidates(search.plan, search.fingerprint, search.machine, search.model)
    if search.fixed_network:
        fitting = [c for c in fitting if c.configuration in search.plan.configurations]
    fitting = [c for c in fitting if c.forecast_bytes <= search.memory_limit]
    trials: list[Trial] = []
    started = clock()
    while len(trials) < search.model.most_trials:
        pick = _next(search, fitting, trials, search.allowance - (clock() - started))
        if pick is None:
            break
        trials.append(_try(pick, measure, search.memory_limit))
    return trials


def _try(candidate: Candidate, measure: Measure, memory_limit: float) -> Trial:
    try:
        cost: StepCost | None = measure(candidate.configuration, candidate.recipe)
    except ResourceError:
        cost = None
    if cost is not None and cost.peak_bytes > memory_limit:
        cost = None
    return Trial(candidate=candidate, cost=cost)


def _measured(trials: Sequence[Trial]) -> list[tuple[Candidate, StepCost]]:
    return [(t.candidate, t.cost) for t in trials if t.cost is not None]


def _next(search: _Search, fitting: Sequence[Candidate], trials: Sequence[Trial], remaining: float) -> Candidate | None:
    """Return the candidate to measure next, or None if the most promising one is measured already or time is up.

    Nothing that needs nearly as much memory as a candidate that did not fit is tried. What was not measured is
    expected to run at the mean speed of what was.
    """
    refused = min((t.candidate.forecast_bytes for t in trials if t.cost is None), default=math.inf)
    tried = {id(t.candidate) for t in trials}
    untried = [c for c in fitting if id(c) not in tried and c.forecast_bytes < search.model.memory_retreat * refused]
    if not untried:
        return None
    measured = _measured(trials)
    speed = _speed(search, measured)
    time_for_one = remaining if measured else remaining * search.model.first_probe_share
    quick = [c for c in untried if search.model.probe_steps * c.work / speed <= time_for_one]
    if not quick:
        return None if measured else min(untried, key=lambda c: c.work)
    best = max(quick, key=lambda c: search.expected(c, c.work / speed))
    reached = max((search.expected(c, cost.seconds) for c, cost in measured), default=-math.inf)
    return best if search.expected(best, best.work / speed) > reached else None


def _speed(search: _Search, measured: Sequence[tuple[Candidate, StepCost]]) -> float:
    """Return operations per second, geometric mean over what was measured."""
    if not measured:
        return search.model.assumed_operations_per_second
    return math.exp(sum(math.log(c.work / cost.seconds) for c, cost in measured) / len(measured))


def _conclude(search: _Search, trials: Sequence[Trial], spent: float) -> tuple[Configuration, Recipe]:
    measured = _measured(trials)
    if not measured:
        raise ResourceError(
            f"No network for this dataset fits the memory of {search.machine.device} "
            f"({search.memory_limit / GIBIBYTE:.1f} GiB may be used). Free memory or use another device."
        )
    left = search.budget_seconds - spent
    for candidate, cost in measured:
        if _holds_standard(search, candidate, cost, left):
            return _standard_within(search, candidate, left)
    chosen, cost = max(measured, key=lambda pair: search.expected(pair[0], pair[1].seconds, left))
    iterations = min(iterations_within(left, cost.seconds), STANDARD_ITERATIONS)
    if iterations < search.model.least_iterations:
        _refuse(search, measured, spent)
    recipe = fast_recipe(chosen.recipe, iterations, left)
    if _passes(search, chosen.configuration, recipe) >= search.model.passes_for_full_augmentation:
        recipe = replace(recipe, augmentation="nnunet")
    reasons = (
        *_reasons_of_time(search, measured, trials, spent),
        *_reasons_of_choice(search, chosen, cost, recipe),
        *_warnings(search, chosen.configuration, recipe),
    )
    return chosen.configuration, replace(recipe, reasons=reasons)


def _holds_standard(search: _Search, candidate: Candidate, cost: StepCost, seconds: float) -> bool:
    own = candidate.configuration == standard_configuration(search.plan)
    return own and iterations_within(seconds, cost.seconds) >= STANDARD_ITERATIONS


def _standard_within(search: _Search, candidate: Candidate, seconds: float) -> tuple[Configuration, Recipe]:
    """Return nnU-Net's schedule in the precision that was measured."""
    recipe = replace(
        standard_recipe(candidate.configuration, search.machine),
        precision=candidate.recipe.precision,
        channels_last=candidate.recipe.channels_last,
        budget_seconds=seconds,
        reasons=(f"The budget of {spell_seconds(search.budget_seconds)} holds nnU-Net's whole schedule.",),
    )
    return candidate.configuration, recipe


def _refuse(search: _Search, measured: Sequence[tuple[Candidate, StepCost]], spent: float) -> None:
    quickest = min(cost.seconds for _, cost in measured)
    needed = max(seconds_for(search.model.least_iterations, quickest) + spent, search.model.least_seconds)
    needed = 10 * math.ceil(1.1 * needed / 10)
    raise PlanError(
        f"A budget of {spell_seconds(search.budget_seconds)} is too short: the quickest network takes {quickest:.2f} s "
        f"per step on {search.machine.device}. Give at least {spell_seconds(needed)} for a first result; ten times as "
        "much for a useful one."
    )


def _reasons_of_time(
    search: _Search, measured: Sequence[tuple[Candidate, StepCost]], trials: Sequence[Trial], spent: float
) -> list[str]:
    machine, left = search.machine, search.budget_seconds - spent
    reasons = [
        f"The budget is {spell_seconds(search.budget_seconds)} on {machine.device} ({machine.cores} cores, "
        f"{search.memory_limit / GIBIBYTE:.1f} GiB may be used); measuring {_count(len(trials), 'candidate')} took "
        f"{spell_seconds(spent)}, {spell_seconds(left)} remain for training."
    ]
    for candidate, cost in measured:
        reasons.append(
            f"Measured {describe(candidate.configuration, candidate.recipe)}: {cost.seconds:.3g} s per step, "
            f"{cost.peak_bytes / GIBIBYTE:.2f} GiB; {iterations_within(left, cost.seconds)} steps fit, score "
            f"{max(0.0, search.expected(candidate, cost.seconds, left)):.3f} (a rule of thumb, for comparing only)."
        )
    refused = len(trials) - len(measured)
    return [*reasons, f"{_count(refused, 'candidate')} did not fit the memory."] if refused else reasons


def _reasons_of_choice(search: _Search, chosen: Candidate, cost: StepCost, recipe: Recipe) -> list[str]:
    configuration = chosen.configuration
    passes = _passes(search, configuration, recipe)
    given = "its network is given and only the time was to be fitted"
    why = given if search.fixed_network else "it promises the best result in the steps that fit"
    return [
        f"Chosen: {describe(configuration, recipe)}, because {why}.",
        f"{recipe.iterations} steps of {recipe.batch_size} patches at {cost.seconds:.3g} s are "
        f"{passes:.{0 if passes >= 10 else 1}f} passes over the {search.fingerprint.cases} cases.",
        f"The patch covers {100 * chosen.sight.context:.0f} % of the edge lengths that matter.",
        f"AdamW with a cosine schedule, {recipe.warmup_iterations} steps of warm-up and weights averaged with decay "
        f"{recipe.ema_decay:.4g}, because a short training must settle quickly; augmentation '{recipe.augmentation}'.",
    ]


def _passes(search: _Search, configuration: Configuration, recipe: Recipe) -> float:
    """Return how often training sees every voxel of the dataset, on average."""
    shapes = image_shapes(search.plan, search.fingerprint, configuration)
    voxels = float(np.prod(shapes, axis=1).mean()) * _slices(search, configuration) * search.fingerprint.cases
    return recipe.iterations * recipe.batch_size * math.prod(recipe.patch_size) / voxels


def _slices(search: _Search, configuration: Configuration) -> float:
    """Return the mean number of slices per case that a 2-D configuration sees; 1 for volumes."""
    if configuration.dims == 3:
        return 1.0
    axis = search.plan.transpose_forward[0]
    return float(np.mean([shape[axis] for shape in search.fingerprint.shapes_after_crop]))


def _warnings(search: _Search, configuration: Configuration, recipe: Recipe) -> list[str]:
    found = [_warning(search, configuration, recipe, facts) for facts in search.fingerprint.structures]
    if recipe.iterations < search.model.few_iterations:
        found.insert(0, f"only {recipe.iterations} steps fit the budget; expect a rough result. Give a longer budget.")
    return [f"Warning: {text}" for text in found if text is not None]


def _warning(search: _Search, configuration: Configuration, recipe: Recipe, facts: StructureFacts) -> str | None:
    if facts.cases == 0:
        return f"'{facts.name}' is declared but occurs in no training case; it cannot be learned."
    seen = sightings(search.plan, search.fingerprint, configuration, recipe, facts)
    if seen < search.model.least_sightings:
        return (
            f"'{facts.name}' is rare ({facts.cases} of {search.fingerprint.cases} cases, "
            f"{facts.median_volume_mm3:.3g} mm³): about {seen:.0f} patches of this training will show it, so it "
            "will probably be missed. Give a longer budget."
        )
    return None


def sightings(
    plan: Plan, fingerprint: Fingerprint, configuration: Configuration, recipe: Recipe, facts: StructureFacts
) -> float:
    """Return about how many patches of a training show a structure.

    A patch shows it if it is centred on it (foreground-centred patches choose among the structures of the case), or if
    it lies in the part of the image that a random patch happens to cover.
    """
    images = image_shapes(plan, fingerprint, configuration)
    covered = float(np.minimum(1.0, np.array(recipe.patch_size) / images).prod(axis=1).mean())
    centred = recipe.foreground_fraction / max(1, len(fingerprint.structures))
    chance = facts.cases / fingerprint.cases * (centred + (1 - centred) * covered)
    return recipe.iterations * recipe.batch_size * chance


def describe(configuration: Configuration, recipe: Recipe) -> str:
    """Return a candidate in words: base, network, patch, batch, precision."""
    network = configuration.architecture
    patch = "×".join(str(n) for n in recipe.patch_size)
    return (
        f"{configuration.name}: {network.features[0]} to {max(network.features)} channels in {network.stages} stages, "
        f"{max(network.encoder_blocks)}+{max(network.decoder_convs, default=0)} convolutions per stage, patch {patch}, "
        f"batch {recipe.batch_size}, {recipe.precision}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def spell_seconds(seconds: float) -> str:
    """Return a duration as a person writes it: ``45 s``, ``5 min``, ``2 h 30 min``."""
    if not math.isfinite(seconds) or seconds < 90:
        return f"{seconds:.3g} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.3g} min"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
