"""nnU-Net's comparison of trained configurations on nnU-Net's folders: singles, pairs, post-processing, instructions.

References
----------
nnU-Net 2.8.1, ``evaluation/find_best_configuration.py``: the criterion is the foreground mean of the Dice over the
merged validation cases; of equals the first wins, and single configurations come before pairs.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from delineate.errors import UsageError
from delineate.execution import Watched, write_text
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.workspace import RESULTS, NnunetDataset
from delineate.metrics.postprocessing_choice import foreground_dice
from delineate.workflows.choose_postprocessing import RECORD
from delineate.workflows.compare_folders import compare_folders, declared_comparison
from delineate.workflows.nnunet_crossvalidation import (
    DECLARATIONS,
    PICKLE,
    average_folders,
    determine_postprocessing,
    merge_folds,
)

INFORMATION = "inference_information.json"
INSTRUCTIONS = "inference_instructions.txt"
PREVIOUS_OUTPUT = "OUTPUT_FOLDER_PREV_STAGE"
"""Stands in the instructions for the label maps of a cascade's first stage (nnU-Net's word)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedConfiguration:
    """The parts of the name of a trained model's folder."""

    trainer: str
    plans_name: str
    configuration: str

    @property
    def name(self) -> str:
        """As nnU-Net names the folder."""
        return f"{self.trainer}__{self.plans_name}__{self.configuration}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A configuration or a pair of them, and how good it is in cross-validation."""

    members: tuple[TrainedConfiguration, ...]
    folder: Path
    """Of the merged label maps and their scores."""
    dice: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What is compared."""

    place: NnunetDataset
    candidates: tuple[TrainedConfiguration, ...]
    """Those without a folder are left out."""
    folds: tuple[str, ...]
    ensembles: bool = True
    workers: int = 1

    def model(self, member: TrainedConfiguration) -> Path:
        """Return the folder of a trained model."""
        return self.place.model(member.trainer, member.plans_name, member.configuration)


def find_best_configuration(comparison: Comparison, **watched: Unpack[Watched]) -> tuple[str, ...]:
    """Compare the trained configurations and their pairs; return, and write, how to predict with the best.

    Pairs need the probabilities of the validation cases, which training writes with ``--npz``.

    Raises
    ------
    UsageError
        If there is no trained model.
    InputError
        If folds lack validation predictions or probabilities; all are told.
    SomeCasesFailed
        If cases cannot be scored.
    """
    members = tuple(member for member in comparison.candidates if comparison.model(member).is_dir())
    if not members:
        wanted = ", ".join(member.name for member in comparison.candidates)
        raise UsageError(f"{comparison.place.name} has none of the trained models {wanted}. Train one first.")
    entries = [_single(comparison, member, **watched) for member in members]
    if comparison.ensembles:
        entries += [_pair(comparison, pair, **watched) for pair in itertools.combinations(members, 2)]
    best = max(entries, key=lambda entry: -math.inf if math.isnan(entry.dice) else entry.dice)
    choice = determine_postprocessing(
        best.folder,
        comparison.place.references,
        best.folder / DECLARATIONS[0],
        workers=comparison.workers,
        **watched,
    )
    scores = (foreground_dice(choice.before), foreground_dice(choice.after))
    results = comparison.place.folders.require(RESULTS) / comparison.place.name
    instructions = _instructions(comparison, entries, best, choice.reasons)
    write_text(results / INFORMATION, json.dumps(_information(comparison, entries, best, scores), indent=4))
    write_text(results / INSTRUCTIONS, "\n".join(instructions) + "\n")
    return instructions


def _single(comparison: Comparison, member: TrainedConfiguration, **watched: Unpack[Watched]) -> Entry:
    model = comparison.model(member)
    summary = merge_folds(comparison.place, model, comparison.folds, **watched)
    folder = model / f"crossval_results_folds_{'_'.join(comparison.folds)}"
    return Entry(members=(member,), folder=folder, dice=summary.foreground_dice)


def _pair(comparison: Comparison, pair: Sequence[TrainedConfiguration], **watched: Unpack[Watched]) -> Entry:
    results = comparison.place.folders.require(RESULTS) / comparison.place.name
    name = "___".join(["ensemble", *(member.name for member in pair), "_".join(comparison.folds)])
    folder = results / "ensembles" / name
    if folder.exists():
        shutil.rmtree(folder)
    for fold in comparison.folds:
        parts = [comparison.model(member) / f"fold_{fold}" / "validation" for member in pair]
        for declaration in DECLARATIONS:
            shutil.copyfile(comparison.model(pair[0]) / declaration, parts[0] / declaration)
        average_folders(parts, folder, **watched)
    scored = declared_comparison(comparison.place.references, folder, folder / DECLARATIONS[0], some=True)
    return Entry(members=tuple(pair), folder=folder, dice=compare_folders(scored, **watched).foreground_dice)


def _name(entry: Entry) -> str:
    return entry.folder.name if len(entry.members) > 1 else entry.members[0].name


def _instructions(
    comparison: Comparison, entries: Sequence[Entry], best: Entry, reasons: Sequence[str]
) -> tuple[str, ...]:
    single = len(best.members) == 1
    folders = ["OUTPUT_FOLDER"] if single else [f"OUTPUT_FOLDER_MODEL_{i}" for i, _ in enumerate(best.members, 1)]
    predict = [
        line
        for member, folder in zip(best.members, folders, strict=True)
        for line in _predictions(comparison, member, folder, probabilities=not single)
    ]
    average = [] if single else [f"nnUNetv2_ensemble -i {' '.join(folders)} -o OUTPUT_FOLDER -np 8"]
    return (
        "***All results:***",
        *(f"{_name(entry)}: {entry.dice:.4f}" for entry in entries),
        f"*Best*: {_name(best)}: {best.dice:.4f}",
        "",
        "***Run inference like this:***",
        *predict,
        *average,
        "",
        "***Then post-process:***",
        f"nnUNetv2_apply_postprocessing -i OUTPUT_FOLDER -o OUTPUT_FOLDER_PP -pp_pkl_file {best.folder / PICKLE} -np 8",
        *reasons,
    )


def _predictions(
    comparison: Comparison, member: TrainedConfiguration, out: str, *, probabilities: bool
) -> tuple[str, ...]:
    """Return the command that predicts with a configuration; before that of a cascade, that of its first stage."""
    plan = read_plan(comparison.model(member) / DECLARATIONS[1])
    stage = plan.configuration(member.configuration).previous_stage
    command = _prediction(comparison, member, out)
    options = " --save_probabilities" if probabilities else ""
    if stage is None:
        return (f"{command}{options}",)
    first = _prediction(comparison, replace(member, configuration=stage), PREVIOUS_OUTPUT)
    return (first, f"{command} -prev_stage_predictions {PREVIOUS_OUTPUT}{options}")


def _prediction(comparison: Comparison, member: TrainedConfiguration, out: str) -> str:
    return (
        f"nnUNetv2_predict -d {comparison.place.name} -i INPUT_FOLDER -o {out} -f {' '.join(comparison.folds)} "
        f"-tr {member.trainer} -c {member.configuration} -p {member.plans_name}"
    )


def _information(
    comparison: Comparison, entries: Sequence[Entry], best: Entry, scores: tuple[float, float]
) -> dict[str, Any]:
    """Return nnU-Net's record of the comparison."""
    return {
        "folds": [int(fold) for fold in comparison.folds],
        "dataset_name_or_id": comparison.place.name,
        "considered_models": [_spelled(entry.members[0], "plans") for entry in entries if len(entry.members) == 1],
        "ensembling_allowed": comparison.ensembles,
        "all_results": {_name(entry): None if math.isnan(entry.dice) else entry.dice for entry in entries},
        "best_model_or_ensemble": {
            "result_on_crossval_pre_pp": scores[0],
            "result_on_crossval_post_pp": scores[1],
            "postprocessing_file": str(best.folder / PICKLE),
            "postprocessing_record": str(best.folder / RECORD),
            "some_plans_file": str(best.folder / DECLARATIONS[1]),
            "selected_model_or_models": [_spelled(member, "plans_identifier") for member in best.members],
        },
    }


def _spelled(member: TrainedConfiguration, plans_key: str) -> dict[str, str]:
    return {"configuration": member.configuration, "trainer": member.trainer, plans_key: member.plans_name}
