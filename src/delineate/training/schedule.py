"""How far training is, and the learning rate that belongs there. Pure numbers; no torch, no clock.

Training consists of legs. The first leg is the recipe; an extension adds a leg. Every leg is annealed as a whole: its
progress goes from 0 to 1 with its steps, or with its wall-clock time if that is ahead, so that the learning rate has
come down fully when the time is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from delineate.errors import UsageError
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import STANDARD_ITERATIONS

POLY_EXPONENT = 0.9
"""nnU-Net's PolyLRScheduler."""
ONE_CYCLE_RISE = 0.3
"""Share of a one-cycle schedule in which the rate rises (Smith and Topin 2018; torch's default)."""
ONE_CYCLE_START = 1 / 25
"""First rate of a one-cycle schedule relative to its peak (torch's default)."""
EXTENSION_PEAK = 0.5
"""Peak rate of an extension relative to the recipe's: a full restart would undo what the first leg refined."""
EXTENSION_RISE = 0.05
"""Share of an extension in which its rate rises to the peak, because optimiser momenta are stale by then."""
EXTENSION_FLOOR = 0.01
"""Rate at the first step of an extension, relative to its peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extension:
    """More training after a finished run: so many more steps, or so many more seconds."""

    iterations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.iterations, self.seconds) if value is not None]
        if len(given) != 1 or given[0] <= 0:
            raise UsageError(
                "An extension is either a positive number of iterations or a positive number of seconds; "
                f"got iterations={self.iterations}, seconds={self.seconds}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """A stretch of training that is annealed as a whole."""

    start_step: int = 0
    start_seconds: float = 0.0
    iterations: int | None = None
    """Steps of this leg; None: only time ends it."""
    budget_seconds: float | None = None
    """Wall-clock seconds of this leg; None: only steps end it."""
    extends: bool = False
    """Whether this leg was added to a finished run."""

    def progress(self, step: int, seconds: float, reserve_seconds: float = 0.0) -> float:
        """Return how much of this leg is done, 0 to 1.

        Parameters
        ----------
        step, seconds
            Steps and wall-clock seconds since the beginning of the whole run.
        reserve_seconds
            Time that has to be left for the last validation and checkpoint; at most half of the budget is kept for it.
        """
        shares = [0.0]
        if self.iterations is not None:
            shares.append((step - self.start_step) / self.iterations)
        if self.budget_seconds is not None:
            usable = max(self.budget_seconds - reserve_seconds, self.budget_seconds / 2)
            shares.append((seconds - self.start_seconds) / usable)
        return min(1.0, max(shares))

    def amounts_to(self, extension: Extension) -> bool:
        """Say whether this leg is the one that ``extension`` asks for."""
        return self.extends and (self.iterations, self.budget_seconds) == (extension.iterations, extension.seconds)


def first_leg(recipe: Recipe) -> Leg:
    """Return the leg that carries out the recipe.

    With a time budget the recipe's number of steps is a forecast from a few measured steps, too low where the machine
    was busy meanwhile. So the time decides, and no number of steps below nnU-Net's whole schedule ends training early.
    """
    if recipe.budget_seconds is None:
        return Leg(iterations=recipe.iterations)
    return Leg(iterations=max(recipe.iterations, STANDARD_ITERATIONS), budget_seconds=recipe.budget_seconds)


def extension_leg(extension: Extension, step: int, seconds: float) -> Leg:
    """Return the leg that follows a run finished at ``step`` after ``seconds``."""
    return Leg(
        start_step=step,
        start_seconds=seconds,
        iterations=extension.iterations,
        budget_seconds=extension.seconds,
        extends=True,
    )


def learning_rate(recipe: Recipe, leg: Leg, progress: float, step: int) -> float:
    """Return the learning rate for the step that comes next.

    Parameters
    ----------
    recipe
        Peak rate, shape and warm-up.
    leg
        The stretch of training that is under way.
    progress
        How much of the leg is done, 0 to 1 (:meth:`Leg.progress`).
    step
        Steps done since the beginning of the whole run.
    """
    shape = {"poly": _poly, "cosine": _cosine, "one_cycle": _one_cycle}[recipe.schedule]
    position = _epoch_start(recipe, leg, progress) if recipe.schedule == "poly" else progress
    return recipe.learning_rate * shape(position) * _warm_up(recipe, leg, progress, step)


def _epoch_start(recipe: Recipe, leg: Leg, progress: float) -> float:
    """nnU-Net lowers the rate once per epoch; with a time budget there is no fixed number of epochs."""
    if leg.budget_seconds is not None or leg.iterations is None:
        return progress
    epochs = max(1.0, leg.iterations / recipe.iterations_per_epoch)
    return math.floor(progress * epochs + 1e-9) / epochs


def _warm_up(recipe: Recipe, leg: Leg, progress: float, step: int) -> float:
    if leg.extends:
        return EXTENSION_PEAK * min(1.0, max(EXTENSION_FLOOR, progress / EXTENSION_RISE))
    if recipe.warmup_iterations <= 0:
        return 1.0
    return min(1.0, (step - leg.start_step + 1) / recipe.warmup_iterations)


def _poly(progress: float) -> float:
    return float((1.0 - min(progress, 1.0)) ** POLY_EXPONENT)


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _one_cycle(progress: float) -> float:
    if progress < ONE_CYCLE_RISE:
        return ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * _cosine(1.0 - progress / ONE_CYCLE_RISE)
    return _cosine((progress - ONE_CYCLE_RISE) / (1.0 - ONE_CYCLE_RISE))
