"""What an anatomy segmentation leaves on the disk.

segmentation.nii.gz        all structures in one file, with its table of labels
segmentations/NAME.nii.gz  or one file per structure
structures.csv             value, name, TG-263 name, SNOMED CT codes, colour
statistics.json, .csv      volume, intensity, place of every structure
findings.json              what does not look like a human body
preview.png
provenance.json            models, hashes, settings, times
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.case import Image, LabelMap
from delineate.execution.atomic import write_bytes, write_text
from delineate.formats.anatomy_files import write_findings, write_label_table, write_statistics
from delineate.formats.images import write_labels
from delineate.formats.label_table import write_labels_with_table
from delineate.geometry.orientation import orientation_codes
from delineate.masks import skin_of
from delineate.metrics import Implausibility, StructureStatistics, implausibilities, structure_statistics
from delineate.planning.anatomy import expectations, facts_of
from delineate.reports.anatomy_preview import anatomy_preview
from delineate.workflows.segment_anatomy import Anatomy, AnatomyRequest

SEGMENTATION = "segmentation.nii.gz"
SEPARATE = "segmentations"
BODY_TASK = "body"
"""The task whose labels give two derived masks, the whole body and its skin; they overlap, so they are files only."""


def names_of(request: AnatomyRequest) -> dict[int, str]:
    """Return label value -> name of the structures that were asked for."""
    task = request.task
    wanted = request.structures or task.classes
    return {task.value_of(name): name for name in task.classes if name in wanted}


def check_anatomy(anatomy: Anatomy, request: AnatomyRequest) -> tuple[Implausibility, ...]:
    """Compare the structures with what a human body looks like, on the grid on which the models looked."""
    names = names_of(request)
    return implausibilities(anatomy.working.array, anatomy.working.grid, names, expectations(tuple(names.values())))


def measure_anatomy(anatomy: Anatomy, image: Image, request: AnatomyRequest) -> dict[str, StructureStatistics]:
    """Measure the structures on the scan's own grid."""
    return structure_statistics(anatomy.labels.array, image.array[0], image.grid, names_of(request))


def write_segmentation(
    folder: Path, anatomy: Anatomy, image: Image, request: AnatomyRequest, *, separate: bool
) -> Path:
    """Write the label map, or one mask per structure; returns the file or folder.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    names = names_of(request)
    write_label_table(folder / "structures.csv", names)
    if not separate:
        table = {value: (name, facts_of(name).colour) for value, name in names.items()}
        write_labels_with_table(folder / SEGMENTATION, anatomy.labels, table)
        return folder / SEGMENTATION
    for value, name in names.items():
        _write_mask(folder, name, anatomy.labels.array == value, anatomy.labels)
    for name, mask in _derived(anatomy, image, request).items():
        _write_mask(folder, name, mask, anatomy.labels)
    return folder / SEPARATE


def write_measurements(
    folder: Path, statistics: Mapping[str, StructureStatistics], findings: Sequence[Implausibility]
) -> None:
    """Write statistics and findings.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    write_statistics(folder, statistics)
    write_findings(folder / "findings.json", findings)


def write_preview(path: Path, anatomy: Anatomy, request: AnatomyRequest) -> None:
    """Write a picture of the structures.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    colours = {value: facts_of(name).colour for value, name in names_of(request).items()}
    spacing = anatomy.working.grid.spacing_mm
    write_bytes(path, anatomy_preview(anatomy.working.array, anatomy.image.array[0], spacing, colours))


def write_provenance(path: Path, anatomy: Anatomy, request: AnatomyRequest) -> None:
    """Write how the segmentation came about; neither names nor paths of the scan stand in it.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    grid = anatomy.labels.grid
    facts: dict[str, Any] = {
        "software": f"delineate {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": request.task.name,
        "variant": request.variant,
        "structures": list(request.structures),
        "settings": {
            "step": request.task.step,
            "mirroring": False,
            "device": request.device,
            "precision": request.precision,
        },
        "scan": {
            "shape_zyx": grid.shape,
            "spacing_mm_zyx": grid.spacing_mm,
            "orientation_xyz": orientation_codes(grid),
        },
        "working_grid": {"shape_zyx": anatomy.working.grid.shape, "spacing_mm_zyx": anatomy.working.grid.spacing_mm},
        "models": [asdict(model) for model in anatomy.models],
        "licence": request.task.licence.text,
        "seconds": round(anatomy.seconds, 1),
    }
    write_text(path, json.dumps(facts, indent=1))


def _derived(anatomy: Anatomy, image: Image, request: AnatomyRequest) -> dict[str, NDArray[np.bool_]]:
    if request.task.name != BODY_TASK:
        return {}
    body = anatomy.labels.array != 0
    return {"body": body, "skin": skin_of(body, image.array[0])}


def _write_mask(folder: Path, name: str, mask: NDArray[np.bool_], like: LabelMap) -> None:
    write_labels(folder / SEPARATE / f"{name}.nii.gz", LabelMap(array=mask.astype(np.uint8), grid=like.grid))
