"""Which configuration, or which pair of them, is best in cross-validation, and which post-processing it gets.

References
----------
nnU-Net 2.8.1, ``evaluation/find_best_configuration.py``: the criterion is the foreground mean of the Dice over the
merged validation cases of all folds; of equals the first wins, and single configurations come before pairs.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from delineate.errors import SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Progress, Silent, Watched, require_writable, write_text
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import write_labels
from delineate.formats.model_package import DOCUMENT, read_package, write_package
from delineate.inference import predict_logits
from delineate.inference.probability_ensemble import ensemble_labels
from delineate.metrics import PostprocessingChoice
from delineate.metrics.postprocessing_choice import foreground_dice
from delineate.training.machine import AUTO
from delineate.workflows.choose_postprocessing import RECORD, choose_for_predictions
from delineate.workflows.ensemble_predictions import common_scheme
from delineate.workflows.model import Model, assemble
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.predict_validation import predict_validation
from delineate.workflows.previous_stage import cases_of
from delineate.workflows.resume_run import open_run
from delineate.workflows.score_cases import (
    keep_only_predictions_by,
    network_input,
    prediction_path,
    score_cases,
)
from delineate.workflows.training_run import TrainingRun

INFORMATION = "inference_information.json"
INSTRUCTIONS = "inference_instructions.txt"
ORDER = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
"""Of equals the first wins (nnU-Net's order); other names come after these."""
TRAINER = "delineate"
"""What stands where nnU-Net names its trainer class."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Member:
    """A trained configuration with its cross-validation."""

    run: TrainingRun
    model: Model
    fold_of: Mapping[str, str]
    """Case id -> the fold that did not see it."""

    @property
    def name(self) -> str:
        """Trainer, plan and configuration, as nnU-Net names a trained model."""
        return f"{TRAINER}__{self.model.package.plan.plans_name}__{self.model.package.configuration.name}"

    @property
    def folds(self) -> tuple[str, ...]:
        """Folds that predict validation cases."""
        return tuple(dict.fromkeys(self.fold_of.values()))

    def prediction(self, case_id: str) -> Path:
        """Return where the validation prediction of a case stands."""
        folder = self.run.folder.validation(self.fold_of[case_id])
        return prediction_path(folder, case_id, self.run.planned.dataset)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contender:
    """A single configuration, or a pair, and how good it is."""

    name: str
    members: tuple[Member, ...]
    folder: Path
    """Of the merged scores; of pairs also of the label maps."""
    dice: float

    def prediction(self, files: CaseFiles) -> Path:
        """Return where the cross-validation prediction of a case stands."""
        if len(self.members) == 1:
            return self.members[0].prediction(files.case_id)
        return prediction_path(self.folder, files.case_id, self.members[0].run.planned.dataset)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BestConfiguration:
    """What won."""

    best: Contender
    contenders: tuple[Contender, ...]
    choice: PostprocessingChoice
    out: Path
    postprocessing: Path
    instructions: tuple[str, ...] = field(default=())


def find_best(
    roots: Sequence[Path],
    out: Path,
    *,
    ensembles: bool = True,
    mirroring: bool = True,
    device: str = AUTO,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> BestConfiguration:
    """Compare all trained configurations and every pair of them, and choose the post-processing of the best.

    Validation predictions that are missing are made. The post-processing of a single winner is written into its model
    package; that of a pair stands beside its label maps.

    Parameters
    ----------
    roots
        Run folders of one dataset; each may hold several configurations.
    out
        Where :data:`INFORMATION`, :data:`INSTRUCTIONS` and the label maps of pairs are written.
    ensembles
        Also compare pairs.
    mirroring
        Average over mirrored images where a model was trained with mirroring.
    device, workers
        Where predictions run, and how many cases are post-processed at a time.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If there is no trained configuration, or they were not validated on the same cases.
    SomeCasesFailed
        If cases could not be scored.
    Interrupted
        If a stop was requested; finished predictions stay.
    """
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    require_writable(out)
    members = _members(roots, device, mirroring=mirroring)
    cases = _cases(members)
    for member in members:
        for fold in member.folds:
            predict_validation(member.run, member.model, fold, **watched)
    pairs = tuple(itertools.combinations(members, 2)) if ensembles else ()
    _predict_pairs(pairs, cases, out, **watched)
    contenders = tuple(_contend(group, cases, out, **watched) for group in [*((m,) for m in members), *pairs])
    best = max(contenders, key=lambda c: -math.inf if math.isnan(c.dice) else c.dice)
    dataset = best.members[0].run.planned.dataset
    choice = choose_for_predictions(cases, dataset, best.prediction, best.folder, workers=workers, **watched)
    if len(best.members) == 1:
        _keep_postprocessing(best.members[0], choice)
    result = BestConfiguration(
        best=best, contenders=contenders, choice=choice, out=out, postprocessing=best.folder / RECORD
    )
    result = replace(result, instructions=_instructions(result))
    write_text(out / INFORMATION, json.dumps(_information(result), indent=4))
    write_text(out / INSTRUCTIONS, "\n".join(result.instructions) + "\n")
    return result


def _members(roots: Sequence[Path], device: str, *, mirroring: bool = True) -> tuple[Member, ...]:
    found = []
    for root in roots:
        chosen = [None] if (root / "model" / DOCUMENT).is_file() else []
        named = sorted((path.parent.parent.name for path in root.glob(f"*/model/{DOCUMENT}")), key=_place)
        for name in [*chosen, *named]:
            found.append(_member(open_run(root, configuration=name, device=device), mirroring=mirroring))
    members = tuple(member for member in found if member.fold_of)
    if not members:
        raise UsageError(
            f"{', '.join(map(str, roots))}: expected trained configurations with numbered folds; found none. Train "
            "them first: `delineate train RUN --configuration NAME --fold every`."
        )
    names_seen = [member.name for member in members]
    twice = sorted({name for name in names_seen if names_seen.count(name) > 1})
    if twice:
        raise UsageError(f"Each configuration may come once; {', '.join(twice)} came several times. Leave a run out.")
    common_scheme([member.model for member in members])
    return members


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _member(run: TrainingRun, *, mirroring: bool) -> Member:
    model = assemble(read_package(run.folder.model), run.machine, mirroring=mirroring)
    folds = [fold for fold in model.package.weights if fold != EVERY_CASE]
    return Member(run=run, model=model, fold_of={i: fold for fold in folds for i in run.split(fold).validation})


def _cases(members: Sequence[Member]) -> tuple[CaseFiles, ...]:
    """Return the validation cases, which must be the same for all."""
    first = set(members[0].fold_of)
    for member in members[1:]:
        if set(member.fold_of) != first:
            raise UsageError(
                f"Configurations can be compared on the same validation cases only; {members[0].name} has {len(first)} "
                f"from folds {', '.join(members[0].folds)}, {member.name} has {len(member.fold_of)} from folds "
                f"{', '.join(member.folds)}. Train the missing folds."
            )
    return tuple(case for case in members[0].run.planned.dataset.training if case.case_id in first)


def _pair_name(group: Sequence[Member]) -> str:
    return "___".join(["ensemble", *(member.name for member in group), "_".join(group[0].folds)])


def _predict_pairs(
    pairs: Sequence[tuple[Member, Member]], cases: Sequence[CaseFiles], out: Path, **watched: Unpack[Watched]
) -> None:
    """Write the label maps of all pairs; every case is predicted once by every member that a pair still needs."""
    folders = {pair: out / "ensembles" / _pair_name(pair) for pair in pairs}
    for pair, folder in folders.items():
        keep_only_predictions_by([member.model for member in pair], folder)
    watched["progress"].start("predict pairs", len(cases) if pairs else 0)
    for case in cases if pairs else ():
        watched["cancellation"].check()
        _predict_pairs_of(case.case_id, folders, watched["cancellation"])
        watched["progress"].advance(note=case.case_id)
    watched["progress"].finish()


def _predict_pairs_of(case_id: str, folders: Mapping[tuple[Member, Member], Path], cancellation: Cancellation) -> None:
    answers: dict[str, Any] = {}
    for pair, folder in folders.items():
        dataset = pair[0].run.planned.dataset
        target = prediction_path(folder, case_id, dataset)
        if target.exists():
            continue
        for member in pair:
            if member.name not in answers:
                answers[member.name] = _answer(member, case_id, cancellation)
        write_labels(target, ensemble_labels([answers[member.name] for member in pair], dataset.scheme))


def _answer(member: Member, case_id: str, cancellation: Cancellation) -> tuple[Any, Any]:
    fold = member.fold_of[case_id]
    stored = cases_of(member.run, fold).open(case_id)
    model = member.model.only(fold)
    array = network_input(stored, member.run.planned.dataset)
    return predict_logits(model.ensemble, array, model.tiling, cancellation=cancellation), stored.trace


def _contend(group: Sequence[Member], cases: Sequence[CaseFiles], out: Path, **watched: Unpack[Watched]) -> Contender:
    single = len(group) == 1
    folder = group[0].run.folder.crossval(group[0].folds) if single else out / "ensembles" / _pair_name(group)
    name = group[0].name if single else _pair_name(group)
    contender = Contender(name=name, members=tuple(group), folder=folder, dice=math.nan)
    scored = score_cases(cases, group[0].run.planned.dataset, contender.prediction, folder, **watched)
    if scored.failed:
        raise SomeCasesFailed(
            f"{len(scored.failed)} of {len(cases)} cases of {name} could not be scored.",
            [f"{failure.case_id}: {failure.reason}" for failure in scored.failed],
        )
    return replace(contender, dice=foreground_dice(scored.scores))


def _keep_postprocessing(member: Member, choice: PostprocessingChoice) -> None:
    """Write the steps into the package."""
    package = replace(member.model.package, postprocessing=choice.steps)
    if package.postprocessing != member.model.package.postprocessing:
        write_package(member.run.folder.model, package)


def _instructions(result: BestConfiguration) -> tuple[str, ...]:
    models = [str(member.run.folder.model) for member in result.best.members]
    lines = [f"{c.name}: {c.dice:.4f}" for c in result.contenders]
    if len(models) == 1:
        command = f"delineate predict {models[0]} -i INPUT_FOLDER -o OUTPUT_FOLDER"
        after = "Post-processing is part of the model package and applied by the command above:"
    else:
        command = (
            f"delineate ensemble {' '.join(models)} -i INPUT_FOLDER -o OUTPUT_FOLDER "
            f"--postprocessing {result.postprocessing}"
        )
        after = "Post-processing is applied by the command above:"
    return (
        "***All results:***",
        *lines,
        f"*Best*: {result.best.name}: {result.best.dice:.4f}",
        "",
        "***Run inference like this:***",
        command,
        "",
        after,
        *result.choice.reasons,
    )


def _information(result: BestConfiguration) -> dict[str, Any]:
    """Return nnU-Net's record of the comparison, with paths of our packages."""
    best, dataset = result.best, _dataset(result)
    return {
        "folds": list(best.members[0].folds),
        "dataset_name_or_id": dataset.name,
        "considered_models": [_spelled(c.members[0], "plans") for c in result.contenders if len(c.members) == 1],
        "ensembling_allowed": any(len(c.members) > 1 for c in result.contenders),
        "all_results": {c.name: None if math.isnan(c.dice) else c.dice for c in result.contenders},
        "best_model_or_ensemble": {
            "result_on_crossval_pre_pp": foreground_dice(result.choice.before),
            "result_on_crossval_post_pp": foreground_dice(result.choice.after),
            "postprocessing_file": str(result.postprocessing),
            "some_plans_file": str(best.members[0].run.folder.plan),
            "selected_model_or_models": [
                {**_spelled(member, "plans_identifier"), "model": str(member.run.folder.model)}
                for member in best.members
            ],
        },
    }


def _spelled(member: Member, plans_key: str) -> dict[str, str]:
    package = member.model.package
    return {"configuration": package.configuration.name, "trainer": TRAINER, plans_key: package.plan.plans_name}


def _dataset(result: BestConfiguration) -> Dataset:
    return result.best.members[0].run.planned.dataset
