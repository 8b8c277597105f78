"""What does a site cost that the training never saw? Two runs of one dataset: one knew the sites, one did not.

Which training knew what is not believed from names but looked up in the splits of the runs, case by case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from delineate.errors import UsageError
from delineate.execution import Watched
from delineate.formats.nnunet.splits_json import read_splits
from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.site_shift import measure_shift
from delineate.planning.splits import every_case
from delineate.planning.standing import Standing, standing_of
from delineate.workflows.case_groups import CaseGroups, case_groups
from delineate.workflows.evaluate_model import evaluate_model
from delineate.workflows.evaluation_request import METRICS, TOLERANCE_MM, EvaluationRequest
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.prepare_dataset import dataset_of_run
from delineate.workflows.run_folder import RunFolder

__all__ = ["METRICS", "TOLERANCE_MM", "SitesRequest", "compare_sites"]

KNOWN = "known"
"""Folder of the evaluation of the run that knew the sites, in that of the comparison."""
SHOWN = 8
"""Case ids that a sentence lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SitesRequest:
    """What is to be compared."""

    known: Path
    """Run whose folds trained on other patients of the sites that they validate: an ordinary cross-validation."""
    unseen: Path
    """Run whose folds did not train on the sites that they validate (``--split-by site``)."""
    by: str
    """Column of the table: ``site``."""
    table: Path | None = None
    """CSV or TSV file with a row per case; None: the one in the dataset's folder."""
    own_patients: bool = False
    """Also count cases of ``known`` whose own patient was trained on; the drop is then an upper bound."""
    metrics: tuple[str, ...] = METRICS
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM
    seed: int = 0
    workers: int = 1
    command: str = "delineate sites"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Predicted:
    """The validation predictions of a run, and what its trainings knew of each case."""

    place: Path
    """The run, or the folder of the predictions of fold ``all``."""
    run: Path
    standing: Mapping[str, Standing]
    trained_on: Mapping[str, int]
    """Training cases of the fold that predicted the case."""
    groups: CaseGroups
    unrecorded: int
    """Cases of the dataset whose group is not recorded."""


def compare_sites(request: SitesRequest, out: Path, **watched: Unpack[Watched]) -> Evaluation:
    """Evaluate both runs and measure the drop from known to unseen sites.

    Parameters
    ----------
    request
        The two runs, and by what their cases are grouped.
    out
        Gets the evaluation of the unseen run with ``shifts`` and ``subgroups``; ``out/known`` that of the known run.
    **watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If a run has no validation predictions, the unseen run saw sites that it validates, or no case of the known run
        was predicted by a training that knew its site.
    DelineateError
        Whatever evaluating raises.
    """
    known, unseen = (_predicted(place, request) for place in (request.known, request.unseen))
    _require_unseen(unseen)
    counted = _known_cases(known, own_patients=request.own_patients)
    found = evaluate_model(_evaluation_of(known, request), out / KNOWN, **watched)
    cases = tuple(case for case in found.cases if case.case_id in counted)
    return evaluate_model(
        _evaluation_of(unseen, request),
        out,
        answer_more=partial(_with_shift, cases, known, unseen, request),
        **watched,
    )


def _evaluation_of(predicted: _Predicted, request: SitesRequest) -> EvaluationRequest:
    return EvaluationRequest(
        predictions=predicted.place,
        references=predicted.run,
        table=predicted.groups.table,
        by=(predicted.groups.column,),
        metrics=request.metrics,
        tolerance_mm=request.tolerance_mm,
        seed=request.seed,
        workers=request.workers,
        command=request.command,
    )


def _with_shift(
    cases: tuple[CaseRows, ...], known: _Predicted, unseen: _Predicted, request: SitesRequest, found: Evaluation
) -> Evaluation:
    apart = tuple(case for case in found.cases if unseen.standing[case.case_id] == "unseen")
    site_of = {**known.groups.group_of, **unseen.groups.group_of}
    shifts = measure_shift(cases, apart, site_of, request.metrics, seed=request.seed)
    used = [case.case_id for case in cases]
    told = (*_notices_of_known(known, used), *_notices_of_both(known, unseen, used))
    return replace(found, shifts=shifts, notices=(*told, *found.notices))


