"""Which cases are shown."""

import pytest
from report_examples import score

from delineate.reports.selection import choose_cases

SHIFTS = {"good": 0.5, "bad": 4.0, "fair": 1.5, "poor": 2.5, "perfect": 0.0}


def roles(scores):
    return [(choice.role, choice.case_id) for choice in choose_cases(scores)]


def test_worst_median_best_by_rank():
    scores = [score(name, shift) for name, shift in SHIFTS.items()]
    assert roles(scores) == [("worst", "bad"), ("median", "fair"), ("best", "perfect")]
    assert roles(scores[::-1]) == roles(scores)


def test_of_an_even_number_the_lower_middle_is_the_median():
    assert roles([score(n, SHIFTS[n]) for n in ("good", "bad", "poor", "perfect")])[1] == ("median", "poor")


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, ["only"]), (2, ["worst", "best"]), (3, ["worst", "median", "best"])]
)
def test_few_cases(count, expected):
    assert [role for role, _ in roles([score(f"c{i}", i) for i in range(count)])] == expected


def test_cases_without_any_structure_are_not_shown():
    tiny = score("tiny", shape=(1, 1, 1), lesion=False)
    assert roles([tiny, score("other")]) in ([("only", "other")], [("worst", "other"), ("best", "tiny")])
