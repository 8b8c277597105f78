"""A run's folder belongs to one dataset and one set of settings; another run must not be mixed into it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from delineate.errors import UsageError
from delineate.execution import write_text
from delineate.formats.datasets import Dataset
from delineate.formats.nnunet.json_node import read_document
from delineate.planning.presets import Preset
from delineate.workflows.run_folder import RunFolder


def claim_folder(
    folder: RunFolder,
    dataset: Dataset,
    preset: Preset,
    budget_seconds: float | None,
    *,
    origin: str | None = None,
    split_by: str | None = None,
) -> None:
    """Write down what the folder is for, or check that it is for the same.

    ``origin`` names the model or the plan of another dataset that the run starts from; ``split_by`` the column whose
    groups the folds leave out in turn.
    The budget counts only once something was decided with it, so that a budget that was too short can be corrected;
    so does the column.

    Raises
    ------
    UsageError
        If the folder holds a run with other settings; names them.
    PlanError
        If what stands there is damaged.
    """
    wanted = {
        "dataset": str(dataset.root.resolve()),
        "preset": preset.plans_name,
        "repairs": sorted(dataset.repairs),
        "budget_seconds": budget_seconds,
        "origin": origin,
        "split_by": split_by,
    }
    shared = {key: wanted[key] for key in wanted if key != "budget_seconds"}
    undecided: Collection[str] = () if folder.splits.exists() else ("split_by",)
    for path in (folder.shared_settings, RunFolder(root=folder.root).settings):
        _require_equal(folder, path, _without(shared, undecided))
    _require_equal(folder, folder.settings, _without(wanted if folder.recipe.exists() else shared, undecided))
    write_text(folder.shared_settings, json.dumps(shared, indent=2))
    write_text(folder.settings, json.dumps(wanted, indent=2))


def _without(settings: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _require_equal(folder: RunFolder, path: Path, wanted: Mapping[str, Any]) -> None:
    if not path.exists():
        return
    document = read_document(path)
    found = {key: document.value[key] for key in document.keys()}
    different = [
        f"{_words(key, found.get(key))} (now {_words(key, value)})"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if different:
        raise UsageError(
            f"{folder.root} holds a run with other settings: {'; '.join(different)}. Choose another --out, repeat "
            "the earlier settings to go on, or train a finished run longer with `delineate train --extend`."
        )


def _words(key: str, value: Any) -> str:
    if key != "split_by":
        return f"{key} {value}"
    return "folds divided by patient" if value is None else f"folds that leave one {value} out (--split-by {value})"
