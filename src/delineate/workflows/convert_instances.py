"""Annotations of other programs become a data set of pictures with numbered objects that can be trained on."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image
from delineate.errors import DatasetError, DelineateError, UsageError
from delineate.execution import Cancellation, Progress, Silent, atomic_path, write_text
from delineate.formats.datasets.instance_dataset import IMAGES, INSTANCES, TYPES
from delineate.formats.datasets.instance_sources import InstanceSourceFolder, ReadCase, open_instance_source
from delineate.formats.raster import write_tiff
from delineate.geometry.grid import Grid


@dataclass(frozen=True, kw_only=True, slots=True)
class Converted:
    """What was written."""

    kind: str
    """Form of the source."""
    pictures: int
    objects: int
    empty: tuple[str, ...]
    """Pictures without any object; they stay, since a model must learn what is nothing."""
    type_names: tuple[str, ...]
    remarks: tuple[str, ...]
    """What had to be decided, case by case."""


def convert_instances(
    source: Path, out: Path, *, progress: Progress | None = None, cancellation: Cancellation | None = None
) -> Converted:
    """Read annotated pictures of any known form and write ``images/``, ``instances/`` and ``types/``.

    The folder appears whole or not at all.

    Raises
    ------
    DatasetError
        If the form is not known, or cases cannot be read; all of them are told.
    UsageError
        If the output folder exists.
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    if out.exists():
        raise UsageError(f"{out} exists already; choose another folder or remove it.")
    opened = open_instance_source(source)
    _require_distinct(opened, source)
    progress.start("convert", len(opened.cases))
    counts, remarks, faults, highest = dict[str, int](), list[str](), list[str](), 0
    with atomic_path(out) as temporary:
        for case in opened.cases:
            cancellation.check()
            try:
                read = case.read()
            except DelineateError as error:
                faults.append(f"{case.case_id}: {error}")
                continue
            counts[case.case_id] = len(np.unique(read.instances[read.instances > 0]))
            remarks += [f"{case.case_id}: {remark}" for remark in read.remarks]
            highest = max(highest, 0 if read.types is None else int(read.types.max(initial=0)))
            _write(temporary, case.case_id, read)
            progress.advance(note=case.case_id)
        if faults:
            raise DatasetError(f"{source}: {len(faults)} of {len(opened.cases)} cases cannot be read.", faults)
        names = opened.type_names or tuple(f"type {number}" for number in range(1, highest + 1))
        if names:
            declared = {str(number): name for number, name in enumerate(names, start=1)}
            write_text(temporary / "types.json", json.dumps(declared, indent=1))
    progress.finish()
    return Converted(
        kind=opened.kind,
        pictures=len(counts),
        objects=sum(counts.values()),
        empty=tuple(name for name, count in counts.items() if not count),
        type_names=names,
        remarks=tuple(remarks),
    )


def _require_distinct(opened: InstanceSourceFolder, source: Path) -> None:
    counted = Counter(case.case_id for case in opened.cases)
    twice = sorted(name for name, count in counted.items() if count > 1)
    if twice:
        raise DatasetError(f"{source}: pictures need different names; {len(twice)} are used twice.", twice)


def _write(folder: Path, name: str, read: ReadCase) -> None:
    grid = Grid.regular((read.instances.shape[0], read.instances.shape[1]))
    numbers = _consecutive(read.instances)
    write_tiff(folder / IMAGES / f"{name}.tif", Image(array=read.picture.transpose(2, 0, 1), grid=grid))
    write_tiff(folder / INSTANCES / f"{name}.tif", Image(array=numbers[None].astype(np.uint32), grid=grid))
    if read.types is not None:
        kinds = read.types[read.instances].astype(np.uint8)
        write_tiff(folder / TYPES / f"{name}.tif", Image(array=kinds[None], grid=grid))


def _consecutive(instances: NDArray[np.int32]) -> NDArray[np.int32]:
    _, numbers = np.unique(instances, return_inverse=True)
    gap = 0 if (instances == 0).any() else 1
    return (numbers.reshape(instances.shape) + gap).astype(np.int32)
