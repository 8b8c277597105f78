"""Thresholds: which apply, how they are written, what passes."""

import dataclasses
import math

import numpy as np
import pytest

from delineate.errors import InputError, UsageError
from delineate.metrics.cohort import CohortRow, PresenceCounts
from delineate.metrics.evaluation.thresholds import (
    CITED,
    DECLARED,
    judge,
    published_thresholds,
    read_threshold,
)
from delineate.metrics.statistics import Interval, spread


def row(name="liver", metric="dice", values=(0.875, 1.0), low=math.nan, high=math.nan):
    found = spread(values, [str(i) for i in range(len(values))], np.random.default_rng(0))
    found = dataclasses.replace(found, interval=Interval(low=low, high=high))
    presence = PresenceCounts(true_positive=len(values), false_positive=0, false_negative=0, true_negative=0)
    return CohortRow(name=name, presence=presence, metrics={metric: found}, policy="p", seed=0, resamples=1)


@pytest.mark.parametrize(
    ("text", "low", "high", "verdict"),
    [
        ("liver:dice=0.90", 0.91, 0.95, "pass"),
        ("liver:dice=0.9375", 0.9375, 0.95, "pass"),
        ("liver:dice=0.92", 0.91, 0.95, "undecided"),
        ("liver:dice=0.92", math.nan, math.nan, "undecided"),
        ("liver:dice=0.94", 0.91, 0.95, "fail"),
    ],
)
def test_overlaps_must_lie_above(text, low, high, verdict):
    (found,) = judge([row(low=low, high=high)], [read_threshold(text)])
    assert (found.verdict, found.n_used) == (verdict, 2)
    assert found.mean == pytest.approx(0.9375)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"), [(6, 3, 5, "pass"), (4.5, 3, 5, "undecided"), (3.5, 3, 5, "fail")]
)
def test_distances_must_lie_below(value, low, high, verdict):
    table = [row(metric="hd95", values=(3.0, 5.0), low=low, high=high)]
    assert judge(table, [read_threshold(f"liver:hd95={value}")])[0].verdict == verdict


def test_a_structure_in_no_case_is_undecided():
    (found,) = judge([row(values=(math.nan, math.nan))], [read_threshold("liver:dice=0.9")])
    assert (found.verdict, found.n_used) == ("undecided", 0)


def test_all_thresholds_without_numbers_are_told():
    wanted = [read_threshold(text) for text in ("spleen:dice=0.9", "liver:hd95=3", "liver:dice=0.9")]
    with pytest.raises(InputError, match=r"spleen:dice, liver:hd95\. Evaluated structures: liver; metrics: dice"):
        judge([row()], wanted)


@pytest.mark.parametrize(
    ("name", "modality", "value"),
    [
        ("liver", "CT", 0.95),
        ("Liver", "ct", 0.95),
        ("liver", "MR", None),
        ("liver", None, None),
        ("liver", "", None),
        ("liver", "PET", None),
        ("liver_tumor", "CT", None),
        ("liver_vessels", "CT", None),
        ("heart", "MRI", 0.90),
        ("heart", "CT", None),
        ("heart_ventricle_left", "MR", 0.90),
        ("left ventricle", "cine", 0.90),
        ("heart_atrium_right", "T1", 0.90),
        ("heart_myocardium", "MR", 0.90),
        ("Myo", "MR", 0.90),
        ("ventricle_body_left", "MR", None),
        ("third_ventricle", "MR", None),
        ("left_lateral_ventricle", "MR", None),
        ("whole tumour", "FLAIR", 0.85),
        ("brain_tumor", "T1ce", 0.85),
        ("brain", "MR", None),
        ("brainstem", "MR", None),
        ("lung_nodules", "CT", 0.70),
        ("Lung tumour", "CT", 0.70),
        ("pulmonary lesion", "CT", 0.70),
        ("lung_upper_lobe_left", "CT", None),
    ],
)
def test_cited_thresholds_apply_to_their_structures_only(name, modality, value):
    found = published_thresholds([name], modality=modality)
    assert [t.value for t in found] == ([] if value is None else [value])
    assert all((t.structure, t.metric, t.source) == (name, "dice", CITED) for t in found)


def test_cited_thresholds_do_not_claim_a_publication():
    (found,) = published_thresholds(["liver"], modality="CT")
    assert found.task == "liver, CT"
    assert found.source == "commonly cited clinical threshold"


def test_a_declared_threshold_is_read_from_its_end():
    found = read_threshold(" zone: a=b :nsd=0.8")
    assert (found.structure, found.metric, found.value, found.source) == ("zone: a=b", "nsd", 0.8, DECLARED)


@pytest.mark.parametrize(
    "text", ["liver", "liver:dice", "liver=0.9", ":dice=0.9", "liver:dice=good", "liver:dice=nan", ""]
)
def test_other_forms_are_refused(text):
    with pytest.raises(UsageError, match="structure:metric=value"):
        read_threshold(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("liver:dise=0.9", "dise is not known. Use one of dice, iou"),
        ("liver:volume_error=1", "has a sign"),
        ("liver:dice=95", "dice is 0 to 1; got 95"),
        ("liver:hd95=-1", r"hd95 is 0 or above \(mm\); got -1"),
    ],
)
def test_impossible_thresholds_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_threshold(text)
