"""Every metric that another library defines alike gives its number; needs DELINEATE_METRICS_ORACLE_PYTHON."""

import numpy as np
import pytest
from scipy import ndimage

from delineate.masks.surfaces import surface_elements
from delineate.masks.topology import topology
from delineate.metrics.agreement import staple
from delineate.metrics.boundary import (
    average_surface_distance,
    hausdorff,
    hausdorff_percentile,
    surface_dice,
    surface_distances,
)
from delineate.metrics.calibration import expected_calibration_error
from delineate.metrics.contingency import instance_overlap
from delineate.metrics.overlap import confusion, dice, iou, overlap_of
from delineate.metrics.panoptic import panoptic_quality
from delineate.metrics.table import METRICS, WORST_VALUE, evaluate_structures
from metrics.metric_cases import empty_pairs, pairs
from metrics.metrics_oracle import ask

pytestmark = pytest.mark.oracle

CASES = pairs()
TOLERANCES = (0.5, 1.0, 2.1)


def instances():
    rng = np.random.default_rng(3)
    seeds = np.zeros((120, 120), np.bool_)
    seeds[tuple(rng.integers(0, 120, (2, 60)))] = True
    reference = ndimage.label(ndimage.binary_dilation(seeds, iterations=3))[0]
    prediction = np.roll(reference, 1, axis=0)
    prediction[prediction % 7 == 0] = 0
    return prediction, reference


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    return ask({**CASES, **empty_pairs(), "instances": (*instances(), (1.0, 1.0))}, tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize("name", CASES)
def test_surface_distance(answers, name):
    prediction, reference, spacing = CASES[name]
    theirs = {key.rsplit("/", 1)[1]: v for key, v in answers.items() if key.startswith(f"{name}/surface_distance/")}
    found = surface_distances(prediction, reference, spacing, elements="area")
    assert found.prediction_sizes.sum() == pytest.approx(theirs["area_prediction"])
    assert found.reference_sizes.sum() == pytest.approx(theirs["area_reference"])
    for percentile in (100, 95, 80):
        ours = hausdorff_percentile(found, percentile, variant="area_weighted")
        assert ours == pytest.approx(float(theirs[f"hd{percentile}"])), percentile
    assert hausdorff(found) == pytest.approx(float(theirs["hd100"]))
    forth = np.average(found.to_reference, weights=found.prediction_sizes)
    back = np.average(found.to_prediction, weights=found.reference_sizes)
    assert (forth, back) == pytest.approx((float(theirs["to_reference"]), float(theirs["to_prediction"])))
    assert [surface_dice(found, t) for t in TOLERANCES] == pytest.approx(list(theirs["nsd"]))


@pytest.mark.parametrize("name", CASES)
def test_monai(answers, name):
    prediction, reference, spacing = CASES[name]
    theirs = {key.rsplit("/", 1)[1]: v for key, v in answers.items() if key.startswith(f"{name}/monai/")}
    found = surface_distances(prediction, reference, spacing)
    assert hausdorff(found) == pytest.approx(float(theirs["hd"]), rel=1e-5)
    assert hausdorff_percentile(found) == pytest.approx(float(theirs["hd95"]), rel=1e-5)
    assert average_surface_distance(found) == pytest.approx(float(theirs["assd"]), rel=1e-5)
    assert [surface_dice(found, t) for t in TOLERANCES] == pytest.approx(list(theirs["nsd"]), rel=1e-5)
    weighted = surface_distances(prediction, reference, spacing, elements="area")
    assert [surface_dice(weighted, t) for t in TOLERANCES] == pytest.approx(list(theirs["nsd_area"]), rel=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_simpleitk(answers, name):
    prediction, reference, spacing = CASES[name]
    counts = overlap_of(confusion(prediction, reference, 2), (1,))
    assert dice(counts) == pytest.approx(float(answers[f"{name}/simpleitk/dice"]))
    assert iou(counts) == pytest.approx(float(answers[f"{name}/simpleitk/jaccard"]))
    to_reference = ndimage.distance_transform_edt(~reference, sampling=spacing)[prediction].max()
    to_prediction = ndimage.distance_transform_edt(~prediction, sampling=spacing)[reference].max()
    # SimpleITK measures between all voxels of the masks, which is the surfaces' distance unless one lies inside
    voxels = float(answers[f"{name}/simpleitk/hausdorff_of_voxels"])
    assert max(to_reference, to_prediction) == pytest.approx(voxels, rel=1e-4)
    assert hausdorff(surface_distances(prediction, reference, spacing)) >= voxels - 1e-4


@pytest.mark.parametrize("index", [0, 1])
def test_every_neighbourhood_has_the_area_of_surface_distance(answers, index):
    spacing = [(1.0, 1.0, 1.0), (3.0, 0.8, 1.3)][index]
    for code in range(1, 255):
        mask = np.array([code >> bit & 1 for bit in range(7, -1, -1)], np.bool_).reshape(2, 2, 2)
        surface = surface_elements(mask, spacing)
        middle = (surface.indices == 1).all(axis=1)
        assert surface.sizes[middle].sum() == pytest.approx(float(answers[f"areas/{index}"][code])), code
    for code in range(1, 15):
        mask = np.array([code >> bit & 1 for bit in range(3, -1, -1)], np.bool_).reshape(2, 2)
        surface = surface_elements(mask, spacing[:2])
        middle = (surface.indices == 1).all(axis=1)
        assert surface.sizes[middle].sum() == pytest.approx(float(answers[f"lengths/{index}"][code])), code


def test_staple_of_simpleitk(answers):
    found = staple(list(answers["staple/masks"]))
    np.testing.assert_allclose(found.sensitivity, answers["staple/sensitivity"], atol=1e-3)
    np.testing.assert_allclose(found.specificity, answers["staple/specificity"], atol=1e-3)
    np.testing.assert_allclose(found.probability, answers["staple/probability"], atol=1e-2)
    np.testing.assert_array_equal(found.consensus, answers["staple/probability"] > 0.5)


def test_panoptic_quality_of_monai(answers):
    found = panoptic_quality(instance_overlap(*instances()))
    theirs = [float(answers[f"panoptic/{metric}"]) for metric in ("pq", "sq", "rq")]
    assert [found.quality, found.segmentation, found.detection] == pytest.approx(theirs, rel=1e-4)


def table_of(prediction, reference, spacing, tolerance=1.0):
    (row,) = evaluate_structures(
        prediction,
        reference,
        [("it", (1,))],
        spacing_mm=spacing,
        metrics=tuple(METRICS),
        tolerance_mm=tolerance,
        policy=WORST_VALUE,
    )
    return row.values


NO_ORACLE = {
    "volume_error", "absolute_volume_error", "relative_volume_error", "boundary_iou", "added_path_length",
    "centre_line_dice",
}  # fmt: skip
"""By brute force (test_metric_properties) or on known shapes (test_centreline) only: no library of these has them."""


@pytest.mark.parametrize("name", CASES)
def test_every_column_of_the_table(answers, name):
    theirs = {key.split("/", 1)[1]: value for key, value in answers.items() if key.startswith(f"{name}/")}
    to_prediction, to_reference = (
        float(theirs["surface_distance/to_prediction"]),
        float(theirs["surface_distance/to_reference"]),
    )
    areas = [float(theirs[f"surface_distance/area_{side}"]) for side in ("prediction", "reference")]
    lesions, found = int(theirs["simpleitk/lesions_reference"]), int(theirs["simpleitk/touched_reference"])
    invented = int(theirs["simpleitk/lesions_prediction"]) - int(theirs["simpleitk/touched_prediction"])
    expected = {
        "dice": theirs["monai/dice"],
        "iou": theirs["monai/iou"],
        "precision": theirs["monai/precision"],
        "recall": theirs["monai/sensitivity"],
        "specificity": theirs["monai/specificity"],
        "volume_similarity": 1 - abs(float(theirs["simpleitk/volume_difference"])) / 2,
        "hd": theirs["monai/hd"],
        "hd95": theirs["monai/hd95"],
        "hd95_directed_mean": np.mean(theirs["monai/directed_hd95"]),
        "hd95_area_weighted": theirs["surface_distance/hd95"],
        "assd": theirs["monai/assd"],
        "assd_area_weighted": (to_reference * areas[0] + to_prediction * areas[1]) / sum(areas),
        "masd": np.mean(theirs["monai/directed_means"]),
        "masd_area_weighted": (to_reference + to_prediction) / 2,
        "nsd": theirs["surface_distance/nsd"][TOLERANCES.index(1.0)],
        "nsd_voxels": theirs["monai/nsd"][TOLERANCES.index(1.0)],
        "lesion_sensitivity": found / lesions,
        "lesion_false_positives": invented,
        "lesion_f1": 2 * found / (found + lesions + invented),
    }
    ours = table_of(*CASES[name])
    # the pooled percentile is numpy's of what the other columns use; brute force has it
    assert set(expected) == set(METRICS) - NO_ORACLE - {"hd95_pooled"}
    for metric, value in expected.items():
        assert ours[metric] == pytest.approx(float(value), rel=1e-5, abs=1e-6, nan_ok=True), metric
    assert ours["recall"] == pytest.approx(1 - float(theirs["simpleitk/missed"]))
    assert ours["precision"] == pytest.approx(1 - float(theirs["simpleitk/invented"]))


@pytest.mark.parametrize("name", empty_pairs())
def test_where_one_mask_is_empty_nobody_says_otherwise(answers, name):
    found = surface_distances(*empty_pairs()[name])
    ours = {
        "monai/dice": 0.0,
        "monai/iou": 0.0,
        "monai/hd95": hausdorff_percentile(found),
        "monai/assd": average_surface_distance(found),
        "monai/nsd": [surface_dice(found, t) for t in TOLERANCES],
        "surface_distance/dice": 0.0,
        "surface_distance/hd95": hausdorff_percentile(found, variant="area_weighted"),
        "surface_distance/nsd": [surface_dice(found, t) for t in TOLERANCES],
    }
    answered = 0
    for key, value in ours.items():
        theirs = answers[f"{name}/{key}"]
        # MONAI and surface-distance give no number on one of the two sides
        if not np.isnan(theirs).any():
            np.testing.assert_allclose(theirs, value, err_msg=key)
            answered += 1
    assert answered >= 4


@pytest.mark.parametrize("name", CASES)
def test_components_and_cavities_of_simpleitk(answers, name):
    for side, mask in zip(("prediction", "reference"), CASES[name][:2], strict=True):
        found = topology(mask)
        assert found.components == int(answers[f"{name}/simpleitk/lesions_{side}"])
        assert found.cavities == int(answers[f"{name}/simpleitk/cavities_{side}"])


def test_calibration_of_monai(answers):
    stated, correct = answers["calibration/stated"].ravel(), answers["calibration/correct"].ravel()
    assert expected_calibration_error(stated, correct) == pytest.approx(float(answers["calibration/error"]), rel=1e-4)
