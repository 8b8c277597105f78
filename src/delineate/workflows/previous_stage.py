"""The first stage of a cascade in training: every case as the model saw it that was not trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.errors import ModelError, UsageError
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.model_package import DOCUMENT, ModelPackage, read_package
from delineate.formats.prepared_store import PreparedStore, StoredCase
from delineate.formats.recipe_json import read_recipe
from delineate.formats.stage_labels import open_stage_labels, stage_file, write_stage_labels
from delineate.inference import predict_logits
from delineate.preprocessing import restore_to_next_stage
from delineate.workflows.decide_training import Decision
from delineate.workflows.model import Model, assemble
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.score_cases import CaseSource, keep_only_predictions_of
from delineate.workflows.training_run import TrainingRun


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedStore:
    """Prepared cases of a cascade, each with what its first stage said."""

    store: PreparedStore
    folder: Path

    def open(self, case_id: str) -> StoredCase:
        """Open one case for reading patches.

        Raises
        ------
        ImageReadError
            If the case or its first stage is missing, incomplete or damaged.
        """
        return replace(self.store.open(case_id), previous=open_stage_labels(self.folder, case_id))


def cases_of(run: TrainingRun, fold: str) -> CaseSource:
    """Return where the prepared cases of a fold come from; a cascade's with their first stage."""
    stage = run.decision.configuration.previous_stage
    return run.store if stage is None else StagedStore(store=run.store, folder=_stage_folder(run, stage, fold))


def previous_package(run: TrainingRun) -> ModelPackage | None:
    """Return the trained first stage of a cascade; None of any other run.

    Raises
    ------
    UsageError
        If it was not trained in the same folder; says what to do.
    """
    stage = run.decision.configuration.previous_stage
    return None if stage is None else read_package(_previous_run(run, stage).folder.model)


def predict_previous_stage(
    run: TrainingRun,
    fold: str,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> None:
    """Predict the cases of a cascade's fold with its first stage; what stands already is kept.

    Each case is predicted by the fold of the first stage that did not see it; for the fold ``all``, by the first stage
    that was trained on all. Does nothing for a run that is no cascade.

    Raises
    ------
    UsageError
        If the first stage was not trained in the same folder.
    ModelError
        If folds of the first stage are missing.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    stage = run.decision.configuration.previous_stage
    if stage is None:
        return
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    earlier = _previous_run(run, stage)
    model = assemble(read_package(earlier.folder.model), run.machine)
    folder = _stage_folder(run, stage, fold)
    keep_only_predictions_of(model, folder)
    by_fold = _cases_by_fold(earlier, model, fold, [*run.split(fold).train, *run.split(fold).validation])
    missing = {k: [i for i in ids if not stage_file(folder, i).exists()] for k, ids in by_fold.items()}
    total = sum(len(ids) for ids in missing.values())
    if not total:
        return
    earlier.prepare(progress=progress, cancellation=cancellation)
    progress.start(f"predict {stage}", total)
    for name, case_ids in missing.items():
        member = model.only(name) if case_ids else model
        for case_id in case_ids:
            cancellation.check()
            _predict_one(member, earlier, run, case_id, folder, cancellation)
            progress.advance(note=case_id)
    progress.finish()


def _predict_one(
    model: Model, earlier: TrainingRun, run: TrainingRun, case_id: str, folder: Path, cancellation: Cancellation
) -> None:
    stored = earlier.store.open(case_id)
    logits = predict_logits(model.ensemble, stored.array[...], model.tiling, cancellation=cancellation)
    shape = run.store.open(case_id).array.shape[1:]
    labels = restore_to_next_stage(logits, stored.trace, model.package.scheme, shape)
    write_stage_labels(folder, case_id, labels, run.decision.configuration.patch_size)


def _cases_by_fold(run: TrainingRun, model: Model, fold: str, case_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return which fold of the first stage predicts which cases."""
    trained = model.package.weights
    if fold == EVERY_CASE:
        found = {EVERY_CASE: list(dict.fromkeys(case_ids))} if EVERY_CASE in trained else {}
        lacking = [] if found else [EVERY_CASE]
    else:
        folds = [str(k) for k in range(len(run.planned.splits))]
        wanted = {k: [i for i in run.split(k).validation if i in set(case_ids)] for k in folds}
        found = {k: ids for k, ids in wanted.items() if ids and k in trained}
        lacking = [k for k, ids in wanted.items() if ids and k not in trained]
    if lacking:
        raise ModelError(
            f"The cascade needs predictions of {model.package.configuration.name} for cases that it did not see; its "
            f"folds {', '.join(lacking)} are missing. Train them first: `delineate train {run.folder.root} "
            f"--configuration {run.folder.configuration} --fold {' '.join(lacking)}`."
        )
    return found


def _previous_run(run: TrainingRun, stage: str) -> TrainingRun:
    folder = replace(run.folder, configuration=stage)
    if not (folder.recipe.exists() and (folder.model / DOCUMENT).exists()):
        raise UsageError(
            f"{run.folder.root} holds no trained {stage}, the stage before {run.decision.configuration.name}. Train it "
            f"first: `delineate plan DATASET --out {run.folder.root} --configuration {stage}`, then `delineate train "
            f"{run.folder.root} --configuration {stage} --fold every`."
        )
    configuration, recipe = read_recipe(folder.recipe)
    return replace(run, folder=folder, decision=Decision(configuration=configuration, recipe=recipe))


def _stage_folder(run: TrainingRun, stage: str, fold: str) -> Path:
    folder = replace(run.folder, configuration=stage).next_stage(
        run.folder.configuration or run.decision.configuration.name
    )
    return folder / EVERY_CASE if fold == EVERY_CASE else folder
