"""Does a model know when it is wrong? Its doubt, judged on ordinary cases and on shifted ones.

Every case is judged by a reference that was made without its patient: the ordinary cases are divided into groups, and
each group is judged by what the others teach. Cases that are done stand in the output folder, so that an interrupted
study goes on.
"""

from __future__ import annotations

import datetime
import math
import platform
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.case import Case, Image, LabelMap
from delineate.errors import DelineateError, InputError, Interrupted
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.datasets import CaseFiles, Dataset, open_dataset
from delineate.formats.evaluation_json import Provenance, number_from_json, write_results
from delineate.formats.examined_case import Examined, read_examined, write_examined
from delineate.formats.images import read_image
from delineate.formats.model_package import ModelPackage, read_package
from delineate.formats.trust_study_files import write_study_tables
from delineate.metrics.calibration import Reliability, reliability
from delineate.metrics.cohort import CaseRows, summarise_rows
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.trust_study import JudgedCase, TrustStudy, study_trust
from delineate.metrics.table import WORST_VALUE, Presence, StructureRow
from delineate.metrics.trust import TrustReference, expected_dice, fit_reference, outlier_of, scores_of
from delineate.phantoms.shifts import Shift, shifts_for
from delineate.reports import Fact, render_evaluation
from delineate.training.machine import AUTO
from delineate.workflows.examine_case import examine_case
from delineate.workflows.model import Model, assemble, load_model
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.resume_run import open_run
from delineate.workflows.segment_folder import find_images

GROUPS = 4
"""The reference is made from three quarters of the ordinary cases and judged on the rest, in turn."""
PRESENCE: Mapping[tuple[bool, bool], Presence] = {
    (True, True): "true_positive",
    (True, False): "false_positive",
    (False, True): "false_negative",
    (False, False): "true_negative",
}
"""Whether prediction and reference have a structure."""
ORDINARY = "ordinary"
"""Folder of the cases as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyRequest:
    """What is studied."""

    model: Path
    """A run, or with ``dataset`` any model."""
    dataset: Path | None = None
    """Cases with references that no fold was trained on; None: the validation cases of the run."""
    shifted: Mapping[str, Path] = field(default_factory=dict)
    """Name -> folder of a dataset of the same structures, or of images alone."""
    shifted_cases: int = 60
    """Ordinary cases that are also shifted."""
    failure_below: float = 0.7
    """A case of lower mean Dice is a failure."""
    folds: tuple[str, ...] | None = None
    """Of the run; None: all that the model has."""
    configuration: str | None = None
    seed: int = 0
    device: str = AUTO
    command: str = "delineate trust"
    """How the study was started, for the report."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Task:
    """One prediction to make."""

    shift: str
    """Empty: an ordinary case."""
    files: CaseFiles
    load: Callable[[], Case]
    model: Model
    truth: bool = True
    """Whether there is a reference; without one the Dice of the case is not known."""


