"""The rule that allows int8: no structure may lose more than was said."""

import math

import pytest

from delineate.planning.quantisation import Quantisation, StructureCheck


def quantisation(*structures, cases=42, largest_drop=0.005):
    return Quantisation(
        weights={"0": "a" * 64},
        ranges={"0": {"encoder": (-1.0, 2.0)}},
        structures=tuple(StructureCheck(name=n, floating=f, integer=i) for n, f, i in structures),
        cases=cases,
        out_of_fold=True,
        largest_drop=largest_drop,
        agreement=0.99,
        seconds=(2.0, 1.0),
    )


def test_the_worst_structure_decides_and_is_named():
    found = quantisation(("anterior", 0.89, 0.71), ("posterior", 0.87, 0.8695))
    assert not found.passed
    expected = "int8 lost 0.1800 Dice of anterior (0.8900 became 0.7100), the worst of 2 structure(s), on 42 cases"
    assert found.verdict().startswith(expected)
    assert found.verdict().endswith("not allowed for this model.")


@pytest.mark.parametrize(("integer", "passed"), [(0.886, True), (0.8849, False), (0.95, True)])
def test_a_loss_within_the_limit_passes(integer, passed):
    found = quantisation(("anterior", 0.89, integer))
    assert found.passed is passed
    assert ("not allowed" in found.verdict()) is not passed


def test_a_structure_in_no_case_does_not_decide_but_one_that_vanishes_does():
    nowhere = ("rare", math.nan, math.nan)
    assert quantisation(nowhere, ("anterior", 0.89, 0.89)).passed
    assert not quantisation(("rare", 0.5, math.nan)).passed


def test_nothing_checked_is_nothing_allowed():
    assert not quantisation(("anterior", 0.9, 0.9), cases=0).passed
    assert "on no case" in quantisation(cases=0).verdict()