def _predicted(place: Path, request: SitesRequest) -> _Predicted:
    """Look up what the trainings of a run knew of the cases that they predicted."""
    folder = RunFolder(root=place)
    dataset = dataset_of_run(folder)
    groups = case_groups(dataset.training, dataset.root, request.by, request.table)
    patient_of = {case.case_id: case.patient_id for case in dataset.training}
    splits = {str(fold): split for fold, split in enumerate(read_splits(folder.splits))}
    folds = {fold: split for fold, split in splits.items() if folder.validation(fold).is_dir()}
    if not folds and folder.validation(EVERY_CASE).is_dir():
        folds = {EVERY_CASE: every_case(tuple(patient_of))}
    if not folds:
        raise UsageError(
            f"{place}: expected predicted validation cases in fold_0/validation and so on; found none. Train and "
            f"predict them with `delineate run DATASET --fold every -o {place}`."
        )
    pairs = [(case_id, split.train) for split in folds.values() for case_id in split.validation]
    return _Predicted(
        place=folder.validation(EVERY_CASE) if EVERY_CASE in folds else place,
        run=place,
        standing={i: standing_of(i, train, groups.group_of, patient_of) for i, train in pairs},
        trained_on={i: len(train) for i, train in pairs},
        groups=groups,
        unrecorded=len(set(patient_of) - set(groups.group_of)),
    )


def _require_unseen(predicted: _Predicted) -> None:
    seen = [i for i, standing in predicted.standing.items() if standing in ("known", "own patient")]
    if seen:
        raise UsageError(
            f"{predicted.run}: expected folds that never saw the {predicted.groups.column} of the cases that they "
            f"validate; {len(seen)} of {len(predicted.standing)} cases were predicted by trainings that did "
            f"({_listed(seen)}). Make such a run with `delineate run DATASET --split-by {predicted.groups.column} "
            "--fold every`, and name it second."
        )


def _known_cases(predicted: _Predicted, *, own_patients: bool) -> frozenset[str]:
    wanted = ("known", "own patient") if own_patients else ("known",)
    cases = frozenset(i for i, standing in predicted.standing.items() if standing in wanted)
    if not cases:
        own = sum(standing == "own patient" for standing in predicted.standing.values())
        remedy = (
            f"{own} were predicted by trainings that held the patient itself; --own-patients counts them, and the drop "
            "is then an upper bound."
            if own
            else f"A {predicted.groups.column} is known only if it has several patients, in different folds."
        )
        raise UsageError(
            f"{predicted.run}: none of {len(predicted.standing)} cases was predicted by a training on other patients "
            f"of its {predicted.groups.column}, so nothing says what knowing it is worth. {remedy}"
        )
    return cases


def _notices_of_known(known: _Predicted, used: list[str]) -> Iterator[str]:
    column, standing = known.groups.column, known.standing
    own = [i for i in used if standing[i] == "own patient"]
    proper = len(used) - len(own)
    yield (
        f"Known {column}: {proper} case(s) were predicted by trainings on other patients of the same {column}, as the "
        "splits say."
    )
    if own:
        yield (
            f"{len(own)} of {len(used)} known cases were predicted by trainings that held their own patient "
            f'({_listed(own)}): there "known" is an optimistic bound, and the drop the most that an unseen {column} '
            "can have cost, not what it costs."
        )
    for reason, words in (("unseen", f"no training case was of their {column}"), ("unclear", f"no {column} recorded")):
        if left := [i for i, found in standing.items() if found == reason]:
            yield f"{len(left)} case(s) of the known run are not counted as known, {words}: {_listed(left)}."
    if not own and (left := [i for i, found in standing.items() if found == "own patient"]):
        yield f"{len(left)} case(s) of the known run are left out, their own patient was trained on: {_listed(left)}."


def _notices_of_both(known: _Predicted, unseen: _Predicted, used: list[str]) -> Iterator[str]:
    column = unseen.groups.column
    sites = sorted({unseen.groups.group_of[i] for i, found in unseen.standing.items() if found == "unseen"})
    yield (
        f"Unseen {column}: {len(sites)} in all ({_listed(sites)}). The intervals draw patients, not {column}s: they "
        f"speak about these, and say nothing about the next {column}."
    )
    before, after = (
        sum(side.trained_on[i] for i in ids) / len(ids)
        for side, ids in ((known, used), (unseen, list(unseen.trained_on)))
    )
    yield (
        f"Training cases per fold, mean over predicted cases: {before:.1f} known, {after:.1f} unseen. A difference of "
        "these is part of the drop."
    )
    if unseen.unrecorded:
        yield (
            f"{unseen.unrecorded} case(s) have no {column} recorded; where they were trained on, an unseen "
            f"{column} may have been theirs."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
