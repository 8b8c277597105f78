"""The table of many cases: counts of presence, and that what is left out is counted."""

import numpy as np
import pytest

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows, summarise_rows
from delineate.metrics.table import NNUNET, WORST_VALUE, evaluate_structures


def case(name, predicted, truth, policy=WORST_VALUE, metrics=("dice", "hd95")):
    prediction, reference = np.zeros((2, 6), np.uint8), np.zeros((2, 6), np.uint8)
    prediction[:, :3] = predicted
    reference[:, :4] = truth
    rows = evaluate_structures(
        prediction, reference, [("it", (1,))], spacing_mm=(3.0, 4.0), metrics=metrics, policy=policy
    )
    return CaseRows(case_id=name, patient_id=name[0], rows=rows)


def four(policy=WORST_VALUE):
    return [case(f"{p}{t}", p, t, policy) for p in (0, 1) for t in (0, 1)]


def test_missed_and_invented_structures_cost_the_worst_value_and_empty_ones_are_counted():
    (row,) = summarise_rows(four(), seed=4)
    present = row.presence
    assert (present.true_positive, present.false_positive, present.false_negative, present.true_negative) == ((1,) * 4)
    assert (row.metrics["dice"].n_used, row.metrics["dice"].n_excluded) == (3, 1)
    assert row.metrics["dice"].mean == pytest.approx((0 + 0 + 6 / 7) / 3)
    assert row.metrics["hd95"].maximum == pytest.approx(np.hypot(6, 24))
    assert (row.seed, row.policy) == (4, "worst value")


def test_nnunets_policy_forgets_the_distance_of_missed_structures():
    (row,) = summarise_rows(four(NNUNET))
    assert (row.metrics["hd95"].n_used, row.metrics["hd95"].n_excluded) == (1, 3)
    assert row.metrics["dice"].n_used == 3


def test_what_does_not_fit_together_is_refused():
    assert summarise_rows([]) == ()
    with pytest.raises(InputError, match="listed more often: 11"):
        summarise_rows([case("11", 1, 1), case("11", 1, 1)])
    with pytest.raises(InputError, match="b differs from a"):
        summarise_rows([case("a", 1, 1), case("b", 1, 1, NNUNET)])
    with pytest.raises(InputError, match="b differs from a"):
        summarise_rows([case("a", 1, 1), case("b", 1, 1, metrics=("dice",))])
