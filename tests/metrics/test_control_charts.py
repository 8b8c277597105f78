from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delineate.errors import InputError
from delineate.metrics.chart_limits import cusum_run_length, ewma_run_length, limits_for
from delineate.metrics.control_charts import chart_numbers
from delineate.metrics.proportion_chart import chart_proportion


def _alarm(charts, kind: str):
    return next((a for a in charts.alarms if a.chart == kind), None)


@pytest.mark.parametrize(("shift", "length"), [(0.0, 465.0), (0.5, 38.0), (1.0, 10.4), (2.0, 4.01)])
def test_cusum_run_lengths_are_those_of_the_tables(shift: float, length: float) -> None:
    """Montgomery, table 9.3: h = 5, k = 0.5; Siegmund's approximation is within 3.5 %."""
    assert cusum_run_length(5.0, 0.5, shift) == pytest.approx(length, rel=0.035)


@pytest.mark.parametrize(
    ("limit", "weight", "shift", "length"),
    [(3.054, 0.4, 0.0, 500.0), (2.962, 0.2, 0.0, 500.0), (2.962, 0.2, 1.0, 10.5), (2.615, 0.05, 0.5, 28.7)],
)
def test_ewma_run_lengths_are_those_of_the_tables(limit: float, weight: float, shift: float, length: float) -> None:
    """Lucas and Saccucci 1990, as in Montgomery, table 9.11."""
    assert ewma_run_length(limit, weight, shift) == pytest.approx(length, rel=0.03)


def _run_lengths(
    shift: float, *, run_length: float, baseline: int, repeats: int, horizon: int
) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(11)
    found: dict[str, list[float]] = {"individuals": [], "run": [], "ewma": [], "cusum": []}
    for _ in range(repeats):
        values = generator.normal(40, 7, size=baseline + horizon)
        values[baseline:] += 7 * shift
        charts = chart_numbers(values, baseline, run_length=run_length)
        for kind, lengths in found.items():
            alarm = _alarm(charts, kind)
            lengths.append(math.inf if alarm is None else alarm.index - baseline + 1)
    return {kind: np.array(lengths) for kind, lengths in found.items()}


@pytest.mark.parametrize("baseline", [30, 100])
def test_false_alarms_are_as_rare_as_asked_for(baseline: int) -> None:
    """Without a change the share of charts that alarm within 60 cases is at most 1 - (1 - 1/ARL)^60, about."""
    found = _run_lengths(0.0, run_length=400, baseline=baseline, repeats=250, horizon=60)
    wanted = 1 - (1 - 1 / 400) ** 60  # 0.14
    error = math.sqrt(wanted * (1 - wanted) / 250)
    for kind, lengths in found.items():
        assert (lengths <= 60).mean() <= wanted + 3 * error, kind
    # the rules must not be so careful that they say nothing
    assert sum((lengths <= 60).mean() for lengths in found.values()) > 0.1


def test_a_shift_is_found_within_the_expected_run() -> None:
    found = _run_lengths(1.5, run_length=400, baseline=60, repeats=60, horizon=80)
    assert np.isfinite(found["cusum"]).all()
    assert np.isfinite(found["ewma"]).all()
    limits = limits_for(400, 60)
    expected = cusum_run_length(limits.cusum, limits.cusum_reference, 1.5)
    assert expected < found["cusum"].mean() < 1.5 * expected  # ranks end at the largest baseline value
    large = _run_lengths(6.0, run_length=400, baseline=60, repeats=20, horizon=10)
    assert np.median(large["individuals"]) == 1


def test_cusum_tells_onset_and_size() -> None:
    generator = np.random.default_rng(2)
    values = generator.normal(size=160)
    values[100:] -= 2
    alarm = _alarm(chart_numbers(values, 50, run_length=1000), "cusum")
    assert alarm is not None
    assert abs(alarm.onset - 100) <= 3
    assert alarm.size == pytest.approx(-1.7, abs=0.5)
    assert "since case" in alarm.words


@given(st.floats(0.1, 50), st.floats(-100, 0))
@settings(max_examples=25, deadline=None)
def test_units_change_nothing(factor: float, offset: float) -> None:
    values = np.random.default_rng(3).normal(-5, 1, size=80)
    values[60:] += 3
    plain, other = chart_numbers(values, 40), chart_numbers(values * factor + offset, 40)
    assert [(a.chart, a.index) for a in plain.alarms] == [(a.chart, a.index) for a in other.alarms]


def test_missing_values_are_skipped_and_outliers_of_the_baseline_left_out() -> None:
    generator = np.random.default_rng(4)
    clean = generator.normal(size=70)
    holed = np.insert(clean, [5, 20, 50], np.nan)
    whole, gapped = chart_numbers(clean, 40), chart_numbers(holed, 40)
    np.testing.assert_allclose(gapped.cusum_high[~np.isnan(gapped.cusum_high)], whole.cusum_high[40:])
    clean[7] = 60.0
    dirty = chart_numbers(clean, 40)
    assert dirty.baseline.n_outliers == 1
    assert dirty.baseline.sd < 1.5
    assert dirty.high < 10
    clean[:10] = 60.0
    usual = chart_numbers(clean, 40)
    assert usual.baseline.n_outliers == 0  # so many are no accident
    assert usual.high > 60


