from __future__ import annotations

import math

from delineate.training.live_line import PROGRESS_PARTS, bar_length, live_line
from delineate.training.schedule import Leg


def test_the_line_of_the_manual():
    dice = {"anterior": 0.841, "posterior": 0.823}
    line = live_line(Leg(iterations=2600), 400, 400 / 2600, 0.312, dice, 720.0)
    assert line == "step 400/2600 loss 0.31 anterior 0.84 posterior 0.82 12 min left"


def test_before_the_first_step_nothing_is_guessed():
    assert live_line(Leg(iterations=10), 0, 0.0, None, {}, None) == "step 0"


def test_many_structures_are_told_as_a_mean():
    dice = {f"s{i}": 0.5 for i in range(9)} | {"absent": math.nan}
    assert "mean Dice 0.50" in live_line(Leg(iterations=10), 5, 0.5, 0.1, dice, 30.0)
    assert "30 s left" in live_line(Leg(iterations=10), 5, 0.5, 0.1, dice, 30.0)
    assert "2.0 h left" in live_line(Leg(iterations=10), 5, 0.5, 0.1, dice, 7200.0)


def test_an_extension_counts_on():
    assert live_line(Leg(start_step=100, iterations=50, extends=True), 110, 0.2, None, {}, None) == "step 110/150"


def test_the_bar_counts_steps_or_thousandths_of_the_time():
    assert bar_length(Leg(iterations=50)) == 50
    assert bar_length(Leg(iterations=50, budget_seconds=9.0)) == PROGRESS_PARTS
    assert bar_length(Leg(budget_seconds=9.0)) == PROGRESS_PARTS
