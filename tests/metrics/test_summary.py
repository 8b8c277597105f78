"""Summaries against plain numpy, and both foreground means."""

import math
from dataclasses import replace

import numpy as np
import pytest

from delineate.errors import InputError
from delineate.metrics.overlap import Overlap
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.metrics.summary import summarise


def structure(name, tp, fp, fn):
    overlap = Overlap(true_positive=tp, false_positive=fp, false_negative=fn, true_negative=100)
    return StructureScores(name=name, overlap=overlap, voxel_volume_mm3=1000.0)


def case(case_id, *counts, patient=None):
    return CaseScores(
        case_id=case_id,
        patient_id=patient or case_id,
        per_structure=tuple(structure(f"s{i}", *c) for i, c in enumerate(counts)),
    )


ABSENT, MISSED, INVENTED = (0, 0, 0), (0, 0, 5), (0, 5, 0)
CASES = (
    case("a", (8, 2, 2), ABSENT, patient="p"),
    case("b", (5, 0, 5), (4, 1, 1), patient="p"),
    case("c", (9, 1, 0), MISSED),
    case("d", (9, 0, 1), INVENTED),
)


def test_means_and_counts_by_hand():
    first, second = summarise(CASES).structures
    dice = [0.8, 10 / 15, 18 / 19, 18 / 19]
    assert first.dice.mean == pytest.approx(np.mean(dice))
    assert first.dice.median == pytest.approx(np.median(dice))
    assert (second.dice.n_used, second.dice.n_excluded) == (3, 1)
    assert second.dice.mean == pytest.approx(0.8 / 3)
    assert (second.n_reference_empty, second.n_missed, second.n_invented) == (2, 1, 1)
    assert (first.worst_case, second.worst_case) == ("b", "c")
    assert first.volume_error_ml.mean == pytest.approx(np.mean([0, -5, 1, -1]))
    assert first.absolute_volume_error_ml.mean == pytest.approx(np.mean([0, 5, 1, 1]))
    assert second.relative_volume_error.n_used == 2


def test_the_two_foreground_means_differ_where_a_structure_is_absent():
    summary = summarise(CASES)
    by_structure = np.nanmean([[s.dice for s in c.per_structure] for c in CASES], axis=0)
    by_case = np.nanmean([[s.dice for s in c.per_structure] for c in CASES], axis=1)
    assert summary.foreground_dice == pytest.approx(np.mean(by_structure))
    assert summary.case_dice.mean == pytest.approx(np.mean(by_case))
    assert (summary.n_cases, summary.n_patients) == (4, 3)


def test_a_structure_in_no_case_makes_the_foreground_mean_nan_as_in_nnunet():
    summary = summarise([case("a", (1, 0, 0), ABSENT)])
    assert math.isnan(summary.foreground_dice)
    assert summary.structures[1].worst_case is None
    assert summary.case_dice.mean == 1.0


def test_no_case_gives_an_empty_summary():
    summary = summarise([])
    assert summary.structures == ()
    assert summary.n_cases == 0
    assert math.isnan(summary.case_dice.mean)


def test_intervals_depend_on_the_seed_alone():
    assert repr(summarise(CASES, seed=3)) == repr(summarise(CASES, seed=3))
    shortened = [replace(c, per_structure=c.per_structure[:1]) for c in CASES]
    assert summarise(shortened).structures[0] == summarise(CASES).structures[0]


def test_cases_must_agree_on_their_structures():
    with pytest.raises(InputError, match=r"b has \('s0',\)"):
        summarise([case("a", ABSENT, ABSENT), case("b", ABSENT)])


def test_a_case_counts_once():
    with pytest.raises(InputError, match="Case a is scored twice"):
        summarise([case("a", ABSENT), case("a", ABSENT)])
