"""Groups of cases: means, gaps and p values by hand; what is concluded from few cases: nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation_rows import case_rows, cohort

from delineate.errors import InputError, UsageError
from delineate.metrics.evaluation.bands import MOST_GROUPS, NOT_THERE, groups_of, size_groups
from delineate.metrics.evaluation.subgroups import NOT_RECORDED, adjust_over_columns, compare_groups
from delineate.metrics.unpaired import membership_test


def three_sites():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(0.9, 0.02, 30), rng.normal(0.8, 0.02, 25), rng.normal(0.9, 0.02, 4)])
    sites = ["north"] * 30 + ["south"] * 25 + ["east"] * 4
    return values, sites


def by_case(labels):
    return {f"c{i}": label for i, label in enumerate(labels) if label is not None}


def test_means_gaps_and_the_worst_group():
    values, sites = three_sites()
    (found,) = compare_groups(cohort(values), "site", by_case(sites), ["dice"], seed=3)
    assert [group.name for group in found.groups] == ["north", "south", "east"]
    for group in found.groups:
        inside = np.array(sites) == group.name
        assert group.mean.value == pytest.approx(values[inside].mean())
        assert group.gap == pytest.approx(values[inside].mean() - values[~inside].mean())
        assert (group.n_cases, group.n_patients) == (inside.sum(), inside.sum())
        if group.name != "east":
            assert group.gap_interval.low < group.gap < group.gap_interval.high
            expected = membership_test(values, inside, [f"p{i}" for i in range(59)], seed=3)
            assert group.test == expected
    assert (found.column, found.structure, found.metric, found.worst) == ("site", "liver", "dice", "south")
    assert (found.least_cases, found.seed) == (20, 3)


def test_few_cases_show_a_mean_and_conclude_nothing():
    values, sites = three_sites()
    (found,) = compare_groups(cohort(values), "site", by_case(sites), ["dice"])
    east = found.groups[-1]
    assert not east.sufficient
    assert east.test is None
    assert math.isnan(east.p_adjusted)
    assert east.mean.value == pytest.approx(values[-4:].mean())
    (tiny,) = compare_groups(cohort(values[:10]), "site", by_case(sites[:10]), ["dice"])
    assert tiny.worst is None
    # a rest of 4 cases concludes as little as a group of 4
    (pair,) = compare_groups(
        cohort(values[:30].tolist() + [0.1] * 4), "site", by_case(["a"] * 30 + ["b"] * 4), ["dice"]
    )
    assert [group.test for group in pair.groups] == [None, None]
    assert [group.sufficient for group in pair.groups] == [True, False]


def test_cases_without_a_value_are_the_last_group_and_never_the_worst():
    values = [0.9] * 5 + [0.8] * 5 + [0.1] * 12
    (found,) = compare_groups(cohort(values), "sex", by_case(["F"] * 5 + ["M"] * 5), ["dice"], least_cases=5)
    assert [group.name for group in found.groups] == ["F", "M", NOT_RECORDED]
    assert found.groups[-1].n_cases == 12
    assert found.worst == "M"


def test_the_worst_distance_is_the_largest_and_the_worst_signed_error_the_farthest_from_zero():
    labels = by_case(["a"] * 20 + ["b"] * 20)
    (distance,) = compare_groups(cohort([1.0] * 20 + [3.0] * 20, "hd95"), "site", labels, ["hd95"])
    assert distance.worst == "b"
    assert distance.groups[0].gap == pytest.approx(-2.0)
    (signed,) = compare_groups(cohort([-5.0] * 20 + [3.0] * 20, "volume_error"), "site", labels, ["volume_error"])
    assert signed.worst == "a"


def test_nan_values_count_as_left_out_and_decide_sufficiency():
    (found,) = compare_groups(
        cohort([0.9] * 20 + [0.8] * 15 + [math.nan] * 10), "s", by_case("a" * 20 + "b" * 25), ["dice"]
    )
    second = next(group for group in found.groups if group.name == "b")
    assert (second.n_cases, second.mean.n_used, second.mean.n_excluded) == (25, 15, 10)
    assert not second.sufficient


def test_p_values_are_adjusted_over_groups_and_columns_and_a_pair_is_one_comparison():
    rng = np.random.default_rng(2)
    values = rng.normal(0.8, 0.05, 90)
    values[:45] += 0.015
    cases = cohort(values)
    site = compare_groups(cases, "site", by_case([f"s{i % 3}" for i in range(90)]), ["dice"])
    sex = compare_groups(cases, "sex", by_case(["F"] * 45 + ["M"] * 45), ["dice"])
    assert sex[0].groups[0].p_adjusted == sex[0].groups[0].test.p_value == sex[0].groups[1].p_adjusted
    both = adjust_over_columns([*site, *sex])
    raw = sorted([g.test.p_value for g in site[0].groups] + [sex[0].groups[0].test.p_value])
    expected, running = {}, 0.0
    for rank, p in enumerate(raw):  # Holm by hand
        running = max(running, min(1.0, (4 - rank) * p))
        expected[p] = running
    for subgrouping in both:
        for group in subgrouping.groups[: 3 if subgrouping.column == "site" else 1]:
            assert group.p_adjusted == pytest.approx(expected[group.test.p_value])


def test_metrics_and_structures_have_families_of_their_own():
    cases = [
        case_rows(f"c{i}", {"liver": {"dice": 0.9 - 0.1 * (i < 20), "hd95": 2.0}, "spleen": {"dice": 0.9, "hd95": 2.0}})
        for i in range(40)
    ]
    found = compare_groups(cases, "site", by_case(["a"] * 20 + ["b"] * 20), ["dice", "hd95"])
    assert [(s.structure, s.metric) for s in found] == [
        ("liver", "dice"), ("liver", "hd95"), ("spleen", "dice"), ("spleen", "hd95"),
    ]  # fmt: skip
    assert found[0].groups[0].p_adjusted < 0.001
    assert found[1].groups[0].p_adjusted == 1.0


def test_what_does_not_fit_is_refused():
    assert compare_groups([], "site", {}, ["dice"]) == ()
    with pytest.raises(InputError, match="nsd"):
        compare_groups(cohort([0.5]), "site", {}, ["nsd"])
    with pytest.raises(InputError, match="x differs from c0"):
        compare_groups([*cohort([0.5]), case_rows("x", {"spleen": {"dice": 0.5}})], "site", {}, ["dice"])


def test_numbers_become_quarters_bands_or_groups():
    ages = {f"c{i}": str(20 + i) for i in range(40)}
    found, words = groups_of(ages, "age")
    assert sorted(set(found.values())) == ["over 29.75 to 39.5", "over 39.5 to 49.25", "over 49.25", "up to 29.75"]
    assert [sum(g == name for g in found.values()) for name in set(found.values())] == [10] * 4
    assert "quarters" in words
    bands, words = groups_of(ages, "age", width=10)
    assert bands["c0"] == "20 to under 30"
    assert bands["c39"] == "50 to under 60"
    assert words == "age in bands of 10"
    few, words = groups_of({"a": "1.5", "b": "3", "c": "1.5"}, "field")
    assert (few["a"], words) == ("1.5", None)


def test_a_column_of_names_or_words_in_bands_is_refused():
    with pytest.raises(UsageError, match="which are no groups"):
        groups_of({f"c{i}": f"name {i}" for i in range(MOST_GROUPS + 1)}, "note")
    with pytest.raises(UsageError, match=r"'old' \(case a\)"):
        groups_of({"a": "old", "b": "3"}, "age", width=10)
    with pytest.raises(UsageError, match="bands of 0"):
        groups_of({"a": "1"}, "age", width=0)


def test_sizes_are_thirds_of_the_cases_that_have_the_structure():
    cases = [case_rows(f"c{i}", {"liver": {"dice": 0.9}}, reference_ml=float(i)) for i in range(10)]
    found = size_groups(cases, 0)
    assert found["c0"] == NOT_THERE
    assert [found[f"c{i}"] for i in range(1, 10)] == ["small"] * 3 + ["medium"] * 3 + ["large"] * 3
    equal = [case_rows(f"c{i}", {"liver": {"dice": 0.9}}, reference_ml=2.0) for i in range(4)]
    assert set(size_groups(equal, 0).values()) == {"one size"}
