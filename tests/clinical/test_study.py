from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from clinical.study_examples import edit_payload, locked_study, protocol_content
from delineate.clinical.study import LOCKED_FILE, PROTOCOL_FILE, Study
from delineate.clinical.study_analysis import ALL, analyse
from delineate.errors import LedgerError, ProtocolError, UsageError
from delineate.metrics.statistics import wilson_interval

SMALL = {"primary__difference": 300, "primary__sd": 200, "primary__power": 0.8, "dropout": 0.0}
"""6 pairs and one interim look at 3."""


def fill(study: Study, count: int, generator: np.random.Generator, saved: float = 300.0, start: int = 0) -> None:
    for i in range(start, start + count):
        study.enrol(f"c{i}", site="main", actor="nurse")
        slow = generator.normal(900, 30)
        kwargs = {"reader": "reader 1", "accuracy_dice": {}}
        study.record_outcome(f"c{i}", "manual", seconds=slow, edit=None, **kwargs)
        edit = edit_payload({"Anterior": "minor", "Posterior": "unchanged" if i % 2 else "major"})
        quick = slow - saved + generator.normal(0, 60)
        study.record_outcome(f"c{i}", "assisted", seconds=quick, edit=edit, **kwargs)


def test_nothing_is_recorded_before_the_lock(tmp_path: Path) -> None:
    study = Study(root=tmp_path)
    study.create()
    with pytest.raises(UsageError, match="exists"):
        study.create()
    with pytest.raises(ProtocolError, match="not locked"):
        study.enrol("c", site="main", actor="x")
    with pytest.raises(ProtocolError, match="not locked"):
        study.begin_look(actor="x")
    assert not study.status().locked
    study.lock(actor="x")
    with pytest.raises(ProtocolError, match="is locked"):
        study.lock(actor="x")
    assert study.status().locked


def test_a_protocol_with_faults_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / PROTOCOL_FILE).write_text(json.dumps(protocol_content(title="", readers=[])))
    with pytest.raises(ProtocolError) as raised:
        Study(root=tmp_path).lock(actor="x")
    assert len(raised.value.faults) == 2
    assert not (tmp_path / LOCKED_FILE).exists()


def test_the_locked_protocol_rules_and_changes_are_seen(tmp_path: Path) -> None:
    study = locked_study(tmp_path)
    (tmp_path / PROTOCOL_FILE).write_text(json.dumps(protocol_content(tolerance_mm=9)))
    assert study.status().protocol_changed
    assert study.protocol().tolerance_mm == 1.0
    study.record_deviation("tolerance was meant to be 9", actor="lead")
    noted = study.state().deviations[0]
    assert noted["protocol_file_sha256"] != study.state().locked_digest
    (tmp_path / LOCKED_FILE).write_text(json.dumps(protocol_content(tolerance_mm=9)))
    with pytest.raises(ProtocolError, match="not the protocol that was locked"):
        study.protocol()


def test_a_study_with_a_tampered_ledger_is_not_analysed(tmp_path: Path) -> None:
    study = locked_study(tmp_path, **SMALL)
    fill(study, 3, np.random.default_rng(0))
    text = study.ledger.path.read_text()
    study.ledger.path.write_text(text.replace('"reader":"reader 1"', '"reader":"reader 2"', 1))
    with pytest.raises(LedgerError, match="row"):
        study.begin_look(actor="x")


def test_outcomes_must_fit_the_protocol(tmp_path: Path) -> None:
    study = locked_study(tmp_path)
    study.enrol("c", site="main", actor="x")
    plain = {"seconds": 1.0, "accuracy_dice": {}}
    with pytest.raises(ProtocolError) as raised:
        study.record_outcome("other", "silent", reader="nobody", edit=None, **plain)
    assert len(raised.value.faults) == 3
    with pytest.raises(ProtocolError):
        study.record_outcome("c", "manual", reader="reader 1", edit=edit_payload({"Anterior": "minor"}), **plain)
    with pytest.raises(UsageError, match="Seconds"):
        study.record_outcome("c", "manual", reader="reader 1", edit=None, seconds=math.nan, accuracy_dice={})
    study.record_outcome("c", "manual", reader="reader 1", edit=None, **plain)
    with pytest.raises(UsageError, match="reason to correct"):
        study.record_outcome("c", "manual", reader="reader 1", edit=None, **plain)
    study.record_outcome("c", "manual", reader="reader 1", edit=None, seconds=2.0, accuracy_dice={}, correction="typo")
    state = study.state()
    assert state.outcomes["c", "manual"].seconds == 2.0
    assert "corrected: typo" in state.deviations[0]["text"]
    with pytest.raises(UsageError, match="enrolled or found"):
        study.enrol("c", site="main", actor="x")
    with pytest.raises(ProtocolError, match="no site"):
        study.enrol("d", site="moon", actor="x")
    with pytest.raises(ProtocolError, match="questions 1 to 2"):
        study.record_answer(3, 4, reader="reader 1")
    with pytest.raises(UsageError, match="1 to 5"):
        study.record_answer(1, 6, reader="reader 1")