def study_model(
    request: StudyRequest, out: Path, *, progress: Progress | None = None, cancellation: Cancellation | None = None
) -> Evaluation:
    """Predict ordinary and shifted cases, judge the model's doubt, and write the study.

    Parameters
    ----------
    request
        What is studied.
    out
        Gets the cases, ``results.json``, ``report.html`` and tables.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    Evaluation
        With ``trust``; what could not be predicted is among its notices.

    Raises
    ------
    InputError
        If there are too few cases.
    Interrupted
        If a stop was requested; finished cases stay.
    DelineateError
        Whatever reading the model or the data raises.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    package, tasks = _tasks(request)
    done, failed = _examined(tasks, out, progress, cancellation)
    ordinary = [e for shift, e in done if not shift]
    group_of = _groups([e.patient_id for e in ordinary])
    references = _references(ordinary, group_of, regions=package.scheme.has_regions)
    judged = _judged(done, group_of, references)
    names = [name for name in judged[0].scores if any(not math.isnan(c.scores[name]) for c in judged)]
    shifts, failures = study_trust(judged, names, failure_below=request.failure_below, seed=request.seed)
    before, after = _reliabilities(ordinary, group_of, references, regions=package.scheme.has_regions)
    temperatures = [r.temperature for r in references if r.temperature]
    study = TrustStudy(
        shifts=shifts,
        failures=failures,
        temperature=float(np.mean(temperatures)) if temperatures else None,
        reliability_before=before,
        reliability_after=after,
        seed=request.seed,
    )
    write_study_tables(out, study, judged)
    evaluation = _evaluation(package, ordinary, study, failed)
    _write(evaluation, request, out)
    return evaluation


def _evaluation(
    package: ModelPackage, ordinary: Sequence[Examined], study: TrustStudy, failed: Sequence[str]
) -> Evaluation:
    """Return the study with the Dice of the ordinary cases as an evaluation."""
    cases = tuple(_rows(examined) for examined in ordinary)
    return Evaluation(
        name=package.name,
        cases=cases,
        table=summarise_rows(cases, seed=study.seed),
        metrics=("dice",),
        trust=study,
        notices=tuple(f"not predicted: {reason}" for reason in failed),
        seed=study.seed,
    )


def _rows(examined: Examined) -> CaseRows:
    pairs = zip(examined.honest.observation.shapes, examined.population.shapes, strict=True)
    return CaseRows(
        case_id=examined.case_id,
        patient_id=examined.patient_id,
        rows=tuple(
            StructureRow(
                name=predicted.name,
                presence=PRESENCE[predicted.volume_mm3 > 0, reference.volume_mm3 > 0],
                values={"dice": number_from_json(examined.dice[predicted.name])},
                predicted_ml=predicted.volume_mm3 / 1000,
                reference_ml=reference.volume_mm3 / 1000,
                policy=WORST_VALUE.name,
                tolerance_mm=math.nan,
            )
            for predicted, reference in pairs
        ),
    )


def _write(evaluation: Evaluation, request: StudyRequest, out: Path) -> None:
    created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    software = {"delineate": __version__, "python": platform.python_version()}
    provenance = Provenance(
        software=software,
        command=request.command,
        created=created,
        policy=WORST_VALUE.name,
        tolerance_mm={},
        predictions={},
        references={},
        recorded={},
        grouping={},
    )
    write_results(out, evaluation, provenance)
    facts = (Fact(label="Command", value=request.command), Fact(label="Software", value=f"Delineate {__version__}"))
    render_evaluation(evaluation, out / "report.html", facts=facts, created=created)


def _tasks(request: StudyRequest) -> tuple[ModelPackage, list[_Task]]:
    """Return every prediction that the study needs."""
    if request.dataset is None:
        run = open_run(request.model, configuration=request.configuration, device=request.device)
        package, dataset = read_package(run.folder.model, folds=request.folds), run.planned.dataset
        model = assemble(package, run.machine)
        by_id = {case.case_id: case for case in dataset.training}
        pairs = [(by_id[i], model.only(f)) for f in package.weights if f != EVERY_CASE for i in run.split(f).validation]
    else:
        model = load_model(
            request.model, folds=request.folds, device=request.device, configuration=request.configuration
        )
        package, dataset = model.package, open_dataset(request.dataset)
        pairs = [(files, model) for files in dataset.training]
    if not pairs:
        raise InputError(f"{request.model} has no validation cases; give a dataset that it was not trained on.")
    tasks = [_Task(shift="", files=f, load=_loader(dataset, f, None), model=m) for f, m in pairs]
    tasks += _synthetic(request, dataset, pairs)
    models = [model.only(f) for f in package.weights] if request.dataset is None else [model]
    for name, folder in request.shifted.items():
        tasks += _foreign(name, folder, models)
    return package, tasks


def _synthetic(request: StudyRequest, dataset: Dataset, pairs: Sequence[tuple[CaseFiles, Model]]) -> Iterator[_Task]:
    """Yield the shifted copies of cases that are spread evenly over the folds."""
    count = min(request.shifted_cases, len(pairs))
    chosen = [pairs[int(i)] for i in np.linspace(0, len(pairs) - 1, count)] if count else []
    grid_of = dataset.load(chosen[0][0]).image.grid if chosen else None
    for name, shift in ({} if grid_of is None else shifts_for(grid_of)).items():
        for files, model in chosen:
            yield _Task(shift=name, files=files, load=_loader(dataset, files, (name, shift)), model=model)


def _loader(dataset: Dataset, files: CaseFiles, shift: tuple[str, Shift] | None) -> Callable[[], Case]:
    def load() -> Case:
        case = dataset.load(files)
        if shift is None:
            return case
        name, change = shift
        return change(case, np.random.default_rng(zlib.crc32(f"{name} {files.case_id}".encode())))

    return load


def _foreign(name: str, folder: Path, models: Sequence[Model]) -> Iterator[_Task]:
    """Yield the cases of a user's folder, each for one of the models in turn; without masks their Dice is unknown."""
    try:
        dataset: Dataset | None = open_dataset(folder)
    except DelineateError:
        dataset = None
    cases = dataset.training if dataset is not None else find_images(folder, len(models[0].package.channel_names))
    for i, files in enumerate(cases):
        load = _loader(dataset, files, None) if dataset is not None else _image_loader(files)
        model = models[i % len(models)]
        yield _Task(shift=name, files=files, load=load, model=model, truth=dataset is not None)


