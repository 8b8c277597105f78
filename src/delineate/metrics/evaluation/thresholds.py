"""Does it reach what is commonly asked for or was declared beforehand?"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from delineate.errors import InputError, UsageError
from delineate.metrics.cohort import CohortRow
from delineate.metrics.evaluation.directions import SIGNED, direction_of, goodness
from delineate.metrics.statistics import Interval, Spread
from delineate.metrics.table import METRICS

Verdict = Literal["pass", "fail", "undecided"]
"""``pass``: the mean and the whole interval are on the good side; ``undecided``: only the mean is, or there is no mean
because no case has the structure; else ``fail``."""

CITED = "commonly cited clinical threshold"
"""Source of the built-in values: they are quoted widely as what clinical use needs, not derived from one study."""

DECLARED = "declared by the user"


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """A value that a metric of a structure must reach."""

    task: str
    """For the reader: ``liver, CT``."""
    structure: str
    metric: str
    value: float
    source: str
    """Where it is from; ``declared by the user`` for the user's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ThresholdVerdict:
    """A threshold and what was found."""

    threshold: Threshold
    mean: float
    interval: Interval
    n_used: int
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class _Cited:
    """A commonly cited value of the mean Dice: the words of the structure's name in any order, on one modality."""

    words: tuple[frozenset[str], ...]
    modality: str
    dice: float


def _names(*names: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(name.split()) for name in names)


_CITED = (
    _Cited(words=_names("liver"), modality="CT", dice=0.95),
    _Cited(
        words=_names(
            *("heart", "left ventricle", "right ventricle", "left atrium", "right atrium", "myocardium"),
            *("left myocardium", "left ventricle myocardium", "left ventricular myocardium"),
            *("lv", "rv", "la", "ra", "myo", "lvc", "mlv", "lvm"),  # of ACDC, M&Ms and MM-WHS
        ),
        modality="MR",
        dice=0.90,
    ),
    _Cited(words=_names("brain tumor", "whole tumor", "whole brain tumor", "wt"), modality="MR", dice=0.85),
    _Cited(
        words=_names(
            *("lung nodule", "lung lesion", "lung tumor", "lung cancer"),
            *("pulmonary nodule", "pulmonary lesion", "pulmonary tumor"),
        ),
        modality="CT",
        dice=0.70,
    ),
)

_MODALITIES = {
    "CT": {"ct", "cta", "cect", "ncct", "ldct"},
    "MR": {
        "mr",
        "mri",
        "cmr",
        "t1",
        "t1w",
        "t1c",
        "t1ce",
        "t1gd",
        "t2",
        "t2w",
        "t2f",
        "flair",
        "cine",
        "mprage",
        "lge",
    },
}
"""Names of modalities and of the sequences that data sets write in their place."""

_ONE_SPELLING = {"tumour": "tumor", "tumours": "tumor", "tumors": "tumor", "nodules": "nodule", "lesions": "lesion"}


def published_thresholds(structures: Sequence[str], *, modality: str | None) -> tuple[Threshold, ...]:
    """Return the commonly cited thresholds that fit these structures on this modality.

    Mean Dice of the liver on CT 0.95; heart, its chambers and the myocardium on MR 0.90; whole brain tumour on MR 0.85;
    lung nodule, lesion or tumour on CT 0.70. Names are compared by their words in any order (``heart_ventricle_left``
    is the left ventricle), with common abbreviations; other names, and unknown modalities, get none.

    Parameters
    ----------
    structures
        Names as in the table.
    modality
        ``CT``, ``MR`` or a usual name of an MR sequence; None if it is not known.
    """
    known = _modality(modality)
    found = ((name, cited) for name in structures for cited in _CITED if cited.modality == known)
    return tuple(
        Threshold(task=f"{name}, {known}", structure=name, metric="dice", value=cited.dice, source=CITED)
        for name, cited in found
        if _words(name) in cited.words
    )


def read_threshold(text: str) -> Threshold:
    """Return the threshold that a user declares as ``structure:metric=value``, for example ``liver:hd95=8``.

    Overlaps and other metrics whose best value is 1 must be at least the value; distances and errors at most.

    Raises
    ------
    UsageError
        If the text has another form, the metric is unknown or has a sign, or it can never have that value.
    """
    left, equals, written = text.rpartition("=")
    structure, colon, metric = left.rpartition(":")
    structure, metric = structure.strip(), metric.strip()
    value = _number(written)
    if not (equals and colon and structure and math.isfinite(value)):
        raise UsageError(f"A threshold is written structure:metric=value, for example liver:dice=0.95; got '{text}'.")
    if metric not in METRICS or metric in SIGNED:
        usable = ", ".join(name for name in METRICS if name not in SIGNED)
        why = "has a sign, so that errors cancel in its mean" if metric in SIGNED else "is not known"
        raise UsageError(f"Threshold '{text}': the metric {metric} {why}. Use one of {usable}.")
    score = direction_of(metric) == "higher"
    if value < 0 or (score and value > 1):
        range_ = "0 to 1" if score else f"0 or above ({METRICS[metric].unit})"
        raise UsageError(f"Threshold '{text}': {metric} is {range_}; got {value:g}.")
    return Threshold(task=structure, structure=structure, metric=metric, value=value, source=DECLARED)


def judge(table: Sequence[CohortRow], thresholds: Sequence[Threshold]) -> tuple[ThresholdVerdict, ...]:
    """Hold the means over cases against thresholds, in the order of the thresholds.

    Parameters
    ----------
    table
        Per structure over all cases.
    thresholds
        Of structures and metrics of the table.

    Raises
    ------
    InputError
        If the table lacks a structure or metric that a threshold is about; all are told.
    """
    rows = {row.name: row for row in table}
    missing = [t for t in thresholds if t.structure not in rows or t.metric not in rows[t.structure].metrics]
    if missing:
        wanted = ", ".join(f"{t.structure}:{t.metric}" for t in missing)
        metrics = ", ".join(table[0].metrics) if table else "none"
        raise InputError(
            f"There is nothing to hold against the thresholds of {wanted}. Evaluated structures: "
            f"{', '.join(rows) or 'none'}; metrics: {metrics}."
        )
    return tuple(_judge(threshold, rows[threshold.structure].metrics[threshold.metric]) for threshold in thresholds)


def _judge(threshold: Threshold, found: Spread) -> ThresholdVerdict:
    metric, wanted = threshold.metric, goodness(threshold.value, threshold.metric)
    reached = goodness(found.mean, metric) >= wanted
    ends = (found.interval.low, found.interval.high)
    surely = reached and all(goodness(end, metric) >= wanted for end in ends)  # an interval of NaN shows nothing
    verdict: Verdict = "pass" if surely else "undecided" if reached or not found.n_used else "fail"
    return ThresholdVerdict(
        threshold=threshold, mean=found.mean, interval=found.interval, n_used=found.n_used, verdict=verdict
    )


def _modality(text: str | None) -> str | None:
    word = (text or "").strip().lower()
    return next((name for name, words in _MODALITIES.items() if word in words), None)


def _words(name: str) -> frozenset[str]:
    words = [_ONE_SPELLING.get(word, word) for word in re.split(r"[\W_]+", name.lower()) if word]
    return frozenset(words) if words == ["heart"] else frozenset(words) - {"heart", "cardiac"}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
