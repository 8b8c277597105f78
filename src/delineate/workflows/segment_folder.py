"""Many images through one model: files in, label maps out, each written whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from delineate.case import Image, Result
from delineate.errors import DelineateError, InputError, Interrupted, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Progress, Silent, remove_abandoned, require_writable, write_text
from delineate.formats.assessment_files import (
    assessment_path,
    read_assessment,
    write_assessment,
    write_quality_table,
)
from delineate.formats.datasets import CaseFiles
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.images import label_ending, read_image, write_labels
from delineate.formats.magic import image_ending
from delineate.formats.nnunet.case_properties import write_probabilities
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.training.allocator import shortage_explained
from delineate.workflows.model import Model
from delineate.workflows.segment_case import segment_case

DATASET_RECORD = "dataset.json"
"""Says what the probabilities in a folder mean, as nnU-Net's predictor leaves it."""
SHORTAGE_ADVICE = (
    "Check that the image's spacing and the model's fit each other, close other programs, or crop the image."
)
CHANNEL_SUFFIX = re.compile(r"_(\d{4})$")
"""nnU-Net's file names end in the number of the channel."""


def find_images(source: Path, channels: int) -> tuple[CaseFiles, ...]:
    """Return the images of a file or folder; ``{id}_0000``, ``{id}_0001`` are the channels of one image.

    Where images have one channel, another number than 0000 belongs to the name (``scan_2024``), unless ``{id}_0000``
    lies beside it.

    Raises
    ------
    InputError
        If there is no image, channels are missing, or several files are the same channel of a case; names all of them.
    """
    files = [source] if source.is_file() else visible_images(source)
    if not files:
        raise InputError(f"{source}: expected an image or a folder with images; found none.")
    found: dict[str, dict[int, Path]] = {}
    twice = []
    stems = {file: file.name.removesuffix(image_ending(file) or "") for file in files}
    taken = set(stems.values())
    for file, stem in stems.items():
        match = CHANNEL_SUFFIX.search(stem)
        if match and channels == 1 and f"{stem[: match.start()]}_0000" not in taken:
            match = None
        case_id = stem[: match.start()] if match else stem
        parts, channel = found.setdefault(case_id, {}), int(match[1]) if match else 0
        if channel in parts:
            twice.append(f"{parts[channel].name} and {file.name}")
        parts[channel] = file
    if twice:
        raise InputError(
            f"{source}: every image needs a name of its own; the same one have {'; '.join(twice[:5])}. Remove or "
            "rename all but one."
        )
    incomplete = [
        i for i, parts in found.items() if channels > 1 and len(parts) > 1 and set(parts) != set(range(channels))
    ]
    if incomplete:
        raise InputError(
            f"{source}: the model needs {channels} channels per image, named {{id}}_0000 to {{id}}_{channels - 1:04d}; "
            f"incomplete are: {', '.join(sorted(incomplete)[:5])}."
        )
    return tuple(
        CaseFiles(case_id=case_id, patient_id=case_id, images=tuple(parts[c] for c in sorted(parts)))
        for case_id, parts in sorted(found.items())
    )


def segment_files(  # noqa: PLR0913 - one keyword per choice of the command line
    model: Model,
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    load: Callable[[CaseFiles], Image] | None = None,
    probabilities: bool = False,
    assess: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Path, ...]:
    """Segment every case into ``out``; cases that stand there already are kept unless ``overwrite``.

    Parameters
    ----------
    model
        The trained model.
    cases
        Files by case.
    out
        Folder of the label maps, ``{case_id}`` with the ending of the model's training images.
    load
        How a case's image is read, for instance with a dataset's repairs; None: as the files are.
    probabilities
        Also write ``{case_id}.npz`` and ``{case_id}.pkl``, as nnU-Net's ensembling reads them, and ``dataset.json``,
        which says what they mean.
    assess
        Also write how far each result can be trusted, and a table of all, the least trusted first
        (:mod:`delineate.formats.assessment_files`); cases without it are segmented again.
    overwrite
        Segment again what stands in ``out``.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    tuple of Path
        The label maps, in the order of ``cases``.

    Raises
    ------
    UsageError
        If ``out`` is a folder in which the images lie.
    ResourceError
        If ``out`` cannot be written.
    SomeCasesFailed
        If cases could not be segmented; names each with its reason, the others are written.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    require_output_folder(out, cases)
    remove_abandoned(out)
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    ending = label_ending(model.package.file_ending)
    targets = [out / f"{case.case_id}{ending}" for case in cases]
    progress.start("predict", len(cases))
    failures = []
    for case, target in zip(cases, targets, strict=True):
        cancellation.check()
        if overwrite or not target.exists() or (assess and not assessment_path(out, case.case_id).exists()):
            try:
                with shortage_explained(SHORTAGE_ADVICE):
                    image = load(case) if load is not None else read_image(case.images)
                    result = segment_case(
                        image,
                        model,
                        probabilities=probabilities,
                        assess=assess,
                        case_id=case.case_id,
                        cancellation=cancellation,
                    )
                    _write(result, target)
            except Interrupted:
                raise
            except DelineateError as error:
                failures.append(f"{case.case_id}: {error}")
        progress.advance(note=case.case_id)
    progress.finish()
    if probabilities:
        write_text(out / DATASET_RECORD, json.dumps(dataset_json_of(model), indent=2))
    if assess:
        known = [case.case_id for case in cases if assessment_path(out, case.case_id).exists()]
        write_quality_table(out, [read_assessment(out, case_id) for case_id in known])
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(cases)} cases could not be segmented.", failures)
    return tuple(targets)


def require_output_folder(out: Path, cases: Sequence[CaseFiles]) -> None:
    """Make the folder of the label maps, or say why it cannot be that, before hours are spent on predictions.

    Raises
    ------
    UsageError
        If images lie in it: label maps of the same names would replace them or be taken for images the next time.
    ResourceError
        If it cannot be written.
    """
    if any(out.resolve() == image.resolve().parent for case in cases for image in case.images):
        raise UsageError(
            f"{out} holds the images; label maps need a folder of their own. Choose another output folder."
        )
    require_writable(out)


def dataset_json_of(model: Model) -> dict[str, Any]:
    """Return in nnU-Net's words what the probabilities in a folder of predictions mean."""
    package = model.package
    return dataset_json(
        channel_names=package.channel_names,
        scheme=package.scheme,
        training_cases=package.facts.get("training_cases", 0),
        file_ending=package.file_ending,
    )


def _write(result: Result, target: Path) -> None:
    """Write a result, the label map last: where it stands, the rest does too."""
    if result.probabilities is not None:
        write_probabilities(target.parent / result.case_id, result.probabilities, result.labels.grid)
    if result.assessment is not None:
        write_assessment(target.parent, result.assessment)
    write_labels(target, result.labels)
