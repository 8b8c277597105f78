"""Scores of one case."""

import math

import numpy as np
import pytest

from delineate.errors import GeometryError, InputError, LabelError
from delineate.metrics.scores import evaluate_case

STRUCTURES = (("whole", (1, 2)), ("core", (2,)), ("absent", (3,)))
REFERENCE = np.array([[[0, 1, 1], [2, 2, 0]]], dtype=np.uint8)
PREDICTION = np.array([[[1, 1, 0], [2, 2, 2]]], dtype=np.int32)


def evaluate(prediction=PREDICTION, reference=REFERENCE, structures=STRUCTURES, voxel=500.0, **more):
    return evaluate_case(
        prediction, reference, structures, voxel_volume_mm3=voxel, case_id="liver_007", patient_id="p1", **more
    )


def test_a_case_by_hand():
    case = evaluate()
    whole, core, absent = case.per_structure
    assert whole.dice == pytest.approx(2 * 3 / (4 + 5))
    assert whole.iou == pytest.approx(3 / 6)
    assert core.precision == pytest.approx(2 / 3)
    assert core.recall == 1.0
    assert math.isnan(absent.dice)
    assert case.worst_structure is whole
    assert case.mean_dice == pytest.approx((whole.dice + core.dice) / 2)


def test_volumes_by_hand():
    whole, core, absent = evaluate().per_structure
    assert (whole.reference_ml, whole.predicted_ml, whole.volume_error_ml) == (2.0, 2.5, 0.5)
    assert whole.relative_volume_error == 0.25
    assert core.absolute_volume_error_ml == 0.5
    assert absent.reference_ml == 0.0
    assert math.isnan(absent.volume_error_ml)
    assert math.isnan(absent.relative_volume_error)


def test_the_ignore_label_is_left_out():
    reference = REFERENCE.copy()
    reference[0, 1, 2] = 4
    assert evaluate(reference=reference, ignore=4).structure("core").dice == 1.0


def test_a_case_without_structures_in_it_has_no_mean():
    empty = np.zeros((2, 2), np.uint8)
    assert math.isnan(evaluate(empty, empty).mean_dice)
    assert evaluate(empty, empty).worst_structure is None


def test_errors_name_the_case():
    with pytest.raises(LabelError, match=r"Case liver_007: The prediction must hold labels from 0 to 3; found 9"):
        evaluate(prediction=np.full_like(PREDICTION, 9))
    with pytest.raises(GeometryError, match="Case liver_007: "):
        evaluate(prediction=PREDICTION[:, :1])
    with pytest.raises(GeometryError, match=r"Case liver_007: .* positive"):
        evaluate(voxel=0.0)
    with pytest.raises(LabelError, match="Case liver_007 cannot be scored"):
        evaluate(structures=())


def test_unknown_structures_are_named():
    with pytest.raises(InputError, match=r"liver_007 has no scores for structure 'spleen'; it has: whole, core"):
        evaluate().structure("spleen")
