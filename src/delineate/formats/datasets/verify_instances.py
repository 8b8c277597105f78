"""What is wrong or odd with pictures with instances, all of it at once, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from delineate.errors import DatasetError, DelineateError
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.datasets.instance_dataset import InstanceCase, InstanceDataset, InstanceFiles
from delineate.formats.datasets.instance_sources import types_of_pixels
from delineate.formats.images import read_mask

FULL_BYTE = 255
MOST_TOLD = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceVerification:
    """What was found in a data set that can be used."""

    objects: int
    empty: tuple[str, ...]
    """Pictures without any object."""
    warnings: tuple[str, ...]
    """One sentence per thing that a person should look at."""


def verify_instances(
    dataset: InstanceDataset, *, progress: Progress | None = None, cancellation: Cancellation | None = None
) -> InstanceVerification:
    """Read every picture and its objects.

    Raises
    ------
    DatasetError
        If a file cannot be used, or there is no object at all; names all faults.
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    progress.start("verify", len(dataset.cases))
    faults, warnings, empty, objects = list[str](), list[str](), list[str](), 0
    for files in dataset.cases:
        cancellation.check()
        try:
            case = dataset.load(files)
            remarks = _remarks(files, case)
        except DelineateError as error:
            faults.append(f"{files.case_id}: {error}")
            continue
        count = len(np.unique(case.instances[case.instances != 0]))
        objects += count
        empty += [] if count else [files.case_id]
        warnings += [f"{dataset.name} {files.case_id}: {remark}" for remark in remarks]
        progress.advance(note=files.case_id)
    progress.finish()
    if not faults and not objects:
        faults.append(f"none of {len(dataset.cases)} pictures has an object; nothing can be learnt")
    if faults:
        raise DatasetError(f"{dataset.root}: {len(faults)} faults; correct them and run the command again.", faults)
    if empty:
        warnings.append(f"{dataset.name}: {len(empty)} pictures hold no object and are used so: {_some(empty)}.")
    return InstanceVerification(objects=objects, empty=tuple(empty), warnings=tuple(warnings))


def _remarks(files: InstanceFiles, case: InstanceCase) -> list[str]:
    remarks = []
    numbers = np.unique(case.instances[case.instances > 0])
    stored = read_mask(files.instances).array
    if stored.dtype == np.uint8 and len(numbers) and int(numbers[-1]) == FULL_BYTE:
        if len(numbers) > 1:
            remarks.append(
                "an 8-bit file that uses the number 255: with more than 255 objects numbers begin anew, and two "
                "objects would share one. Export 16 bits if there are that many"
            )
        else:
            remarks.append("only the values 0 and 255: a mask, not numbered objects; all of it counts as one object")
    parts = ndimage.label(case.instances > 0, np.ones((3, 3)))[1] if len(numbers) == 1 else 0
    if parts > 1:
        remarks.append(f"one number for {parts} separate parts: a mask, not numbered objects")
    if files.types is not None:
        kinds = read_mask(files.types).array[0].astype(np.int64)
        remarks += types_of_pixels(case.instances, kinds)[1]
    if case.picture.dtype.kind == "f" and not np.isfinite(case.picture).all():
        remarks.append("the picture holds values that are not finite")
    return remarks


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more
