"""The end of a run: held-out cases are predicted and scored, and the report is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from delineate.errors import DelineateError, Interrupted
from delineate.execution import Cancellation, Progress, Silent, Watched
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.model_package import ModelPackage, write_package
from delineate.metrics.scores import CaseScores
from delineate.metrics.summary import Summary, summarise
from delineate.reports import Fact, FailedCase, Fold
from delineate.training.history import read_history
from delineate.workflows.fit_trust import fit_trust_of_run
from delineate.workflows.model import Model, assemble
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.predict_validation import predict_validation
from delineate.workflows.score_cases import (
    Scored,
    keep_only_predictions_of,
    prediction_path,
    score_cases,
)
from delineate.workflows.segment_folder import segment_files
from delineate.workflows.training_run import TrainingRun
from delineate.workflows.write_report import Findings, TrainingStory, machine_facts, software_facts, write_report


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conclusion:
    """How good the model turned out to be."""

    validation: Summary
    """Of the validation cases of the trained folds."""
    test: Summary | None
    """Of the dataset's test cases, where it has references for them."""


def conclude_run(
    run: TrainingRun,
    package: ModelPackage,
    *,
    mirroring: bool = True,
    notices: Sequence[str] = (),
    times: Sequence[Fact] = (),
    command: str = "delineate report",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Conclusion:
    """Predict and score what the model has not seen, and write the report; predictions that stand are kept.

    Raises
    ------
    SomeCasesFailed
        If test cases could not be segmented.
    Interrupted
        If a stop was requested; finished predictions stay.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    model = assemble(package, run.machine, mirroring=mirroring)
    validation = validate_folds(run, model, progress, cancellation)
    notices = (*notices, *_learn_trust(run, package, validation, progress, cancellation))
    test = _test(run, model, progress, cancellation)
    conclusion = Conclusion(
        validation=summarise(validation.scores),
        test=summarise(test.scores) if test is not None and test.scores else None,
    )
    write_report(
        _findings(run, tuple(package.weights), validation, test),
        run.planned.dataset,
        run.folder.report,
        training=TrainingStory(
            planned=run.planned,
            decision=run.decision,
            histories={fold: read_history(run.folder.fold(fold)) for fold in package.weights},
            notices=tuple(notices),
        ),
        facts=(
            *times,
            *machine_facts(run.machine),
            _mirroring_fact(model),
            *_fold_facts(run),
            *_validation_fact(conclusion),
        ),
        provenance=software_facts(command, run.decision.recipe.seed),
    )
    return conclusion


def validate_folds(run: TrainingRun, model: Model, progress: Progress, cancellation: Cancellation) -> Scored:
    """Predict each fold's validation cases with that fold's network alone, watched, and score them.

    Raises
    ------
    Interrupted
        If a stop was requested; finished predictions stay.
    """
    dataset, watched = run.planned.dataset, Watched(progress=progress, cancellation=cancellation)
    cases = {case.case_id: case for case in dataset.training}
    scores: list[CaseScores] = []
    failed: list[FailedCase] = []
    for fold in model.package.weights:
        held_out, target = run.split(fold).validation, predict_validation(run, model, fold, watch=True, **watched)
        prediction_of = partial(_prediction_in, target, dataset)
        result = score_cases([cases[i] for i in held_out], dataset, prediction_of, target, **watched)
        scores.extend(result.scores)
        failed.extend(result.failed)
    return Scored(scores=tuple(scores), failed=tuple(failed))


def _learn_trust(
    run: TrainingRun, package: ModelPackage, validation: Scored, progress: Progress, cancellation: Cancellation
) -> tuple[str, ...]:
    """Put what is ordinary for the model into its package, unless it is there; return what the report should tell.

    The run has its model and its scores without it, so what prevents it is told and nothing more.
    """
    if package.trust is not None:
        return ()
    try:
        trust = fit_trust_of_run(run, package, validation.scores, progress=progress, cancellation=cancellation)
        write_package(run.folder.model, replace(package, trust=trust))
    except Interrupted:
        raise
    except DelineateError as error:
        return (f"`predict --assess` knows nothing ordinary to compare with: {error}",)
    return ()


def _test(run: TrainingRun, model: Model, progress: Progress, cancellation: Cancellation) -> Scored | None:
    """Predict the dataset's test cases with all folds; score those that have references."""
    dataset, target = run.planned.dataset, run.folder.test_predictions
    if not dataset.testing:
        return None
    keep_only_predictions_of(model, target)
    segment_files(
        model,
        dataset.testing,
        target,
        load=lambda files: dataset.load(replace(files, labels=None)).image,
        progress=progress,
        cancellation=cancellation,
    )
    known = [case for case in dataset.testing if case.labels is not None]
    if not known:
        return None
    prediction_of = partial(_prediction_in, target, dataset)
    return score_cases(known, dataset, prediction_of, target, progress=progress, cancellation=cancellation)


def _prediction_in(folder: Path, dataset: Dataset, case: CaseFiles) -> Path:
    return prediction_path(folder, case.case_id, dataset)


def _findings(run: TrainingRun, folds: tuple[str, ...], validation: Scored, test: Scored | None) -> Findings:
    """Choose what the report opens with: held-out test cases where there are references, else the validation cases."""
    dataset = run.planned.dataset
    if test is not None and test.scores:
        return Findings(
            evaluation="test",
            scores=test.scores,
            failed=test.failed,
            prediction_of=partial(_prediction_in, run.folder.test_predictions, dataset),
            cases=dataset.testing,
        )
    held_out = {fold: run.split(fold).validation for fold in folds}
    folder_of = {case_id: run.folder.validation(fold) for fold, ids in held_out.items() for case_id in ids}
    several = tuple(Fold(name=run.planned.title(fold), case_ids=ids) for fold, ids in held_out.items())
    return Findings(
        evaluation="training" if folds == (EVERY_CASE,) else "cross_validation" if len(folds) > 1 else "validation",
        scores=validation.scores,
        failed=validation.failed,
        prediction_of=lambda case: prediction_path(folder_of[case.case_id], case.case_id, dataset),
        cases=dataset.training,
        folds=several if len(several) > 1 else (),
    )


def _mirroring_fact(model: Model) -> Fact:
    axes = model.tiling.mirror_axes
    return Fact(label="Mirroring in prediction", value=f"axes {', '.join(map(str, axes))}" if axes else "none")


def _fold_facts(run: TrainingRun) -> tuple[Fact, ...]:
    """Tell which group (site) each fold holds out, and which cases are of none."""
    groups = run.planned.groups
    if groups is None:
        return ()
    facts = [Fact(label=f"Folds leave one {groups.column} out", value=groups.words)]
    if groups.not_recorded:
        value = f"{', '.join(groups.not_recorded)}; they train in all other folds, whose {groups.column} they may be of"
        facts.append(Fact(label=f"Cases of unknown {groups.column}", value=value))
    return tuple(facts)


def _validation_fact(conclusion: Conclusion) -> tuple[Fact, ...]:
    """Tell the validation result beside that of a test set, which the page opens with."""
    if conclusion.test is None:
        return ()
    found = conclusion.validation
    value = f"mean Dice {found.foreground_dice:.3f} over {found.n_cases} cases that were not trained on"
    return (Fact(label="Validation cases", value=value),)