@pytest.mark.parametrize("name", ["exponential", "two scales", "counts", "heavy tails"])
def test_false_alarms_do_not_depend_on_the_distribution(name: str) -> None:
    """Rules for lasting changes keep their promise whatever is charted; single cases come close."""
    generator = np.random.default_rng(9)
    draw = {
        "exponential": lambda n: generator.exponential(3, n),
        "two scales": lambda n: np.where(generator.random(n) < 0.2, 1e5, 100) * generator.lognormal(0, 0.3, n),
        "counts": lambda n: 1.0 + generator.poisson(0.3, n),
        "heavy tails": lambda n: generator.standard_t(3, n),
    }[name]
    counts = {"individuals": 0, "run": 0, "ewma": 0, "cusum": 0}
    for _ in range(200):
        for alarm in chart_numbers(draw(120), 60, run_length=400).alarms:
            counts[alarm.chart] += 1
    wanted = 1 - (1 - 1 / 400) ** 60
    for kind in ("run", "ewma", "cusum"):
        assert counts[kind] / 200 <= wanted + 3 * math.sqrt(wanted * (1 - wanted) / 200), (kind, counts)
    assert counts["individuals"] / 200 <= 3 * wanted, counts


def test_wide_positive_values_are_charted_as_logarithms() -> None:
    generator = np.random.default_rng(5)
    values = np.exp(generator.normal(5, 2, size=120))
    charts = chart_numbers(values, 60)
    assert charts.baseline.scale == "log10"
    assert charts.baseline.centre == pytest.approx(5 / math.log(10), abs=0.35)
    values[100:] = 0.0
    assert _alarm(chart_numbers(values, 60), "individuals").index == 100


def test_what_never_varied_alarms_at_the_first_other_value() -> None:
    values = np.full(50, 1.0)
    values[45] = 1.0002  # header precision
    assert chart_numbers(values, 30).alarms == ()
    values[46] = 0.8
    (alarm,) = chart_numbers(values, 30).alarms
    assert (alarm.chart, alarm.index) == ("constant", 46)
    assert alarm.size == pytest.approx(-0.2)
    assert "always had 1" in alarm.words


def test_one_wild_case_is_no_lasting_shift() -> None:
    values = np.random.default_rng(6).normal(size=100)
    values[70] = 1e6
    charts = chart_numbers(values, 50, run_length=2000)
    assert [a.chart for a in charts.alarms] == ["individuals"]


def test_the_limits_of_a_p_chart_are_those_of_the_beta_binomial() -> None:
    flags = np.zeros(100)
    flags[:40:8] = 1  # 5 of 40
    chart = chart_proportion(flags, 40, size=10, run_length=400)
    assert (chart.baseline_yes, chart.baseline_cases, len(chart.ends)) == (5, 40, 6)
    draws = np.random.default_rng(7)
    counts = draws.binomial(10, draws.beta(5.5, 35.5, size=400_000))
    assert (counts / 10 > chart.high).mean() <= 10 / 400 / 2 * 1.05
    assert (counts / 10 > chart.high - 0.1).mean() > 10 / 400 / 2
    assert chart.low == 0.0
    assert chart.alarms == ()


def test_a_p_chart_finds_a_change() -> None:
    flags = np.tile([1.0, 1, 1, 1, 1, 1, 1, 1, 0, 1], 12)
    flags[80:] = 0
    (alarm,) = chart_proportion(flags, 40, size=10, run_length=400).alarms
    assert (alarm.index, alarm.onset) == (89, 80)
    assert alarm.size == pytest.approx(-90)
    never = np.zeros(60)
    never[42:52] = 1
    assert chart_proportion(never, 40, size=10).alarms[0].words.startswith("8 of 10")


def test_false_alarms_of_a_p_chart_are_as_rare_as_asked_for() -> None:
    generator = np.random.default_rng(8)
    alarms = sum(bool(chart_proportion(generator.random(100) < 0.2, 40, run_length=400).alarms) for _ in range(300))
    assert alarms / 300 <= 1 - (1 - 10 / 400) ** 6 + 3 * math.sqrt(0.14 * 0.86 / 300)


@pytest.mark.parametrize(
    "call",
    [
        lambda: chart_numbers(np.zeros(30), 10),
        lambda: chart_numbers(np.zeros(30), 31),
        lambda: chart_numbers(np.full(40, np.nan), 20),
        lambda: chart_numbers(np.zeros(30), 20, run_length=2),
        lambda: chart_proportion(np.full(30, 0.5), 20),
        lambda: chart_proportion(np.zeros(30), 20, size=0),
    ],
)
def test_impossible_charts_are_refused(call) -> None:
    with pytest.raises(InputError, match="needs"):
        call()


def test_the_run_rule_is_the_chance_that_it_says() -> None:
    limits = limits_for(400, 10**6)
    # in control: P(run of r on either side ends at a given case) is about 2 * 0.5^r * 0.5
    assert limits.run == math.ceil(math.log2(400))
    assert limits.individuals == pytest.approx(stats.norm.isf(0.5 / 400), abs=1e-3)