def _image_loader(files: CaseFiles) -> Callable[[], Case]:
    def load() -> Case:
        image: Image = read_image(files.images)
        nothing = LabelMap(array=np.zeros(image.grid.shape, np.uint8), grid=image.grid)
        return Case(case_id=files.case_id, patient_id=files.patient_id, image=image, labels=nothing)

    return load


def _examined(
    tasks: Sequence[_Task], out: Path, progress: Progress, cancellation: Cancellation
) -> tuple[list[tuple[str, Examined]], tuple[str, ...]]:
    """Make the predictions that are not there yet; return all with their shift, and what failed with its reason."""
    progress.start("predict", len(tasks))
    done: list[tuple[str, Examined]] = []
    failed = []
    for task in tasks:
        cancellation.check()
        folder = out / "cases" / (task.shift or ORDINARY).replace("/", "-").replace(" ", "_")
        try:
            found = read_examined(folder, task.files.case_id)
            if found is None:
                found = examine_case(task.load(), task.model, cancellation=cancellation)
                write_examined(folder, found)
                # as it is stored, so that a study that goes on later says the same
                found = read_examined(folder, task.files.case_id) or found
            done.append((task.shift, found if task.truth else _without_truth(found)))
        except Interrupted:
            raise
        except DelineateError as error:
            failed.append(f"{task.shift or ORDINARY}, {task.files.case_id}: {error}")
        progress.advance(note=f"{task.shift or ORDINARY} {task.files.case_id}")
    progress.finish()
    return done, tuple(failed)


def _without_truth(examined: Examined) -> Examined:
    return replace(examined, honest=replace(examined.honest, dice=math.nan), dice=dict.fromkeys(examined.dice))


def _groups(patients: Sequence[str]) -> dict[str, int]:
    """Return the group of each patient, in turn over the order of the cases, so that every fold is in every group."""
    return {patient: i % GROUPS for i, patient in enumerate(dict.fromkeys(patients))}


def _references(ordinary: Sequence[Examined], group_of: Mapping[str, int], *, regions: bool) -> list[TrustReference]:
    """Return per group what the other groups teach."""
    references = []
    for group in range(GROUPS):
        others = [e for e in ordinary if group_of[e.patient_id] != group]
        references.append(
            fit_reference(
                [e.population for e in others], [e.honest for e in others], origin="out of fold", regions=regions
            )
        )
    return references


def _judged(
    done: Sequence[tuple[str, Examined]], group_of: Mapping[str, int], references: Sequence[TrustReference]
) -> list[JudgedCase]:
    judged = []
    for number, (shift, examined) in enumerate(done):
        reference = references[group_of.get(examined.patient_id, number % GROUPS)]
        observation = examined.honest.observation
        scores = scores_of(observation, reference)
        quality, outlier = expected_dice(observation, reference, scores), outlier_of(scores)
        judged.append(
            JudgedCase(
                case_id=examined.case_id,
                patient_id=examined.patient_id,
                shift=shift,
                scores={"quality": 1 - quality, "outlier": outlier, **scores},
                dice=examined.honest.dice,
            )
        )
    return judged


def _reliabilities(
    ordinary: Sequence[Examined],
    group_of: Mapping[str, int],
    references: Sequence[TrustReference],
    *,
    regions: bool,
) -> tuple[Reliability | None, Reliability | None]:
    """Return the reliability at temperature 1 and at the temperature that the other groups teach."""
    parts: dict[bool, list[tuple[NDArray[Any], NDArray[Any]]]] = {False: [], True: []}
    for examined in ordinary:
        temperature = references[group_of[examined.patient_id]].temperature
        if len(examined.honest.logits) and temperature:
            for cooled in (False, True):
                scale = np.asarray(temperature if cooled else (1.0,))
                parts[cooled].append(_stated(examined.honest.logits / scale, examined.honest.truths, regions=regions))
    if not parts[False]:
        return None, None
    before, after = (
        reliability(np.concatenate([p for p, _ in part]), np.concatenate([t for _, t in part]))
        for part in (parts[False], parts[True])
    )
    return before, after


def _stated(
    logits: NDArray[Any], truths: NDArray[Any], *, regions: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the probability of what is said at each voxel, and whether it is true."""
    values = logits.astype(np.float64)
    if regions:
        return (1 / (1 + np.exp(-np.abs(values)))).ravel(), ((values > 0) == (truths > 0)).ravel()
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers.max(1) / powers.sum(1), values.argmax(1) == truths
