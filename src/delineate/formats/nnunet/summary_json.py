"""``summary.json``: the scores of a folder of predictions as nnU-Net writes them, and back.

The keys and numbers that nnU-Net reads are its own. What it has no place for (case and patient identifiers, structure
names, voxel volumes) stands under one more key, ``delineate``, which nnU-Net passes over; it makes the file complete
enough to build a report from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import InputError
from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.metrics.overlap import Overlap
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.metrics.statistics import mean_or_nan

METRICS = ("Dice", "IoU", "FP", "TP", "FN", "TN", "n_pred", "n_ref")
"""In nnU-Net's order."""


def summary_to_json(
    scores: Sequence[CaseScores],
    scheme: LabelScheme | Sequence[Structure],
    *,
    reference_files: Mapping[str, str] | None = None,
    prediction_files: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return nnU-Net's summary.

    Parameters
    ----------
    scores
        One entry per case, with the structures of the scheme in its order.
    scheme
        Label values per structure, or the structures alone. nnU-Net's keys are the value of a label, and the tuple of
        values of a region; a structure of one value has the value as its key also beside regions.
    reference_files, prediction_files
        Path of each case's files by case id, as nnU-Net writes them; empty texts if not given.

    Raises
    ------
    InputError
        If a case does not have the structures of the scheme.

    Notes
    -----
    ``mean`` is the mean over the cases in which the metric is defined (NaN if there is none), ``foreground_mean`` the
    mean of that over structures, NaN if one of them is NaN, for every metric: nnunetv2,
    ``evaluation/evaluate_predictions.py``.
    """
    structures = scheme.structures if isinstance(scheme, LabelScheme) else tuple(scheme)
    keys = [_key(structure) for structure in structures]
    _require_structures(scores, structures)
    per_case = [
        {
            "metrics": {key: _metrics(s) for key, s in zip(keys, case.per_structure, strict=True)},
            "prediction_file": (prediction_files or {}).get(case.case_id, ""),
            "reference_file": (reference_files or {}).get(case.case_id, ""),
        }
        for case in scores
    ]
    mean = {key: {m: mean_or_nan([c["metrics"][key][m] for c in per_case]) for m in METRICS} for key in keys}  # type: ignore[index]
    return {
        "foreground_mean": {m: float(np.mean([mean[key][m] for key in keys if key != "0"])) for m in METRICS},
        "mean": mean,
        "metric_per_case": per_case,
        "delineate": _own_part(scores, structures),
    }


def scores_from_json(data: Any, *, source: str = "summary.json") -> tuple[CaseScores, ...]:
    """Return the scores of a parsed summary that Delineate wrote.

    Raises
    ------
    PlanError
        If the form is wrong; names file and key.
    InputError
        If nnU-Net wrote the summary: it has neither voxel volumes nor patients.
    """
    document = Node(value=data, source=source)
    own = document.get("delineate")
    if own is None:
        raise InputError(
            f"{source} was not written by Delineate: it lacks voxel volumes and patients. Evaluate the results again."
        )
    keys = {node.child("name").text(): node.child("key").text() for node in own.child("structures").items()}
    cases = tuple(own.child("cases").items())
    per_case = tuple(document.child("metric_per_case").items())
    if len(cases) != len(per_case):
        raise document.wrong(f"{len(per_case)} cases with metrics, but {len(cases)} with identifiers")
    return tuple(_case(node, entry, keys) for node, entry in zip(per_case, cases, strict=True))


def write_summary(
    path: Path,
    scores: Sequence[CaseScores],
    scheme: LabelScheme | Sequence[Structure],
    *,
    reference_files: Mapping[str, str] | None = None,
    prediction_files: Mapping[str, str] | None = None,
) -> None:
    """Write ``summary.json``, atomically; see :func:`summary_to_json`.

    Raises
    ------
    InputError
        If a case does not have the structures of the scheme.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    summary = summary_to_json(scores, scheme, reference_files=reference_files, prediction_files=prediction_files)
    write_text(path, json.dumps(summary, indent=4, sort_keys=True))


def read_scores(path: Path) -> tuple[CaseScores, ...]:
    """Read the scores of a ``summary.json`` that Delineate wrote.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, or of another form.
    InputError
        If nnU-Net wrote it.
    """
    return scores_from_json(read_document(path).value, source=str(path))


def _key(structure: Structure) -> str:
    return str(structure.values[0]) if len(structure.values) == 1 else str(structure.values)


def _metrics(scores: StructureScores) -> dict[str, float]:
    overlap = scores.overlap
    return {
        "Dice": scores.dice,
        "IoU": scores.iou,
        "FP": overlap.false_positive,
        "TP": overlap.true_positive,
        "FN": overlap.false_negative,
        "TN": overlap.true_negative,
        "n_pred": overlap.predicted,
        "n_ref": overlap.reference,
    }


def _own_part(scores: Sequence[CaseScores], structures: Sequence[Structure]) -> dict[str, Any]:
    return {
        "structures": [{"name": structure.name, "key": _key(structure)} for structure in structures],
        "cases": [
            {
                "case_id": case.case_id,
                "patient_id": case.patient_id,
                "voxel_volume_mm3": case.per_structure[0].voxel_volume_mm3,
            }
            for case in scores
        ],
    }


def _require_structures(scores: Sequence[CaseScores], structures: Sequence[Structure]) -> None:
    names = tuple(s.name for s in structures)
    for case in scores:
        found = tuple(s.name for s in case.per_structure)
        if found != names:
            raise InputError(f"Case {case.case_id} has scores for {found}; the label scheme has {names}.")


def _case(metrics: Node, entry: Node, keys: Mapping[str, str]) -> CaseScores:
    voxel = float(entry.child("voxel_volume_mm3").number())
    by_key = metrics.child("metrics")
    return CaseScores(
        case_id=entry.child("case_id").text(),
        patient_id=entry.child("patient_id").text(),
        per_structure=tuple(
            StructureScores(name=name, overlap=_overlap(by_key.child(key)), voxel_volume_mm3=voxel)
            for name, key in keys.items()
        ),
    )


def _overlap(node: Node) -> Overlap:
    return Overlap(
        true_positive=node.child("TP").integer(),
        false_positive=node.child("FP").integer(),
        false_negative=node.child("FN").integer(),
        true_negative=node.child("TN").integer(),
    )
