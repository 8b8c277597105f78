"""Agreement of volumes: against formulas written down anew, and bootstraps by whole patients."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.volume_agreement import agree_on_volumes, lin_concordance
from delineate.metrics.table import StructureRow

volumes = st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=2, max_size=12)


def case(index, *pairs, patient=None, presence="true_positive"):
    rows = tuple(
        StructureRow(
            name=f"s{i}",
            presence=presence,
            values={},
            predicted_ml=float(predicted),
            reference_ml=float(reference),
            policy="worst value",
            tolerance_mm=1.0,
        )
        for i, (predicted, reference) in enumerate(pairs)
    )
    return CaseRows(case_id=f"c{index}", patient_id=patient or f"p{index}", rows=rows)


def agreement(pairs, seed=0, **more):
    (found,) = agree_on_volumes([case(i, pair, **more) for i, pair in enumerate(pairs)], seed=seed)
    return found


def test_bias_and_limits_by_hand():
    found = agreement([(11, 10), (19, 20), (33, 30), (41, 40)])  # differences 1, -1, 3, 1
    assert found.bias_ml.value == 1
    deviation = math.sqrt((0 + 4 + 4 + 0) / 3)
    assert found.limits_ml == pytest.approx((1 - 1.96 * deviation, 1 + 1.96 * deviation))
    assert (found.case_ids, found.seed, found.bias_ml.n_patients) == (("c0", "c1", "c2", "c3"), 0, 4)


@given(volumes)
def test_concordance_is_pearsons_times_a_factor_of_bias(pairs):
    first, second = np.array(pairs).T
    found = lin_concordance(first, second)
    if first.std() > 1e-6 and second.std() > 1e-6:
        ratio, shift = (
            first.std() / second.std(),
            (first.mean() - second.mean()) / math.sqrt(first.std() * second.std()),
        )
        expected = np.corrcoef(first, second)[0, 1] * 2 / (ratio + 1 / ratio + shift**2)
        assert found == pytest.approx(expected, abs=1e-6)
    assert math.isnan(found) or -1 - 1e-9 <= found <= 1 + 1e-9


def test_concordance_of_equal_volumes_is_one_and_of_constant_ones_unknown():
    assert lin_concordance(np.array([1.0, 2.0, 5.0]), np.array([1.0, 2.0, 5.0])) == pytest.approx(1)
    assert math.isnan(lin_concordance(np.array([2.0, 2.0]), np.array([2.0, 2.0])))
    assert lin_concordance(np.array([2.0, 2.0]), np.array([3.0, 3.0])) == 0


def test_intervals_of_limits_meet_a_plain_bootstrap():
    generator = np.random.default_rng(7)
    reference = generator.uniform(100, 200, 40)
    pairs = list(zip(reference + generator.normal(3, 5, 40), reference, strict=True))
    cases = [case(i, pair, patient=f"p{i // 2}") for i, pair in enumerate(pairs)]
    (found,) = agree_on_volumes(cases, seed=3)
    differences = np.array([p - r for p, r in pairs]).reshape(20, 2)
    samples = [differences[generator.integers(0, 20, 20)].ravel() for _ in range(5000)]
    for interval, sign in zip(found.limits_intervals, (-1, 1), strict=True):
        ends = np.quantile([s.mean() + sign * 1.96 * s.std(ddof=1) for s in samples], [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx(ends, abs=0.25)


def test_huge_volumes_lose_no_digits():
    found = agreement([(1e9 + d, 1e9) for d in (0.5, 1.0, 1.5, 2.0)])
    assert found.limits_ml[1] - found.limits_ml[0] == pytest.approx(2 * 1.96 * np.std([0.5, 1, 1.5, 2], ddof=1))
    assert all(math.isfinite(end) for i in found.limits_intervals for end in (i.low, i.high))


def test_cases_without_the_structure_are_left_out_and_missed_ones_stay():
    cases = [case(0, (0, 0), presence="true_negative"), case(1, (0, 4), presence="false_negative"), case(2, (5, 4))]
    (found,) = agree_on_volumes(cases, seed=0)
    assert found.case_ids == ("c1", "c2")
    assert found.bias_ml.value == pytest.approx(-1.5)


def test_few_cases_give_numbers_that_are_none():
    one = agreement([(5, 4)])
    assert one.bias_ml.value == 1
    assert all(math.isnan(v) for v in (*one.limits_ml, one.limits_intervals[0].low, one.concordance))
    none = agreement([(0, 0)], presence="true_negative")
    assert math.isnan(none.bias_ml.value)
    twins = agree_on_volumes([case(0, (1, 2), patient="p"), case(1, (3, 2), patient="p")], seed=0)
    assert math.isnan(twins[0].limits_intervals[1].high)
    assert math.isfinite(twins[0].limits_ml[0])
    assert agree_on_volumes([], seed=0) == ()


def test_the_seed_decides_and_structures_do_not_disturb_each_other():
    pairs = [(10 + i % 3, 10) for i in range(9)]
    both = agree_on_volumes([case(i, pair, (1, i)) for i, pair in enumerate(pairs)], seed=5)
    assert both[0] == agreement(pairs, seed=5)
    assert both[0].limits_intervals != agreement(pairs, seed=6).limits_intervals


def test_cases_of_other_structures_are_refused():
    with pytest.raises(InputError, match=r"structures of c0.*not so c1"):
        agree_on_volumes([case(0, (1, 1)), case(1, (1, 1), (2, 2))], seed=0)
