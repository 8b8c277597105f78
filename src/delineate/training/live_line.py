"""The words of the live progress line: where training stands and how long it will take. Pure text."""

from __future__ import annotations

from collections.abc import Mapping

from delineate.training.schedule import Leg
from delineate.training.validation import mean_dice

NAMED_STRUCTURES = 4
"""The line names the Dice of each structure up to so many; beyond that it tells the mean."""
PROGRESS_PARTS = 1000
"""Steps of the progress bar when time decides about the end."""


def bar_length(leg: Leg) -> int:
    """Return the length of the progress bar: steps if they decide about the end, else thousandths."""
    return leg.iterations if leg.iterations is not None and leg.budget_seconds is None else PROGRESS_PARTS


def live_line(
    leg: Leg, step: int, progress: float, loss: float | None, dice: Mapping[str, float], seconds_left: float | None
) -> str:
    """Return e.g. ``step 400/2600 loss 0.31 anterior 0.84 posterior 0.82 12 min left``.

    The number of steps is an estimate while a time budget decides.
    """
    words = [f"step {step}"]
    if progress > 0:
        words[0] += f"/{leg.start_step + round((step - leg.start_step) / progress)}"
    if loss is not None:
        words.append(f"loss {loss:.2f}")
    words += _dice_words(dice)
    if seconds_left is not None:
        words.append(f"{_duration(seconds_left)} left")
    return " ".join(words)


def _dice_words(dice: Mapping[str, float]) -> list[str]:
    if len(dice) <= NAMED_STRUCTURES:
        return [f"{name} {value:.2f}" for name, value in dice.items()]
    mean = mean_dice(dice)
    return [] if mean is None else [f"mean Dice {mean:.2f}"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
