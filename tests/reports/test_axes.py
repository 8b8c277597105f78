"""Axes and ticks."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.reports.axes import Axis, Frame, axis_for

finite = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-3)


@given(st.lists(st.one_of(finite, st.just(math.nan), st.just(math.inf)), max_size=20))
def test_every_finite_value_lies_within_its_axis(values):
    axis = axis_for(values)
    assert axis.low < axis.high
    for value in values:
        if math.isfinite(value) and not axis.log:
            assert axis.low <= value <= axis.high
            assert 0 <= axis.fraction(value) <= 1


@given(finite, st.floats(1e-2, 1e5), st.integers(2, 9))
def test_ticks_are_few_round_and_within(low, width, count):
    axis = Axis(low=low, high=low + width)
    values = [value for value, _ in axis.ticks(count)]
    assert 0 < len(values) <= count + 1 or not values
    assert all(axis.low - 1e-6 * width <= v <= axis.high + 1e-6 * width for v in values)


def test_ticks_of_dice():
    assert [text for _, text in Axis(low=0, high=1).ticks(5)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [text for _, text in Axis(low=-1, high=1).ticks(2)] == ["−1", "0", "1"]


def test_wide_ranges_become_logarithmic():
    axis = axis_for([0.5, 400.0])
    assert axis.log
    assert axis.fraction(math.sqrt(axis.low * axis.high)) == pytest.approx(0.5)
    assert [text for _, text in axis.ticks()] == ["1", "10", "100"]
    assert axis.fraction(0.0) == 0.0


def test_values_below_zero_stay_linear():
    assert not axis_for([-1.0, 1e6]).log


def test_short_decades_get_more_ticks():
    assert [text for _, text in Axis(low=0.9, high=60, log=True).ticks()] == ["1", "2", "5", "10", "20", "50"]


def test_values_outside_go_to_the_ends():
    axis = Axis(low=0, high=1)
    assert (axis.fraction(-3), axis.fraction(7)) == (0.0, 1.0)


def test_places_run_right_and_up():
    frame = Frame(x=Axis(low=0, high=10), y=Axis(low=0, high=1), left=5, top=7, width=100, height=50)
    assert frame.place(0, 0) == (5, 57)
    assert frame.place(10, 1) == (105, 7)
