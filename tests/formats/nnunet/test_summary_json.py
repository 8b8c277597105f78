"""``summary.json`` against nnU-Net's own, key by key, and back."""

import json
import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import InputError, PlanError
from delineate.formats.nnunet.summary_json import (
    METRICS,
    read_scores,
    scores_from_json,
    summary_to_json,
    write_summary,
)
from delineate.metrics.scores import evaluate_case

LABELS = LabelScheme.simple(*(f"organ {i}" for i in range(1, 12)))
REGIONS = LabelScheme(
    structures=(
        Structure(name="whole", values=(1, 2, 3)),
        Structure(name="core", values=(2, 3)),
        Structure(name="enhancing", values=(3,)),
    ),
    ignore=4,
    region_order=(1, 2, 3),
)


def arrays_of(scheme, seed):
    """Label maps in which structures are partly absent, missed or invented."""
    rng = np.random.default_rng(seed)
    top = len(scheme.values) + 1 + (scheme.ignore is not None)
    reference = rng.integers(0, top, (4, 6, 5)).astype(np.uint8)
    prediction = np.where(rng.random(reference.shape) < 0.6, reference, rng.integers(0, top, reference.shape))
    prediction[prediction == scheme.ignore] = 0
    reference[reference == seed % 3 + 1] = 0
    prediction[prediction == (seed // 2) % 3 + 1] = 0
    return prediction.astype(np.uint8), reference


def score(scheme, seed):
    prediction, reference = arrays_of(scheme, seed)
    structures = [(s.name, s.values) for s in scheme.structures]
    return evaluate_case(
        prediction,
        reference,
        structures,
        voxel_volume_mm3=1.5,
        case_id=f"case_{seed}",
        patient_id=f"p{seed // 2}",
        ignore=scheme.ignore,
    )


@pytest.mark.oracle
@pytest.mark.parametrize("scheme", [LABELS, REGIONS], ids=["labels", "regions"])
def test_every_number_is_nnunets(scheme, tmp_path):
    python = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not python:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    seeds = range(4)
    for seed in seeds:
        for folder, array in zip(("predictions", "references"), arrays_of(scheme, seed), strict=True):
            (tmp_path / folder).mkdir(exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / folder / f"case_{seed}.nii.gz"))
    write_summary(tmp_path / "ours.json", [score(scheme, seed) for seed in seeds], scheme)
    script = Path(__file__).with_name("summary_oracle_script.py")
    theirs = tmp_path / "theirs.json"
    values = json.dumps([scheme.ignore, [s.values for s in scheme.structures]])
    folders = [str(tmp_path / name) for name in ("references", "predictions", "ours.json", "theirs.json")]
    done = subprocess.run([python, str(script), *folders, values], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    compare(json.loads((tmp_path / "ours.json").read_text()), json.loads(theirs.read_text()))


def compare(ours, theirs):
    assert set(theirs) <= set(ours)
    np.testing.assert_equal(ours["foreground_mean"], theirs["foreground_mean"])
    assert ours["mean"].keys() == theirs["mean"].keys()
    for key, metrics in theirs["mean"].items():
        for name, value in metrics.items():
            np.testing.assert_allclose(ours["mean"][key][name], value, rtol=1e-14)
    for mine, other in zip(ours["metric_per_case"], theirs["metric_per_case"], strict=True):
        assert mine.keys() == other.keys()
        np.testing.assert_equal(mine["metrics"], other["metrics"])


@pytest.mark.parametrize("scheme", [LABELS, REGIONS], ids=["labels", "regions"])
def test_scores_come_back(scheme, tmp_path):
    scores = tuple(score(scheme, seed) for seed in range(3))
    write_summary(tmp_path / "summary.json", scores, scheme, prediction_files={"case_0": "out/case_0.nii.gz"})
    assert read_scores(tmp_path / "summary.json") == scores


def test_files_are_named_where_they_are_known():
    summary = summary_to_json([score(LABELS, 0)], LABELS, reference_files={"case_0": "labelsTr/case_0.nii.gz"})
    (case,) = summary["metric_per_case"]
    assert (case["reference_file"], case["prediction_file"]) == ("labelsTr/case_0.nii.gz", "")


def test_a_summary_without_cases_is_all_nan(tmp_path):
    write_summary(tmp_path / "summary.json", [], REGIONS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["mean"]) == ["(1, 2, 3)", "(2, 3)", "3"]
    assert all(math.isnan(summary["foreground_mean"][m]) for m in METRICS)
    assert read_scores(tmp_path / "summary.json") == ()


def test_nnunets_own_summary_cannot_become_scores():
    with pytest.raises(InputError, match=r"summary\.json was not written by Delineate"):
        scores_from_json({"metric_per_case": [], "mean": {}, "foreground_mean": {}})


def test_scores_of_other_structures_are_refused():
    with pytest.raises(InputError, match="the label scheme has"):
        summary_to_json([score(LABELS, 0)], REGIONS)


def test_a_damaged_summary_is_named(tmp_path):
    scores = (score(LABELS, 0),)
    damaged = summary_to_json(scores, LABELS)
    damaged["metric_per_case"] = []
    with pytest.raises(PlanError, match="0 cases with metrics, but 1 with identifiers"):
        scores_from_json(damaged)
    (tmp_path / "cut.json").write_text("{")
    with pytest.raises(PlanError, match=r"cut\.json"):
        read_scores(tmp_path / "cut.json")
