"""nnU-Net's prediction command: a folder of images in nnU-Net's naming in, label maps and declarations out."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from delineate.errors import InputError, UsageError
from delineate.execution import Watched, atomic_path, require_writable, write_text
from delineate.formats.datasets import CaseFiles
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.workflows.model import Model, load_model
from delineate.workflows.segment_folder import CHANNEL_SUFFIX, segment_files

ARGUMENTS = "predict_from_raw_data_args.json"
"""What a prediction was made with (nnU-Net's name)."""
CPU = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionOrder:
    """What the user asked for."""

    model: Path
    """Folder of the trained model."""
    source: Path
    target: Path
    folds: tuple[str, ...]
    checkpoint: str = "checkpoint_final.pth"
    previous: Path | None = None
    """Cascades only: folder of the label maps of the previous stage; None: that stage is predicted too."""
    step: float = 0.5
    """Step between tiles as a share of the patch."""
    mirroring: bool = True
    device: str = "cuda"
    probabilities: bool = False
    keep_existing: bool = False
    """Leave out cases that stand in the target already."""
    parts: int = 1
    part: int = 0
    """This is part ``part`` of ``parts``: every parts-th case."""

    def __post_init__(self) -> None:
        if not 0 <= self.part < self.parts:
            raise UsageError(f"-part_id must lie between 0 and -num_parts - 1; got {self.part} of {self.parts} parts.")
        if not 0 < self.step <= 1:
            raise UsageError(f"-step_size must lie above 0 and not above 1; got {self.step:g}.")


def predict_folder(order: PredictionOrder, **watched: Unpack[Watched]) -> tuple[Path, ...]:
    """Segment the images of a folder; return the label maps that were written now.

    Raises
    ------
    ModelError
        If the model cannot be used.
    InputError
        If the folder has no images, or channels are missing; names all such cases.
    SomeCasesFailed
        If cases could not be segmented; names each with its reason, the others are written.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    model = open_model(order)
    cases = find_cases(order.source, model.package.file_ending, len(model.package.channel_names))
    mine = [
        case for case in cases[order.part :: order.parts] if not (order.keep_existing and _is_done(case, order, model))
    ]
    require_writable(order.target)
    try:
        return segment_files(model, mine, order.target, probabilities=order.probabilities, overwrite=True, **watched)
    finally:
        write_declarations(order, model)


def open_model(order: PredictionOrder) -> Model:
    """Load the model; on a processor it computes in float32 as nnU-Net does.

    Raises
    ------
    ModelError
        If the model is missing, damaged, or lacks a fold.
    ResourceError
        If the device does not exist.
    UsageError
        If the model is a cascade without its first stage and there is no folder of label maps, or the other way round.
    """
    model = load_model(
        order.model,
        folds=order.folds,
        device=order.device,
        mirroring=order.mirroring,
        precision="float32" if order.device == CPU else "auto",
        checkpoint=order.checkpoint,
    )
    stage = model.package.configuration.previous_stage
    if stage is not None and order.previous is None and model.previous is None:
        raise UsageError(
            f"A model of {model.package.configuration.name} needs the label maps that {stage} made of the same images. "
            "Predict them first and name their folder with -prev_stage_predictions; or put the trained model of "
            f"{stage}, of the same trainer, plans and folds, beside it."
        )
    return (model if order.previous is None else model.with_previous_from(order.previous)).with_step(order.step)


def find_cases(folder: Path, ending: str, channels: int) -> tuple[CaseFiles, ...]:
    """Return the images ``{id}_0000.ext``, ``{id}_0001.ext``, ... of a folder; sub-folders are not looked into.

    Raises
    ------
    InputError
        If there is none, or a case lacks a channel or has too many; names all such cases.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of images; there is none of that name.")
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in names:
        match = CHANNEL_SUFFIX.search(name.removesuffix(ending)) if name.endswith(ending) else None
        if match and not name.startswith("."):
            found[name[: match.start()]][int(match[1])] = folder / name
    if not found:
        raise InputError(f"{folder}: expected images called {{id}}_0000{ending} as in training; found none.")
    wanted = set(range(channels))
    faults = [
        f"{case_id} has {', '.join(f'_{channel:04d}' for channel in sorted(parts))}"
        for case_id, parts in found.items()
        if set(parts) != wanted
    ]
    if faults:
        raise InputError(
            f"{folder}: the model needs the channels _0000 to _{channels - 1:04d} of every image; {'; '.join(faults)}."
        )
    return tuple(
        CaseFiles(case_id=case_id, patient_id=case_id, images=tuple(parts[c] for c in sorted(parts)))
        for case_id, parts in found.items()
    )


def write_declarations(order: PredictionOrder, model: Model) -> None:
    """Write what nnU-Net keeps beside predictions: the arguments, ``plans.json`` and ``dataset.json``.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    package = model.package
    own: dict[str, Any] = {
        "plans.json": plan_to_json(package.plan),
        "dataset.json": dataset_json(
            channel_names=package.channel_names,
            scheme=package.scheme,
            training_cases=int(package.facts.get("training_cases", 0)),
            file_ending=package.file_ending,
        ),
    }
    for name, content in own.items():
        if (order.model / name).is_file():
            with atomic_path(order.target / name) as temporary:
                shutil.copyfile(order.model / name, temporary)
        else:
            write_text(order.target / name, json.dumps(content, indent=4))
    write_text(order.target / ARGUMENTS, json.dumps(_arguments(order), indent=4))


def _arguments(order: PredictionOrder) -> dict[str, Any]:
    """Return nnU-Net's names of the arguments; what has no meaning here is left out."""
    return {
        "list_of_lists_or_source_folder": str(order.source),
        "output_folder_or_list_of_truncated_output_files": str(order.target),
        "save_probabilities": order.probabilities,
        "overwrite": not order.keep_existing,
        "folder_with_segs_from_prev_stage": None if order.previous is None else str(order.previous),
        "num_parts": order.parts,
        "part_id": order.part,
    }


def _is_done(case: CaseFiles, order: PredictionOrder, model: Model) -> bool:
    names = [case.case_id + model.package.file_ending, *([f"{case.case_id}.npz"] if order.probabilities else [])]
    return all((order.target / name).exists() for name in names)
