"""Strip charts."""

import math
from xml.etree import ElementTree

import numpy as np

from delineate.metrics.statistics import spread
from delineate.reports.axes import Axis
from delineate.reports.distributions import LEFT, RIGHT, WIDTH, Row, strip_chart


def row(name, values):
    ids = tuple(f"case_{i}" for i in range(len(values)))
    return Row(name=name, case_ids=ids, values=tuple(values), spread=spread(values, ids, np.random.default_rng(0)))


def chart(*rows):
    return ElementTree.fromstring(strip_chart(rows, Axis(low=0, high=1, text="Dice"), caption="c"))


def test_every_case_is_a_dot_at_its_value_that_says_its_name():
    dots = list(chart(row("liver", [0.0, 0.25, math.nan, 1.0])).iter("circle"))
    width = WIDTH - LEFT - RIGHT
    assert [float(d.get("cx")) for d in dots] == [LEFT, LEFT + width / 4, LEFT + width]
    assert [d.find("title").text for d in dots] == ["case_0: 0.000", "case_1: 0.250", "case_3: 1.000"]


def test_mean_and_interval_are_written():
    texts = [t.text for t in chart(row("liver", [0.5, 0.7])).iter("text")]
    assert "0.600 (0.500 to 0.700)" in texts


def test_structures_in_no_case_have_no_dots():
    root = chart(row("liver", [math.nan, math.nan]))
    assert not list(root.iter("circle"))
    assert "in no case" in [t.text for t in root.iter("text")]


def test_a_single_case_has_no_interval():
    root = chart(row("liver", [0.5]))
    assert not root.findall(".//line[@class='interval']")
    assert "0.500" in [t.text for t in root.iter("text")]
