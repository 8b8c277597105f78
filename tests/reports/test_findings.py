"""Warnings and statements."""

import pytest
from report_examples import full_report, score

from delineate.metrics.overlap import Overlap
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.metrics.summary import summarise
from delineate.reports.findings import find_warnings, headline, statements
from delineate.reports.report_data import FailedCase, ReportData


def case(case_id, tp, fp, fn):
    overlap = Overlap(true_positive=tp, false_positive=fp, false_negative=fn, true_negative=9)
    structure = StructureScores(name="lesion", overlap=overlap, voxel_volume_mm3=1.0)
    return CaseScores(case_id=case_id, patient_id=case_id, per_structure=(structure,))


def warnings_of(scores, **more):
    data = ReportData(title="t", scores=tuple(scores), **more)
    return find_warnings(data, summarise(data.scores))


MANY = [case(f"c{i}", 9, 1, 1) for i in range(12)]


def test_good_results_need_no_warning():
    assert warnings_of(MANY, training_examples=(("lesion", 40),)) == ()


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ([case("x", 0, 0, 5)], "lesion: not found at all in 1 of 13 cases that have it (x)."),
        ([case("x", 0, 5, 0)], "lesion: found in 1 of 1 cases whose reference lacks it (x)."),
    ],
)
def test_missed_and_invented_structures_are_named(extra, text):
    assert text in warnings_of(MANY + extra)


def test_long_lists_of_cases_are_cut():
    missed = [case(f"m{i}", 0, 0, 5) for i in range(8)]
    assert any("m0, m1, m2, m3, m4 and 3 more" in w for w in warnings_of(MANY + missed))


def test_absent_structures_are_named():
    found = warnings_of([case(f"c{i}", 0, 0, 0) for i in range(12)])
    assert found == ("lesion: in no reference of the scored cases; nothing can be said about finding it.",)


def test_low_dice_is_named():
    assert any("mean Dice 0.200" in w for w in warnings_of([case(f"c{i}", 1, 4, 4) for i in range(12)]))


def test_few_patients_and_few_examples():
    assert any("rest on 3 patients" in w for w in warnings_of(MANY[:3]))
    assert any("rest on 1 patient only" in w for w in warnings_of(MANY[:1]))
    found = warnings_of(MANY, training_examples=(("a", 9), ("b", 10), ("c", 0), ("d", 1)))
    assert [w.split(":")[0] for w in found] == ["a", "c", "d"]
    assert "no training case" in found[1]
    assert "only 1 training case had" in found[2]


def test_scores_on_training_cases_are_marked():
    assert any("also used for training" in w for w in warnings_of(MANY, evaluation="training"))


def test_failed_cases_are_named_and_counted():
    failed = tuple(FailedCase(case_id=f"f{i}", reason="cut short.") for i in range(7))
    found = warnings_of(MANY, failed=failed)
    assert found[0] == "Case f0 has no scores: cut short."
    assert found[5].startswith("2 further cases")


def test_headlines():
    data = full_report()
    assert headline(data, summarise(data.scores)).endswith(
        "over 6 cases of 3 patients, each predicted by a model that had not seen it."
    )
    empty = ReportData(title="t")
    assert headline(empty, summarise(())) == "No case was scored."
    absent = ReportData(title="t", scores=(case("a", 0, 0, 0),))
    assert headline(absent, summarise(absent.scores)) == "No scored case has any structure."
    single = ReportData(title="t", scores=(score(),), evaluation="test")
    assert "interval" not in headline(single, summarise(single.scores))


def test_statements_tell_seed_and_definition():
    data = full_report()
    text = dict(statements(data, summarise(data.scores, seed=7)))
    assert "seed 7" in text["95 % interval"]
    assert "foreground mean" in text["Means"]
    assert text["Note 1"] == "case"
