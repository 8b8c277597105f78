"""Folds that leave one group (site, scanner) out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import PlanError
from delineate.planning.splits import NOT_RECORDED, leave_one_group_out

SITES = {"a1": "Milan", "a2": "Milan", "b1": "UCL", "c1": "CEITEC", "c2": "CEITEC", "c3": "CEITEC"}


def test_one_fold_per_group_in_order_of_names():
    folds = leave_one_group_out([*SITES], SITES)
    assert list(folds) == ["CEITEC", "Milan", "UCL"]
    assert folds["CEITEC"].validation == ("c1", "c2", "c3")
    assert folds["CEITEC"].train == ("a1", "a2", "b1")
    assert folds["UCL"].validation == ("b1",)


@given(st.lists(st.sampled_from(["A", "B", "C", "D", ""]), min_size=2, max_size=30))
def test_each_fold_validates_exactly_its_group_and_every_case_validates_once(groups):
    group_of = {f"c{i:02d}": name for i, name in enumerate(groups)}
    if len(set(groups)) < 2:
        with pytest.raises(PlanError, match="at least 2 groups"):
            leave_one_group_out([*group_of], group_of)
        return
    folds = leave_one_group_out([*group_of], group_of)
    for name, split in folds.items():
        wanted = "" if name == NOT_RECORDED else name
        assert set(split.validation) == {case for case, group in group_of.items() if group == wanted}
        assert set(split.train) == set(group_of) - set(split.validation)
    assert sorted(case for split in folds.values() for case in split.validation) == sorted(group_of)


def test_cases_without_a_group_are_a_fold_of_their_own_at_the_end():
    folds = leave_one_group_out([*SITES, "x", "y"], {**SITES, "x": ""})
    assert list(folds)[-1] == NOT_RECORDED
    assert folds[NOT_RECORDED].validation == ("x", "y")


def test_patients_in_two_groups_are_all_named():
    patient_of = {"a1": "anna", "b1": "anna", "c1": "carl", "c2": "carl", "a2": "dora", "c3": "dora"}
    with pytest.raises(PlanError) as caught:
        leave_one_group_out([*SITES], SITES, patient_of)
    text = str(caught.value)
    assert "2 patient(s)" in text
    assert "anna in Milan (a1) and UCL (b1)" in text
    assert "dora in CEITEC (c3) and Milan (a2)" in text
    assert "carl" not in text


def test_a_patient_with_an_unrecorded_case_is_told_too():
    with pytest.raises(PlanError, match=r"carl in CEITEC \(c1\) and not recorded \(c2\)"):
        leave_one_group_out([*SITES], {**SITES, "c2": ""}, {"c1": "carl", "c2": "carl"})


def test_one_group_is_none_to_leave_out():
    with pytest.raises(PlanError, match="all 2 cases belong to 'UCL'"):
        leave_one_group_out(["p", "q"], {"p": "UCL", "q": "UCL"})
    with pytest.raises(PlanError, match="there is no case"):
        leave_one_group_out([], {})


def test_repeated_ids_are_refused():
    with pytest.raises(PlanError, match="repeated are: a1"):
        leave_one_group_out(["a1", "a1", "b1"], SITES)
