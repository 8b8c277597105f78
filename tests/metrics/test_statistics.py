"""Spread and bootstrap against numpy, scipy, brute force and known coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delineate.errors import InputError
from delineate.metrics import statistics as module
from delineate.metrics.statistics import bootstrap, bootstrap_mean, mean_or_nan, spread, wilson_interval

numbers = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12)


def generator():
    return np.random.default_rng(5)


def own_patients(values):
    return [f"p{i}" for i in range(len(values))]


@settings(max_examples=40, deadline=None)
@given(numbers)
def test_spread_equals_numpy_over_the_numbers_that_are_there(values):
    found = spread(values, own_patients(values), generator())
    used = [v for v in values if not math.isnan(v)]
    assert (found.n_used, found.n_excluded) == (len(used), len(values) - len(used))
    if not used:
        assert math.isnan(found.mean)
        assert math.isnan(found.median)
        return
    expected = [np.mean(used), *np.percentile(used, [0, 25, 50, 75, 100])]
    got = [found.mean, found.minimum, found.first_quartile, found.median, found.third_quartile, found.maximum]
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
    if len(used) > 1:
        assert found.std == pytest.approx(np.std(used, ddof=1))


def test_interval_equals_scipy_where_every_case_is_its_own_patient():
    values = np.random.default_rng(0).beta(8, 2, 40)
    ours = bootstrap_mean(values, own_patients(values), generator(), resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    standard_error = values.std(ddof=1) / math.sqrt(values.size)
    assert abs(ours.low - theirs.low) < 0.1 * standard_error
    assert abs(ours.high - theirs.high) < 0.1 * standard_error


def test_interval_equals_a_loop_that_draws_whole_patients():
    rng = np.random.default_rng(3)
    groups = [list(rng.normal(rng.normal(0.8, 0.1), 0.02, size)) for size in (1, 5, 2, 3, 4, 1, 6, 2)]
    values = [v for group in groups for v in group]
    patients = [f"p{i}" for i, group in enumerate(groups) for _ in group]
    means = []
    for _ in range(20_000):
        drawn = [groups[i] for i in rng.integers(0, len(groups), len(groups))]
        means.append(np.mean([v for group in drawn for v in group]))
    found = bootstrap_mean(values, patients, generator(), resamples=20_000)
    np.testing.assert_allclose([found.low, found.high], np.percentile(means, [2.5, 97.5]), atol=0.004)


def test_repeated_cases_of_a_patient_do_not_narrow_the_interval():
    values = list(np.random.default_rng(4).normal(0.8, 0.1, 12))
    once = bootstrap_mean(values, own_patients(values), generator())
    thrice = bootstrap_mean(values * 3, own_patients(values) * 3, generator())
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(300):
        sample = rng.beta(8, 2, 40)
        found = bootstrap_mean(sample, own_patients(sample), rng, resamples=400)
        hits += found.low <= 0.8 <= found.high
    assert 0.90 <= hits / 300 <= 0.985


def test_same_seed_same_interval_whatever_the_block(monkeypatch):
    values = [0.1, 0.5, 0.9, math.nan, 0.7]
    whole = bootstrap_mean(values, own_patients(values), generator())
    monkeypatch.setattr(module, "_BLOCK_DRAWS", 64)
    assert bootstrap_mean(values, own_patients(values), generator()) == whole


def test_names_of_patients_do_not_matter():
    values = [0.1, 0.5, 0.9, 0.7]
    first = bootstrap_mean(values, ["a", "b", "b", "c"], generator())
    assert bootstrap_mean(values, ["z", "y", "y", "x"], generator()) == first


@pytest.mark.parametrize(
    ("values", "patients"), [([], []), ([0.5], ["a"]), ([0.5, 0.6], ["a", "a"]), ([math.nan] * 2, ["a", "b"])]
)
def test_fewer_than_two_patients_have_no_interval(values, patients):
    found = bootstrap_mean(values, patients, generator())
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_patients_of_excluded_cases_do_not_count():
    assert spread([0.5, math.nan, 0.6], ["a", "b", "a"], generator()).n_patients == 1


def test_scaling_changes_the_unit_and_not_the_counts():
    found = spread([0.1, 0.2, 0.4], ["a", "b", "c"], generator())
    scaled = found.scaled(100)
    assert scaled.n_used == 3
    assert (scaled.mean, scaled.interval.high) == pytest.approx((100 * found.mean, 100 * found.interval.high))


def test_mean_of_nothing_is_nan_without_a_warning():
    assert math.isnan(mean_or_nan([]))
    assert math.isnan(mean_or_nan([math.nan]))
    assert mean_or_nan([1.0, math.nan, 2.0]) == 1.5


def test_every_value_needs_a_patient():
    with pytest.raises(InputError, match=r"\(2,\) and 1 patients"):
        spread([0.1, 0.2], ["a"], generator())


@pytest.mark.parametrize(("level", "resamples"), [(0.0, 10), (1.0, 10), (0.95, 0)])
def test_impossible_intervals_are_refused(level, resamples):
    with pytest.raises(InputError, match="level between 0 and 1"):
        bootstrap_mean([0.1], ["a"], generator(), level=level, resamples=resamples)


def test_estimate_records_what_it_was_made_of():
    values = [0.2, math.nan, 0.6, 0.7]
    found = bootstrap(values, ["a", "b", "c", "c"], seed=9, resamples=200)
    assert (found.n_used, found.n_excluded, found.n_patients) == (3, 1, 2)
    assert (found.seed, found.resamples, found.statistic) == (9, 200, "mean")
    assert found.value == pytest.approx(0.5)
    expected = bootstrap_mean(values, ["a", "b", "c", "c"], np.random.default_rng(9), resamples=200)
    assert found.interval == expected


def test_median_interval_equals_scipy_where_every_case_is_its_own_patient():
    values = np.random.default_rng(0).gamma(2, 1, 60)
    ours = bootstrap(values, own_patients(values), seed=1, statistic="median", resamples=4000)
    theirs = stats.bootstrap((values,), np.median, method="percentile", n_resamples=4000, rng=2).confidence_interval
    assert ours.value == pytest.approx(np.median(values))
    assert ours.interval.low == pytest.approx(theirs.low, abs=0.08)
    assert ours.interval.high == pytest.approx(theirs.high, abs=0.08)


def test_estimate_of_nothing_is_no_number():
    found = bootstrap([math.nan], ["a"], seed=0, statistic="median")
    assert math.isnan(found.value)
    assert math.isnan(found.interval.low)
    with pytest.raises(InputError, match="statistic"):
        bootstrap([1.0], ["a"], seed=0, statistic="mode")


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (77, 100)])
def test_wilson_interval_is_scipys(successes, trials):
    theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    ours = wilson_interval(successes, trials)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_interval_of_nothing():
    assert math.isnan(wilson_interval(0, 0).low)
    with pytest.raises(InputError, match="successes"):
        wilson_interval(3, 2)
