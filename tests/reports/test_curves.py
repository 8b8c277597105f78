"""Learning curves from records with gaps."""

import math
from xml.etree import ElementTree

from delineate.reports.curves import MAX_LINES, MAX_POINTS, History, Line, learning_curves, line_chart


def history(records, name="fold 0", **more):
    return History(name=name, records=tuple(records), **more)


def lines_of(figure):
    root = ElementTree.fromstring(figure.svg)
    return {p.find("title").text: p.get("d") for p in root.findall("path")}


def texts_of(figure):
    return [t.text for t in ElementTree.fromstring(figure.svg).iter("text")]


FULL = [
    {
        "step": 10 * i,
        "seconds": 60.0 * i,
        "loss": 1.0 / (i + 1),
        "learning_rate": 0.1,
        "dice": {"a": 0.1 * i, "b": None},
    }
    for i in range(5)
]


def test_one_run_shows_every_structure_over_minutes():
    loss, dice, rate = learning_curves([history(FULL)])
    assert list(lines_of(loss)) == ["training"]
    assert list(lines_of(dice)) == ["a"]
    assert "minutes of training" in texts_of(rate)


def test_several_runs_show_one_line_each():
    loss, dice, _ = learning_curves([history(FULL), history(FULL, "fold 1")])
    assert list(lines_of(loss)) == list(lines_of(dice)) == ["fold 0", "fold 1"]


def test_without_times_curves_run_over_steps():
    records = [{k: v for k, v in r.items() if k != "seconds"} for r in FULL]
    assert "optimiser steps" in texts_of(learning_curves([history(records)])[0])


def test_lists_of_dice_take_the_declared_names():
    records = [{"step": i, "dice": [0.5, 0.6, math.nan]} for i in range(3)]
    (dice,) = learning_curves([history(records, structures=("liver",))])
    assert list(lines_of(dice)) == ["liver", "structure 2"]


def test_gaps_lift_the_pen():
    records = [{"step": i, "loss": None if i == 2 else float(i)} for i in range(5)]
    (loss,) = learning_curves([history(records)])
    assert lines_of(loss)["training"].count("M") == 2


def test_nothing_gives_no_picture():
    assert learning_curves([]) == ()
    assert learning_curves([history([])]) == ()
    assert learning_curves([history([{"step": 1, "dice": "none", "loss": True}])]) == ()


def test_a_single_record_is_visible():
    (loss,) = learning_curves([history([{"step": 1, "loss": 0.5}])])
    assert "L" in lines_of(loss)["training"]


def test_long_and_many_lines_are_bounded():
    n = 10 * MAX_POINTS
    lines = [Line(name=f"structure {i}", x=tuple(range(n)), y=(0.5,) * n) for i in range(MAX_LINES + 3)]
    root = ElementTree.fromstring(line_chart(lines, "steps", caption="many"))
    paths = root.findall("path")
    assert len(paths) == MAX_LINES
    assert paths[0].get("d").count("L") < MAX_POINTS
    assert "and 3 more" in [t.text for t in root.iter("text")]
