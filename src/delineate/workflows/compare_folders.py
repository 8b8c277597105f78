"""A folder of predicted label maps against a folder of references of the same names: nnU-Net's ``summary.json``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

from delineate.case import Structure
from delineate.errors import GeometryError, InputError, SomeCasesFailed, UsageError
from delineate.execution import Watched, map_items
from delineate.formats.datasets.declaration import declared_scheme, read_declaration
from delineate.formats.images import read_labels
from delineate.formats.magic import image_ending
from delineate.formats.nnunet.summary_json import write_summary
from delineate.metrics.scores import CaseScores, evaluate_case
from delineate.metrics.summary import Summary, summarise
from delineate.workflows.score_cases import SUMMARY

_log = logging.getLogger(__name__)

UNSCORED = "unscored"
"""Stands for label values that are in the files and that are not asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What is compared with what."""

    references: Path
    predictions: Path
    structures: tuple[Structure, ...]
    """What is scored; ``(0,)`` is the background."""
    ignore: int | None = None
    """Reference voxels of this value do not count."""
    ending: str | None = None
    """File ending of both folders; None: that of the first reference."""
    some: bool = False
    """References without a prediction are left out (nnU-Net's ``--chill``)."""


def declared_comparison(references: Path, predictions: Path, declaration: Path, *, some: bool = False) -> Comparison:
    """Return the comparison with the labels and the file ending that a ``dataset.json`` declares.

    Raises
    ------
    DatasetError
        If the file is missing or has faults.
    """
    found = read_declaration(declaration)
    scheme = declared_scheme(found)
    found.finish()
    return Comparison(
        references=references,
        predictions=predictions,
        structures=scheme.structures,
        ignore=scheme.ignore,
        ending=str(found.content.get("file_ending", ".nii.gz")),
        some=some,
    )


def labelled_comparison(
    references: Path, predictions: Path, labels: Sequence[int], *, ignore: int | None = None, some: bool = False
) -> Comparison:
    """Return the comparison of label values that have no names."""
    structures = tuple(Structure(name=str(label), values=(label,)) for label in labels)
    return Comparison(references=references, predictions=predictions, structures=structures, ignore=ignore, some=some)


def compare_folders(
    comparison: Comparison, out: Path | None = None, *, workers: int = 1, **watched: Unpack[Watched]
) -> Summary:
    """Score every prediction against the reference of its name and write the summary.

    Parameters
    ----------
    comparison
        The folders and what is scored.
    out
        A ``.json`` file; None: ``summary.json`` beside the predictions.
    workers
        Cases worked on at a time.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If ``out`` is no ``.json`` file.
    InputError
        If a folder holds no label maps, or files lack their counterpart; names all of them.
    SomeCasesFailed
        If pairs cannot be compared; names all of them. Nothing is written then.
    Interrupted
        If a stop was requested.
    """
    target = out if out is not None else comparison.predictions / SUMMARY
    if target.suffix != ".json":
        raise UsageError(f"The scores are written as a .json file; got {target}.")
    names = _paired_names(comparison)
    outcomes = map_items(
        partial(_scored, comparison), names, what="score", workers=workers, backend="threads", **watched
    )
    failures = [f"{o.item}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(names)} pairs of label maps cannot be compared.", failures)
    scores = tuple(o.value for o in outcomes if o.value is not None)
    write_summary(
        target,
        scores,
        comparison.structures,
        reference_files={
            score.case_id: str(comparison.references / name) for score, name in zip(scores, names, strict=True)
        },
        prediction_files={
            score.case_id: str(comparison.predictions / name) for score, name in zip(scores, names, strict=True)
        },
    )
    return summarise(scores)


def _paired_names(comparison: Comparison) -> tuple[str, ...]:
    """Return the file names that are compared."""
    references, predictions = (
        _label_files(folder, comparison.ending) for folder in (comparison.references, comparison.predictions)
    )
    faults = [f"{name} has no reference in {comparison.references}" for name in sorted(predictions - references)]
    if not comparison.some:
        faults += [f"{name} has no prediction in {comparison.predictions}" for name in sorted(references - predictions)]
    if faults:
        shown = "\n".join(f"  - {fault}" for fault in faults)
        raise InputError(
            f"References and predictions must have the same names; {len(faults)} have no counterpart:\n{shown}"
        )
    return tuple(sorted(predictions))


def _label_files(folder: Path, ending: str | None) -> set[str]:
    found = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set()
    names = {name for name in found if not name.startswith(".") and image_ending(Path(name))}
    chosen = ending if ending is not None else image_ending(Path(min(names))) if names else None
    names = {name for name in names if chosen is not None and name.endswith(chosen)}
    if not names:
        raise InputError(f"{folder}: expected label maps{f' ending in {ending}' if ending else ''}; found none.")
    return names


def _scored(comparison: Comparison, name: str) -> CaseScores:
    reference = read_labels(comparison.references / name)
    predicted = read_labels(comparison.predictions / name)
    if reference.array.shape != predicted.array.shape:
        raise GeometryError(
            f"expected equal shapes; the reference has {reference.array.shape}, the prediction {predicted.array.shape}"
        )
    if differences := reference.grid.differences(predicted.grid):
        _log.warning("%s: compared voxel by voxel, though the two differ in %s", name, "; ".join(differences))
    case_id = name.removesuffix(image_ending(Path(name)) or "")
    wanted = [(structure.name, structure.values) for structure in comparison.structures]
    highest = int(max(reference.array.max(), predicted.array.max()))
    scores = evaluate_case(
        predicted.array,
        reference.array,
        [*wanted, (UNSCORED, (highest,))],  # values that nobody asked for are counted, then left out
        voxel_volume_mm3=reference.grid.voxel_volume_mm3,
        case_id=case_id,
        patient_id=case_id,
        ignore=comparison.ignore,
    )
    return replace(scores, per_structure=scores.per_structure[:-1])
