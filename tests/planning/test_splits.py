import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import PlanError
from delineate.planning.splits import Split, choose_split, every_case, make_splits

IDS = [f"case_{i:02d}" for i in range(11)]
NNUNET_11 = [
    ("case_00", "case_03", "case_07"),
    ("case_06", "case_10"),
    ("case_08", "case_09"),
    ("case_01", "case_04"),
    ("case_02", "case_05"),
]


def test_vectors_of_nnunet():
    # sklearn's KFold(5, shuffle=True, random_state=12345) over 11 sorted ids
    assert [s.validation for s in make_splits(IDS[::-1])] == NNUNET_11


@given(st.integers(2, 60), st.integers(2, 8))
def test_every_case_validates_once(cases, folds):
    ids = [f"c{i}" for i in range(cases)]
    if cases < folds:
        with pytest.raises(PlanError):
            make_splits(ids, folds=folds)
        return
    splits = make_splits(ids, folds=folds)
    assert sorted(i for s in splits for i in s.validation) == sorted(ids)
    assert all(set(s.train) | set(s.validation) == set(ids) for s in splits)
    assert all(not set(s.train) & set(s.validation) for s in splits)


@given(st.lists(st.integers(1, 6), min_size=5, max_size=25))
def test_patients_stay_together_and_folds_are_balanced(cases_per_patient):
    patient_of = {f"p{p:02d}_{i}": f"p{p:02d}" for p, n in enumerate(cases_per_patient) for i in range(n)}
    splits = make_splits(list(patient_of), patient_of)
    for split in splits:
        assert not {patient_of[i] for i in split.train} & {patient_of[i] for i in split.validation}
    sizes = [len(s.validation) for s in splits]
    assert sum(sizes) == len(patient_of)
    assert max(sizes) - min(sizes) <= max(cases_per_patient)


def test_patients_of_one_case_give_the_plain_folds():
    assert make_splits(IDS, {i: f"patient of {i}" for i in IDS}) == make_splits(IDS)


def test_order_of_ids_does_not_matter():
    patient_of = {i: i[-1] for i in IDS}
    assert make_splits(IDS[::-1], patient_of) == make_splits(IDS, patient_of)


def test_too_few_patients_say_what_to_do():
    with pytest.raises(PlanError, match=r"there are 3 \(11 cases\). Use at most 3 folds"):
        make_splits(IDS, {i: f"p{n % 3}" for n, i in enumerate(IDS)})
    with pytest.raises(PlanError, match="Add cases of other patients"):
        make_splits(["a"])
    with pytest.raises(PlanError, match="at least 2 folds"):
        make_splits(IDS, folds=1)
    with pytest.raises(PlanError, match="repeated are: a"):
        make_splits(["a", "a", "b"], folds=2)


def test_choose_split():
    splits = make_splits(IDS)
    assert choose_split(splits, 3, IDS) == splits[3]
    assert choose_split(splits, "all", IDS) == every_case(IDS) == Split(train=tuple(IDS), validation=tuple(IDS))
    with pytest.raises(PlanError, match="Fold 5 does not exist"):
        choose_split(splits, 5, IDS)
    with pytest.raises(PlanError, match="names 1 cases"):
        choose_split(splits, 0, IDS[1:])


def test_a_fold_without_cases_is_refused():
    with pytest.raises(PlanError, match="at least one case"):
        Split(train=("a",), validation=())
    with pytest.raises(PlanError, match="at least one case"):
        every_case([])