def test_serious_harm_stops_enrolment(tmp_path: Path) -> None:
    study = locked_study(tmp_path)
    study.enrol("c", site="main", actor="x")
    study.record_adverse("c", severity="other", text="headache of the reader", actor="x")
    assert not study.status().stop
    study.record_adverse("c", severity="serious", text="wrong side", actor="x")
    assert "1 serious" in study.status().stop
    with pytest.raises(ProtocolError, match="takes no more cases"):
        study.enrol("d", site="main", actor="x")


def test_enrolment_ends_at_the_planned_number_and_exclusions_make_room(tmp_path: Path) -> None:
    study = locked_study(tmp_path, **SMALL)
    count = study.status().to_enrol
    for i in range(count):
        study.enrol(f"c{i}", site="main", actor="x")
    with pytest.raises(ProtocolError, match="planned"):
        study.enrol("more", site="main", actor="x")
    study.exclude("c0", reason="consent withdrawn", actor="x")
    study.enrol("more", site="main", actor="x")
    study.refuse("late", reason="metal", actor="x") if study.status().enrolled > count else None
    assert study.status().excluded == 1


def test_looks_are_counted_and_only_allowed_when_due(tmp_path: Path) -> None:
    study = locked_study(tmp_path, **SMALL)
    needed = study.status().needed
    generator = np.random.default_rng(1)
    fill(study, 1, generator, saved=0)
    with pytest.raises(ProtocolError, match="next look"):
        study.begin_look(actor="x")
    due = study.status().next_look_at
    assert due == math.ceil(needed / 2)
    fill(study, due - 1, generator, saved=0, start=1)
    assert study.begin_look(actor="x")[0] == 1
    assert study.begin_look(actor="x")[0] == 1  # the same data: the same look
    assert study.status().looks_done == 1
    fill(study, needed - due, generator, saved=0, start=due)
    assert study.begin_look(actor="x")[0] == 2
    assert study.status().next_look_at is None


def test_an_early_end_is_a_deviation(tmp_path: Path) -> None:
    study = locked_study(tmp_path, **SMALL)
    fill(study, 2, np.random.default_rng(2))
    study.close("no money", actor="x")
    assert "closed with 2 of" in study.state().deviations[0]["text"]
    look, state = study.begin_look(actor="x")
    found = analyse(study.protocol(), state, look)
    assert found.final
    assert found.flow.analysed == 2
    with pytest.raises(ProtocolError, match="no more cases"):
        study.enrol("z", site="main", actor="x")
    with pytest.raises(UsageError, match="closed already"):
        study.close("again", actor="x")


def test_the_analysis_agrees_with_scipy_on_the_raw_numbers(tmp_path: Path) -> None:
    study = locked_study(tmp_path, **SMALL)
    generator = np.random.default_rng(3)
    due = study.status().next_look_at
    fill(study, study.status().needed, generator)
    state = study.state()
    found = analyse(study.protocol(), state, 2)
    cases = [f"c{i}" for i in range(study.status().needed)]
    saved = np.array([state.outcomes[c, "manual"].seconds - state.outcomes[c, "assisted"].seconds for c in cases])
    test = stats.ttest_1samp(saved, 0)
    assert found.primary.value == pytest.approx(saved.mean())
    assert found.primary.interval.low == pytest.approx(test.confidence_interval().low)
    assert found.primary.z == pytest.approx(stats.norm.isf(test.pvalue / 2))
    assert found.primary.critical == pytest.approx(1.977, abs=1e-3)
    assert "hoped direction" in found.primary.verdict
    rows = {(r.arm, r.endpoint, r.structure, r.reader): r for r in found.rows}
    accepted = rows["assisted", "acceptance", ALL, ALL]
    yes = len(cases) // 2
    assert (accepted.value, accepted.interval) == (pytest.approx(yes / len(cases)), wilson_interval(yes, len(cases)))
    assert rows["assisted", "acceptance", "Anterior", ALL].value == 1.0
    assert sum(rows["assisted", o, ALL, ALL].value for o in ("unchanged", "minor", "major", "rejected")) == 1.0
    assert ("manual", "acceptance", ALL, ALL) not in rows
    (seconds, times) = [d for d in found.differences if d.endpoint in ("seconds", "seconds_saved")]
    assert seconds.value == times.value == pytest.approx(saved.mean())
    assert due is not None


