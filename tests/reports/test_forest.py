"""Forest plots: marks stand where their values are."""

import math
import re

import pytest

from delineate.reports.axes import Axis
from delineate.reports.forest import LEFT, Block, Mark, TextColumn, forest


def mark(name="group", value=0.5, low=0.4, high=0.6, **more):
    return Mark(name=name, value=value, low=low, high=high, texts=("a", "b"), **more)


def draw(*blocks, axis=None):
    columns = [TextColumn(title="first", width=100), TextColumn(title="second", width=100)]
    return forest(blocks, axis or Axis(low=0, high=1, text="Dice"), columns, caption="plot")


def test_the_dot_lies_between_the_ends_of_its_interval():
    text = draw(Block(heading="", marks=(mark(),)))
    x1, x2 = (float(v) for v in re.search(r'x1="([\d.]+)" x2="([\d.]+)" [^>]*class="whisker"', text).groups())
    dot = float(re.search(r'<circle cx="([\d.]+)"', text)[1])
    assert dot == pytest.approx((x1 + x2) / 2, abs=0.02)
    right = 960 - 200 - 16
    assert dot == pytest.approx(LEFT + 0.5 * (right - LEFT), abs=0.02)


def test_what_is_unknown_is_not_drawn():
    text = draw(Block(heading="", marks=(mark(value=math.nan, low=math.nan, high=math.nan),)))
    assert "circle" not in text
    assert "whisker" not in text
    assert "group" in text
    assert "nan" not in text


def test_second_values_are_joined_and_small_groups_are_hollow():
    text = draw(Block(heading="liver", marks=(mark(second=0.2), mark(hollow=True)), guide=0.3))
    assert text.count('class="joined"') == text.count('class="other-point"') == 1
    assert text.count("insufficient") == 1
    assert text.count('class="agreement"') == 1
    assert ">liver<" in text


def test_names_are_escaped_and_shortened_in_the_middle():
    text = draw(Block(heading="<b>", marks=(mark(name="vertebra_with_a_rather_long_name_17"),)))
    assert "<b>" not in text
    assert "vertebra_with_a_rather_long_name_17</title>" in text
    assert re.search(r"vertebra_with_…\w*name_17<", text)
