"""Strokes and numbers."""

import math

import pytest

from delineate.reports.svg import clipped, element, hover, number, picture, quantity, shortened


def test_texts_and_attributes_are_escaped():
    drawn = picture(10, 20.5, element("g", hover("<b>&\"'"), name='a"<'), label="<i>")
    assert "<b>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn
    assert "&quot;&lt;" in drawn
    assert 'viewBox="0 0 10 20.5"' in drawn


def test_names_of_attributes_become_svgs():
    assert element("line", class_="grid", stroke_width=1.0, x1=None).attrib == {"class": "grid", "stroke-width": "1"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, "−0.500"), (math.nan, "–"), (12345.6789, "12\u202f345.679"), (-0.0001, "0.000")],
)
def test_numbers_for_people(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.234, "1.23"), (123.4, "123"), (12345.0, "12\u202f345"), (0.00123, "0.00123"), (math.nan, "–")],
)
def test_quantities_keep_three_digits(value, text):
    assert quantity(value) == text


def test_signs_are_shown_on_request():
    assert (number(0.5, 1, signed=True), quantity(-2.0, signed=True), quantity(3.0, signed=True)) == (
        "+0.5",
        "−2.00",
        "+3.00",
    )


def test_long_texts_are_shortened():
    assert (clipped("spleen", 6), clipped("spleens", 6)) == ("spleen", "splee…")


def test_the_middle_of_long_names_is_left_out():
    assert shortened("vertebra_L1", 11) == "vertebra_L1"
    assert (shortened("vertebra_L1", 7), shortened("abc", 2)) == ("ver…_L1", "a…")


@pytest.mark.parametrize(("value", "text"), [(math.inf, "∞"), (-math.inf, "−∞"), (math.nan, "–")])
def test_what_is_not_finite_is_a_sign(value, text):
    assert (number(value), quantity(value, signed=True)) == (text, text)
