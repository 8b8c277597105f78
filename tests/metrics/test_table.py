"""The table of a case: one pass equals one structure after the other, and the policies for empty masks."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.errors import GeometryError, LabelError, UsageError
from delineate.metrics import boundary, overlap
from delineate.metrics.centreline import centre_line_dice
from delineate.metrics.table import (
    METRICS,
    METRICS_RELOADED,
    NNUNET,
    WORST_VALUE,
    evaluate_structures,
    failed_structures,
)
from metrics.metric_cases import both_ways, pairs

SPACING = (3.0, 0.8, 1.3)
STRUCTURES = (("one", (1,)), ("two", (2,)), ("both", (1, 2)), ("four", (4,)))

label_pairs = st.tuples(*[st.integers(1, 6)] * 3).flatmap(
    lambda shape: st.tuples(*[npst.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 4]))] * 2)
)


def alone(prediction, reference, values):
    """Return the metrics of one structure from full-size masks, without boxes and shared distances."""
    p, r = np.isin(prediction, values), np.isin(reference, values)
    voxels = boundary.surface_distances(p, r, SPACING)
    area = boundary.surface_distances(p, r, SPACING, elements="area")
    counts = overlap.overlap_of(overlap.confusion(p, r, 2), (1,))
    return {
        "dice": overlap.dice(counts),
        "specificity": overlap.specificity(counts),
        "hd95": boundary.hausdorff_percentile(voxels),
        "hd95_area_weighted": boundary.hausdorff_percentile(area, variant="area_weighted"),
        "assd": boundary.average_surface_distance(voxels),
        "masd_area_weighted": boundary.mean_average_surface_distance(area),
        "nsd": boundary.surface_dice(area, 1.0),
        "added_path_length": boundary.added_path_length(p, r, SPACING, tolerance_mm=1.0),
        "boundary_iou": boundary.boundary_iou(p, r, SPACING, width_mm=6.0),
        "centre_line_dice": centre_line_dice(p, r),
    }


@settings(max_examples=20, deadline=None)
@given(label_pairs)
def test_one_pass_equals_one_structure_after_the_other(pair):
    prediction, reference = pair
    diagonal = math.hypot(*(n * s for n, s in zip(reference.shape, SPACING, strict=True)))
    names = list(alone(prediction, reference, (1,)))
    rows = evaluate_structures(prediction, reference, STRUCTURES, spacing_mm=SPACING, metrics=names)
    assert [row.name for row in rows] == ["one", "two", "both", "four"]
    for row, (_, values) in zip(rows, STRUCTURES, strict=True):
        for name, expected in alone(prediction, reference, values).items():
            worst = diagonal if math.isinf(expected) else expected
            assert row.values[name] == pytest.approx(worst, nan_ok=True), name


@pytest.mark.parametrize("name", ["blobs", "shifted", "plane", "border"])
def test_table_equals_brute_force(name):
    prediction, reference, spacing = pairs()[name]
    forth, back = both_ways(prediction, reference, spacing)
    (row,) = evaluate_structures(
        prediction.astype(np.int16),
        reference,
        [("it", (1,))],
        spacing_mm=spacing,
        metrics=("dice", "hd", "hd95", "assd", "masd", "volume_error", "relative_volume_error"),
    )
    assert row.values["hd95"] == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert row.values["assd"] == pytest.approx(np.mean(forth + back))
    voxel = math.prod(spacing)
    assert row.values["volume_error"] == pytest.approx((prediction.sum() - reference.sum()) * voxel / 1000)
    assert (row.predicted_ml, row.reference_ml) == pytest.approx(
        (prediction.sum() * voxel / 1000, reference.sum() * voxel / 1000)
    )


def maps(predicted, truth):
    prediction, reference = np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
    prediction[1:3, 1:3, 1:3] = predicted
    reference[1:3, 1:3, 1:4] = truth
    return prediction, reference


DIAGONAL = math.hypot(4 * 3.0, 5 * 0.8, 6 * 1.3)


@pytest.mark.parametrize(
    ("policy", "predicted", "truth", "presence", "dice", "hd95", "nsd"),
    [
        (WORST_VALUE, 1, 0, "false_positive", 0.0, DIAGONAL, 0.0),
        (WORST_VALUE, 0, 1, "false_negative", 0.0, DIAGONAL, 0.0),
        (WORST_VALUE, 0, 0, "true_negative", math.nan, math.nan, math.nan),
        (NNUNET, 1, 0, "false_positive", 0.0, math.nan, 0.0),
        (NNUNET, 0, 1, "false_negative", 0.0, math.nan, 0.0),
        (NNUNET, 0, 0, "true_negative", math.nan, math.nan, math.nan),
        (METRICS_RELOADED, 0, 1, "false_negative", 0.0, DIAGONAL, 0.0),
        (METRICS_RELOADED, 0, 0, "true_negative", 1.0, 0.0, 1.0),
    ],
)
def test_policies_for_empty_masks(policy, predicted, truth, presence, dice, hd95, nsd):
    (row,) = evaluate_structures(
        *maps(predicted, truth), [("it", (1,))], spacing_mm=SPACING, metrics=("dice", "hd95", "nsd"), policy=policy
    )
    assert (row.presence, row.policy) == (presence, policy.name)
    found = [row.values[name] for name in ("dice", "hd95", "nsd")]
    assert found == pytest.approx([dice, hd95, nsd], nan_ok=True)


@pytest.mark.parametrize(("predicted", "truth"), [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_every_metric_gives_a_number_or_nan_never_infinity(predicted, truth):
    (row,) = evaluate_structures(*maps(predicted, truth), [("it", (1,))], spacing_mm=SPACING, metrics=tuple(METRICS))
    assert set(row.values) == set(METRICS)
    assert not any(math.isinf(value) for value in row.values.values())
    if predicted and truth:
        assert not any(math.isnan(value) for value in row.values.values())


def test_the_best_value_is_what_a_perfect_prediction_gets():
    _, reference = maps(0, 1)
    (row,) = evaluate_structures(reference, reference, [("it", (1,))], spacing_mm=SPACING, metrics=tuple(METRICS))
    assert dict(row.values) == pytest.approx({name: metric.best for name, metric in METRICS.items()})


def test_voxels_that_nobody_annotated_belong_to_no_structure():
    prediction, reference = maps(1, 1)
    prediction[3] = 1
    reference[3] = 2
    ignored = evaluate_structures(prediction, reference, [("it", (1,))], spacing_mm=SPACING, ignore=2)
    prediction[3] = reference[3] = 0
    plain = evaluate_structures(prediction, reference, [("it", (1,))], spacing_mm=SPACING)
    assert [dataclasses.asdict(r) for r in ignored] == [dataclasses.asdict(r) for r in plain]


def test_background_can_be_a_structure():
    prediction, reference = maps(1, 1)
    rows = evaluate_structures(prediction, reference, [("outside", (0,)), ("it", (1,))], spacing_mm=SPACING)
    assert 0 < rows[1].values["dice"] < rows[0].values["dice"] < 1


def test_tolerances_by_structure():
    prediction, reference = maps(1, 1)
    structures = [("strict", (1,)), ("loose", (1,))]
    rows = evaluate_structures(
        prediction, reference, structures, spacing_mm=SPACING, tolerance_mm={"strict": 0.0, "loose": 2.0}
    )
    assert rows[0].values["nsd"] < rows[1].values["nsd"] == 1.0
    assert [row.tolerance_mm for row in rows] == [0.0, 2.0]


def test_wrong_input_is_refused():
    prediction, reference = maps(1, 1)
    it = [("it", (1,))]
    with pytest.raises(GeometryError, match="spacing_mm"):
        evaluate_structures(prediction, reference, it, spacing_mm=(1.0, 1.0))
    with pytest.raises(GeometryError, match="equal shapes"):
        evaluate_structures(prediction[:2], reference, it, spacing_mm=SPACING)
    with pytest.raises(LabelError, match="without any structure"):
        evaluate_structures(prediction, reference, [], spacing_mm=SPACING)
    with pytest.raises(LabelError, match="found 1"):
        evaluate_structures(prediction, reference, [("none", (0,))], spacing_mm=SPACING)
    with pytest.raises(UsageError, match="Unknown metrics volume"):
        evaluate_structures(prediction, reference, it, spacing_mm=SPACING, metrics=("volume",))
    with pytest.raises(UsageError, match="none for it"):
        evaluate_structures(prediction, reference, it, spacing_mm=SPACING, tolerance_mm={"that": 1.0})


@pytest.mark.parametrize("policy", [WORST_VALUE, NNUNET, METRICS_RELOADED])
def test_a_case_without_a_prediction_has_the_worst_values_under_every_policy(policy):
    reference = np.zeros((4, 5, 6), np.uint8)
    reference[1:3, 1:3, 1:4] = 1
    there, absent = failed_structures(
        reference, [("a", (1,)), ("b", (2,))], spacing_mm=(2.0, 1.0, 1.0), metrics=tuple(METRICS), policy=policy
    )
    assert there.presence == "false_negative"
    assert (there.policy, there.predicted_ml) == (policy.name, 0)
    diagonal = math.hypot(8, 5, 6)
    for name, metric in METRICS.items():
        if metric.best == 1:
            assert there.values[name] == 0, name
        elif metric.worst == "diagonal":
            assert there.values[name] == pytest.approx(diagonal), name
    assert there.values["relative_volume_error"] == -1
    assert there.values["volume_error"] == pytest.approx(-12 * 2 / 1000)
    assert all(math.isnan(value) for value in absent.values.values())
