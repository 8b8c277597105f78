"""The drop from known to unseen sites against plain loops."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.site_shift import SiteShift, measure_shift
from delineate.metrics.table import StructureRow

METRICS = ("dice", "hd95", "volume_error")
SITES = {"a1": "A", "a2": "A", "b1": "B", "b2": "B", "c1": "C"}
KNOWN = {"a1": 0.9, "a2": 0.8, "b1": 0.85, "b2": 0.7, "c1": 0.95}
UNSEEN = {"a1": 0.7, "a2": 0.75, "b1": 0.85, "b2": 0.75, "c1": 0.5}


def rows(case_id: str, dice: float, *, patient: str | None = None, hd95: float = 1.0, volume: float = 0.0) -> CaseRows:
    row = StructureRow(
        name="cord",
        presence="true_positive",
        values={"dice": dice, "hd95": hd95, "volume_error": volume},
        predicted_ml=1.0,
        reference_ml=1.0,
        policy="worst value",
        tolerance_mm=1.0,
    )
    return CaseRows(case_id=case_id, patient_id=patient or case_id, rows=(row,))


def of(shifts: tuple[SiteShift, ...], metric: str) -> SiteShift:
    return next(shift for shift in shifts if shift.metric == metric)


def test_dice_drops_in_points_paired_by_case():
    known, unseen = [rows(*item) for item in KNOWN.items()], [rows(*item) for item in reversed(UNSEEN.items())]
    shift = of(measure_shift(known, unseen, SITES, METRICS, seed=3), "dice")
    assert shift.paired
    assert shift.drop_points.value == pytest.approx(100 * (0.2 + 0.05 + 0.0 - 0.05 + 0.45) / 5)
    assert shift.known.value == pytest.approx(0.84)
    assert shift.unseen.value == pytest.approx(0.71)
    assert [(site, n) for site, n, _, _ in shift.by_site] == [("A", 2), ("B", 2), ("C", 1)]
    assert shift.by_site[0][2:] == pytest.approx((0.85, 0.725))


def test_distances_are_turned_and_keep_their_unit():
    known = [rows("a1", 1.0, hd95=1.0), rows("b1", 1.0, hd95=2.0)]
    unseen = [rows("a1", 1.0, hd95=4.0), rows("b1", 1.0, hd95=3.0)]
    assert of(measure_shift(known, unseen, SITES, METRICS, seed=0), "hd95").drop_points.value == pytest.approx(2.0)


def test_errors_of_volume_count_by_their_size():
    known = [rows("a1", 1.0, volume=-1.0), rows("b1", 1.0, volume=1.0)]
    unseen = [rows("a1", 1.0, volume=-3.0), rows("b1", 1.0, volume=-1.0)]
    assert of(measure_shift(known, unseen, SITES, METRICS, seed=0), "volume_error").drop_points.value == pytest.approx(
        1
    )


def brute_interval(differences: dict[str, list[float]], seed: int, resamples: int = 5000) -> tuple[float, float]:
    """Draw whole patients with the same stream, one sample at a time."""
    patients = list(differences)
    drawn = np.random.default_rng(seed).integers(0, len(patients), size=(resamples, len(patients)))
    means = []
    for sample in drawn:
        values = [value for i in sample for value in differences[patients[i]]]
        means.append(sum(values) / len(values))
    return tuple(float(q) for q in np.quantile(means, [0.025, 0.975]))


def test_the_interval_draws_whole_patients():
    patient = {"a1": "p", "a2": "p", "b1": "q", "b2": "r", "c1": "s"}
    known = [rows(i, v, patient=patient[i]) for i, v in KNOWN.items()]
    unseen = [rows(i, v, patient=patient[i]) for i, v in UNSEEN.items()]
    drop = of(measure_shift(known, unseen, SITES, METRICS, seed=7), "dice").drop_points
    of_patient: dict[str, list[float]] = {}
    for i in KNOWN:
        of_patient.setdefault(patient[i], []).append(100 * (KNOWN[i] - UNSEEN[i]))
    assert drop.n_patients == 4
    assert (drop.interval.low, drop.interval.high) == pytest.approx(brute_interval(of_patient, 7))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans()), min_size=2, max_size=12))
def test_means_and_drop_equal_plain_loops(cases):
    known = [rows(f"c{i}", a) for i, (a, _, there, _) in enumerate(cases) if there]
    unseen = [rows(f"c{i}", b) for i, (_, b, _, there) in enumerate(cases) if there]
    shifts = measure_shift(known, unseen, {}, ("dice",), seed=0)
    if not known or not unseen:
        assert shifts == ()
        return
    pairs = [100 * (a - b) for a, b, first, second in cases if first and second]
    firsts, seconds = [c[0] for c in cases if c[2]], [c[1] for c in cases if c[3]]
    expected = sum(pairs) / len(pairs) if pairs else 100 * (sum(firsts) / len(firsts) - sum(seconds) / len(seconds))
    assert shifts[0].drop_points.value == pytest.approx(expected, abs=1e-9)
    assert shifts[0].paired == bool(pairs)
    assert shifts[0].known.n_used == len(firsts)
    assert shifts[0].unseen.n_used == len(seconds)
    assert shifts[0].by_site[0][0] == "not recorded"


def test_cases_of_one_side_only_do_not_enter_the_drop():
    known = [rows("a1", 0.9), rows("a2", 0.1)]
    unseen = [rows("a1", 0.8), rows("b1", 0.2)]
    shift = of(measure_shift(known, unseen, SITES, ("dice",), seed=0), "dice")
    assert shift.drop_points.value == pytest.approx(10.0)
    assert shift.drop_points.n_used == 1
    site, count, mean_known, mean_unseen = shift.by_site[1]
    assert (site, count, mean_unseen) == ("B", 1, 0.2)
    assert math.isnan(mean_known)


def test_a_structure_that_is_in_neither_map_is_left_out_and_counted():
    known = [rows("a1", math.nan), rows("b1", 0.9), rows("c1", 0.8)]
    unseen = [rows("a1", 0.5), rows("b1", 0.7), rows("c1", 0.8)]
    drop = of(measure_shift(known, unseen, SITES, ("dice",), seed=0), "dice").drop_points
    assert (drop.n_used, drop.n_excluded) == (2, 1)
    assert drop.value == pytest.approx(10.0)


def test_without_common_cases_the_means_are_compared():
    known, unseen = [rows("a1", 0.9), rows("a2", 0.7)], [rows("b1", 0.6), rows("b2", 0.5), rows("c1", 0.4)]
    shift = of(measure_shift(known, unseen, SITES, ("dice",), seed=5), "dice")
    assert not shift.paired
    assert shift.drop_points.value == pytest.approx(30.0)
    every = [
        100 * (sum(first) / 2 - sum(second) / 3)
        for first in product((0.9, 0.7), repeat=2)
        for second in product((0.6, 0.5, 0.4), repeat=3)
    ]
    expected = np.quantile(every, [0.025, 0.975])
    assert (shift.drop_points.interval.low, shift.drop_points.interval.high) == pytest.approx(expected, abs=1.7)


def test_the_same_predictions_cost_nothing():
    cases = [rows(*item) for item in KNOWN.items()]
    for shift in measure_shift(cases, cases, SITES, METRICS, seed=0):
        assert shift.drop_points.value == 0
        assert (shift.drop_points.interval.low, shift.drop_points.interval.high) == (0, 0)


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="1 are repeated"):
        measure_shift([rows("a1", 1.0), rows("a1", 1.0)], [rows("a1", 1.0)], SITES, ("dice",), seed=0)
    with pytest.raises(InputError, match="no values of nsd"):
        measure_shift([rows("a1", 1.0)], [rows("a1", 1.0)], SITES, ("nsd",), seed=0)
