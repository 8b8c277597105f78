"""From scores, histories and files to the page that a person reads."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from delineate import __version__
from delineate.errors import DelineateError
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import read_labels
from delineate.metrics.scores import CaseScores
from delineate.planning.fingerprint import Fingerprint
from delineate.planning.machine import Machine
from delineate.reports import (
    SOFT_TISSUE_WINDOW,
    Evaluation,
    Fact,
    FailedCase,
    Fold,
    History,
    Overlay,
    PictureSettings,
    ReportData,
    choose_cases,
    describe_plan,
    picture_case,
    render_report,
    size_unit,
    tabulate_plan,
)
from delineate.training.history import Record
from delineate.workflows.decide_training import Decision
from delineate.workflows.plan_dataset import PlannedDataset

UNCALIBRATED_READERS = ("NaturalImage2DIO",)
"""Pictures do not say how large a pixel is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What was scored, and what the scored cases were to the model."""

    evaluation: Evaluation
    scores: tuple[CaseScores, ...]
    failed: tuple[FailedCase, ...]
    prediction_of: Callable[[CaseFiles], Path]
    cases: tuple[CaseFiles, ...]
    folds: tuple[Fold, ...] = ()
    caveats: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStory:
    """How the model came about."""

    planned: PlannedDataset
    decision: Decision
    histories: Mapping[str, Sequence[Record]]
    """Records of training by fold."""
    notices: tuple[str, ...] = ()


def write_report(
    findings: Findings,
    dataset: Dataset,
    path: Path,
    *,
    training: TrainingStory | None = None,
    facts: Sequence[Fact] = (),
    provenance: Sequence[Fact] = (),
) -> None:
    """Write the self-contained page; parts that are not known are left out of it.

    Raises
    ------
    ResourceError
        If the page cannot be written.
    """
    planar = training is not None and all(shape[0] == 1 for shape in training.planned.fingerprint.shapes_after_crop)
    calibrated = dataset.reader_name not in UNCALIBRATED_READERS
    report = ReportData(
        title=f"{dataset.name}: segmentation report",
        lead=f"Segmentation of {', '.join(s.name for s in dataset.scheme.structures)} in {dataset.name}.",
        created=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        evaluation=findings.evaluation,
        scores=findings.scores,
        size_unit=size_unit(findings.scores, planar=planar, calibrated=calibrated),
        dataset=_dataset_facts(dataset, training.planned.fingerprint if training else None),
        run=tuple(facts),
        folds=findings.folds,
        overlays=_overlays(findings, dataset, calibrated=calibrated),
        failed=findings.failed,
        caveats=findings.caveats,
        provenance=tuple(provenance),
    )
    render_report(_with_training(report, training, dataset) if training else report, path)


def _with_training(report: ReportData, training: TrainingStory, dataset: Dataset) -> ReportData:
    configuration, recipe = training.decision.configuration, training.decision.recipe
    names = tuple(structure.name for structure in dataset.scheme.structures)
    return replace(
        report,
        plan=describe_plan(training.planned.plan, configuration, recipe),
        plan_table=tabulate_plan(configuration, recipe),
        reasons=recipe.reasons,
        histories=tuple(
            History(name=training.planned.title(fold), records=tuple(records), structures=names)
            for fold, records in training.histories.items()
        ),
        training_examples=tuple((facts.name, facts.cases) for facts in training.planned.fingerprint.structures),
        warnings=training.notices,
        seed=recipe.seed,
    )


def machine_facts(machine: Machine) -> tuple[Fact, ...]:
    """Return what a report says of the machine."""
    precision = "bfloat16 and float32" if machine.bfloat16 else "float32"
    return (
        Fact(label="Device", value=f"{machine.device}, {machine.cores} cores, computes in {precision}"),
        Fact(label="Memory", value=f"{machine.memory_bytes / 2**30:.1f} GiB could be used"),
    )


def software_facts(command: str, seed: int) -> tuple[Fact, ...]:
    """Return what a report says of the software that made it."""
    return (
        Fact(label="Software", value=f"Delineate {__version__}, Python {platform.python_version()}"),
        Fact(label="Command", value=command),
        Fact(label="Seed", value=str(seed)),
    )


def _dataset_facts(dataset: Dataset, fingerprint: Fingerprint | None) -> tuple[Fact, ...]:
    patients = len({case.patient_id for case in dataset.training})
    facts = [
        Fact(label="Training cases", value=f"{len(dataset.training)} of {patients} patients"),
        Fact(label="Channels", value=", ".join(dataset.channel_names)),
        Fact(label="Layout", value=dataset.layout),
    ]
    if dataset.repairs:
        facts.append(Fact(label="Repairs", value=", ".join(sorted(dataset.repairs))))
    if fingerprint is not None:
        spacing = np.median(fingerprint.spacings_mm, axis=0)
        shape = np.median(fingerprint.shapes_after_crop, axis=0)
        facts.append(Fact(label="Median spacing (z, y, x)", value=" x ".join(f"{v:.3g}" for v in spacing) + " mm"))
        facts.append(Fact(label="Median size (z, y, x)", value=" x ".join(f"{v:.0f}" for v in shape) + " voxels"))
    return tuple(facts)


def _overlays(findings: Findings, dataset: Dataset, *, calibrated: bool) -> tuple[Overlay, ...]:
    by_id = {case.case_id: case for case in findings.cases}
    scores = {s.case_id: s for s in findings.scores}
    window = SOFT_TISSUE_WINDOW if dataset.channel_names[0].casefold() == "ct" else None
    settings = PictureSettings(window=window, calibrated=calibrated)
    pictures = []
    for choice in choose_cases(findings.scores):
        files = by_id[choice.case_id]
        try:
            case = dataset.load(files)
            prediction = read_labels(findings.prediction_of(files), dataset.scheme)
        except DelineateError:
            continue  # told already among the failed cases
        if case.labels is None:
            continue
        pictures.append(
            picture_case(
                scores[choice.case_id],
                case.image,
                case.labels,
                prediction,
                dataset.scheme,
                role=choice.role,
                settings=settings,
            )
        )
    return tuple(pictures)