def test_an_early_crossing_stops_and_no_difference_is_futile(tmp_path: Path) -> None:
    crossing = locked_study(tmp_path / "a", **SMALL)
    fill(crossing, crossing.status().next_look_at, np.random.default_rng(4), saved=600)
    assert "crossed" in analyse(crossing.protocol(), crossing.state(), 1).primary.stop
    futile = locked_study(tmp_path / "b", **SMALL)
    fill(futile, futile.status().next_look_at, np.random.default_rng(5), saved=-200)
    primary = analyse(futile.protocol(), futile.state(), 1).primary
    assert primary.z < 0
    assert "against" in primary.verdict or "futility" in primary.stop


def test_independent_arms_and_proportions(tmp_path: Path) -> None:
    study = locked_study(
        tmp_path,
        arms=["assisted", "silent"],
        endpoints=["acceptance", "seconds"],
        primary={
            "endpoint": "acceptance", "aim": "difference", "arms": ["assisted", "silent"], "difference": 0.5,
            "expected": 0.9, "power": 0.8,
        },
        allocation={"method": "blocks", "seed": 3, "block_sizes": [4]},
        stopping={"looks": 1},
    )  # fmt: skip
    counts = {"assisted": [0, 0], "silent": [0, 0]}
    for i in range(study.status().needed):
        arm = study.enrol(f"c{i}", site="main", actor="x").arms[0]
        good = arm == "assisted" or counts[arm][1] % 3 == 0
        counts[arm][0] += good
        counts[arm][1] += 1
        edit = edit_payload({"Anterior": "minor" if good else "rejected"})
        study.record_outcome(f"c{i}", arm, reader="reader 2", seconds=100.0 + i, edit=edit, accuracy_dice={})
    found = analyse(study.protocol(), study.state(), 1)
    (a, n), (b, m) = counts["assisted"], counts["silent"]
    assert found.primary.value == pytest.approx(a / n - b / m)
    chi2 = stats.chi2_contingency([[a, n - a], [b, m - b]], correction=False)
    assert found.primary.z**2 == pytest.approx(chi2.statistic)
    (seconds,) = [d for d in found.differences if d.endpoint == "seconds"]
    times = {arm: [o.seconds for (_, x), o in study.state().outcomes.items() if x == arm] for arm in counts}
    assert seconds.p_value == pytest.approx(stats.ttest_ind(times["assisted"], times["silent"], equal_var=False).pvalue)
    assert found.flow.allocated == {"assisted": n, "silent": m}


def test_sentinels_are_shown_assisted_and_never_analysed(tmp_path: Path) -> None:
    study = locked_study(tmp_path, sentinels={"s1": "left and right exchanged", "s2": "shifted"}, **SMALL)
    for case_id, outcome in (("s1", "rejected"), ("s2", "unchanged")):
        enrolled = study.enrol(case_id, site="main", actor="x")
        assert (enrolled.arms, enrolled.number) == (("assisted",), -1)
        edit = edit_payload({"Anterior": outcome})
        study.record_outcome(case_id, "assisted", reader="reader 1", seconds=5.0, edit=edit, accuracy_dice={})
    fill(study, 2, np.random.default_rng(6))
    found = analyse(study.protocol(), study.state(), 1)
    assert found.sentinels_detected[:2] == (1, 2)
    assert found.flow.sentinels == 2
    assert all(r.n <= 2 for r in found.rows)
    assert study.status().enrolled == 2


def test_answers_are_counted(tmp_path: Path) -> None:
    study = locked_study(tmp_path)
    for score in (4, 5, 5):
        study.record_answer(1, score, reader="reader 1")
    found = analyse(study.protocol(), study.state(), 1).answers
    assert found[0].counts == (0, 0, 0, 1, 2)
    assert found[0].mean == pytest.approx(14 / 3)
    assert math.isnan(found[1].mean)
