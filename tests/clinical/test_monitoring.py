from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from clinical.study_examples import edit_payload
from delineate.clinical.ledger import Ledger
from delineate.clinical.monitoring import RULES_PER_NUMBER, MonitoringPlan, monitor
from delineate.clinical.observations import CASE_KIND, EDIT_KIND, Observation, observations_of, record, series_of
from delineate.errors import InputError
from delineate.metrics.distribution_shift import benjamini_hochberg, numeric_shift

PLAN = MonitoringPlan(baseline=40, run_length=200, window=20)


def cases(count: int = 100, *, site: str = "a", shift: float = 0.0, seed: int = 0) -> list[Observation]:
    """Twelve features, of which the first shifts after 60 cases."""
    generator = np.random.default_rng(seed)
    found = []
    for i in range(count):
        values = {f"f{k:02d}": float(v) for k, v in enumerate(generator.normal(10, 2, size=12))}
        values["f00"] += 2 * shift * (i >= 60)
        flags = {"accepted": bool(generator.random() < (0.9 if i < 60 or not shift else 0.1))}
        words = {"scanner": "old" if i < 60 or not shift else "new"}
        found.append(Observation(case_id=f"{site}{i}", site=site, values={**values, **flags, **words}, day=str(i // 5)))
    return found


@pytest.mark.slow
def test_a_whole_site_alarms_as_rarely_as_asked_for() -> None:
    """200 cases between false alarms of any chart: 60 watched cases alarm in less than 26 % of sites."""
    alarmed = sum(bool(monitor(cases(seed=seed), PLAN).alarms) for seed in range(40))
    assert alarmed / 40 <= 0.26 + 3 * (0.26 * 0.74 / 40) ** 0.5


def test_a_shift_is_found_by_several_charts_and_only_where_it_is() -> None:
    found = monitor(cases(shift=3.0), PLAN)
    by_feature = {}
    for alarm in found.alarms:
        by_feature.setdefault(alarm.feature, {})[alarm.chart] = alarm
    assert set(by_feature) == {"f00", "accepted", "scanner"}
    assert {"cusum", "ewma", "distribution"} <= set(by_feature["f00"])
    cusum = by_feature["f00"]["cusum"]
    assert 60 <= cusum.index <= 72
    assert cusum.onset_case_id in {f"a{i}" for i in range(58, 63)}
    assert by_feature["scanner"]["category"].case_id == "a60"
    assert by_feature["accepted"]["proportion"].index >= 69


def test_sites_have_baselines_of_their_own() -> None:
    one, other = (
        cases(site="a"),
        [
            Observation(
                case_id=o.case_id, site="b", values={k: v + 100 for k, v in o.values.items() if k.startswith("f")}
            )
            for o in cases(site="b", seed=1)
        ],
    )
    mixed = [o for pair in zip(one, other, strict=True) for o in pair]
    found = monitor(mixed, PLAN)
    assert {c.series.site for c in found.charts} == {"a", "b"}
    assert found.run_length_per_chart == {"a": 200 * (12 * RULES_PER_NUMBER + 2), "b": 200 * 12 * RULES_PER_NUMBER}
    alone = monitor(one, PLAN)
    assert [c.alarms for c in found.charts if c.series.site == "a"] == [c.alarms for c in alone.charts]


def test_windows_are_corrected_for_their_features() -> None:
    observations = cases(shift=0.5)
    found = {c.series.feature: c for c in monitor(observations, PLAN).charts if c.numbers is not None}
    window = {name: chart.windows[1] for name, chart in found.items()}
    raw = {
        name: numeric_shift(chart.series.values[:40], chart.series.values[60:80]).p_value
        for name, chart in found.items()
    }
    assert (window["f00"].first, window["f00"].last) == (60, 79)
    for name, one in window.items():
        assert one.shift.p_value == pytest.approx(raw[name])
        assert one.q_value >= one.shift.p_value
    everything = [c.windows[1] for c in monitor(observations, PLAN).charts]
    adjusted = benjamini_hochberg({str(i): w.shift.p_value for i, w in enumerate(everything)})
    assert [w.q_value for w in everything] == pytest.approx(list(adjusted.values()))


def test_short_series_are_told_and_a_baseline_without_followers_is_refused() -> None:
    late = [Observation(case_id="z", site="a", values={"late": 1.0})]
    found = monitor([*cases(), *late], PLAN)
    assert found.too_short == (("a", "late", 1),)
    with pytest.raises(InputError, match="longest series has 40"):
        monitor(cases(40), PLAN)
    with pytest.raises(InputError, match="20 or more"):
        MonitoringPlan(baseline=5)
    with pytest.raises(InputError, match="more than 10 cases"):
        MonitoringPlan(baseline=20, run_length=1)


def test_a_feature_of_two_kinds_is_refused() -> None:
    with pytest.raises(InputError, match="mixed are x"):
        series_of([Observation(case_id=str(v), site="", values={"x": v}) for v in (1.0, "one", True)])


def test_rows_become_observations_and_corrections_take_their_place(tmp_path: Path) -> None:
    ledger = Ledger(path=tmp_path / "l.jsonl")
    edits = [
        ("r", {"case": c, "site": "", "day": "", **edit_payload({"a": outcome}), "seconds": seconds})
        for c, outcome, seconds in (("1", "minor", 60.0), ("2", "rejected", None))
    ]
    assert record(ledger, EDIT_KIND, edits) == ()
    assert record(ledger, CASE_KIND, [("p", {"case": "1", "features": {"input.p50": 3.0}})]) == ()
    assert record(ledger, EDIT_KIND, edits) == ("1", "2")
    corrected = [("r", {"case": "2", "site": "", "day": "", **edit_payload({"a": "minor"}), "seconds": 5.0})]
    assert record(ledger, EDIT_KIND, corrected, correction="wrong file") == ()
    rows = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    assert (len(rows), rows[-1]["payload"]["corrects"], rows[-1]["payload"]["reason"]) == (4, 2, "wrong file")
    first, second, case = observations_of(ledger.entries())
    assert (first.site, first.values["edit.accepted"], first.values["edit.seconds"]) == ("all", True, 60.0)
    assert (second.case_id, second.values["edit.accepted"], second.values["edit.a.edit_dice"]) == ("2", True, 0.9)
    assert case.values == {"input.p50": 3.0}
    assert first.day == rows[0]["time"][:10]
