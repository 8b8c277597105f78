"""Drafts on series that exist in memory only, of any orientation."""

from __future__ import annotations

import dataclasses
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from delineate.case import LabelMap, LabelScheme, Provenance, Result
from delineate.clinical.coding import Code, CodedStructure, code_structures
from delineate.clinical.results import DraftResult
from delineate.formats.dicom.source_series import SourceSeries, SourceSlice
from delineate.geometry.grid import Grid

CT = "1.2.840.10008.5.1.4.1.1.2"


def orientations() -> list[tuple[tuple[float, ...], ...]]:
    """All 48 axis-aligned directions: each array axis along one world axis, either way."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            rows = tuple(tuple(s if w == o else 0.0 for w in range(3)) for o, s in zip(order, signs, strict=True))
            found.append(rows)
    return found


def source_on(grid: Grid) -> SourceSeries:
    header = Dataset()
    header.PatientName, header.PatientID = "Doe^Jane", "P1"
    header.StudyInstanceUID = generate_uid(prefix=None)
    affine = grid.affine
    slices = tuple(
        SourceSlice(
            sop_class_uid=CT,
            sop_instance_uid=generate_uid(prefix=None),
            frame=None,
            position_mm=tuple(float(v) for v in (affine @ [plane, 0, 0, 1])[:3]),  # type: ignore[arg-type]
        )
        for plane in range(grid.shape[0])
    )
    return SourceSeries(
        grid=grid,
        slices=slices,
        modality="CT",
        study_uid=str(header.StudyInstanceUID),
        series_uid=generate_uid(prefix=None),
        frame_of_reference_uid=generate_uid(prefix=None),
        header=header,
    )


def structure(name: str, *values: int) -> CodedStructure:
    return CodedStructure(
        name=name,
        values=values,
        label=name,
        category=Code(value="123037004", scheme="SCT", meaning="Anatomical Structure"),
        type=Code(value="10200004", scheme="SCT", meaning="Liver"),
        laterality=None,
        interpreted_type="ORGAN",
        colour=(200, 30, 30),
        tracking_id=name,
        tracking_uid=generate_uid(prefix=None),
    )


def draft_of(
    labels: NDArray[np.integer], grid: Grid | None = None, structures: tuple[CodedStructure, ...] = ()
) -> DraftResult:
    grid = grid or Grid.regular(labels.shape, (2.5, 0.9, 0.9))
    found = structures or tuple(structure(f"s{v}", int(v)) for v in np.unique(labels) if v)
    return DraftResult(
        result=Result(
            case_id="c",
            labels=LabelMap(array=labels, grid=grid),
            provenance=Provenance(software="test", model="model 1"),
        ),
        source=source_on(grid),
        structures=found,
    )


def full_draft() -> DraftResult:
    """An organ with a hole, a tumour, and a structure without voxels and code; with probabilities."""
    labels = np.zeros((5, 12, 14), dtype=np.uint8)
    labels[1:4, 2:9, 3:11] = 1
    labels[2, 4, 5] = 0
    labels[0, 0, 0] = 2
    made = draft_of(labels)
    heads = np.stack([labels == value for value in range(4)]).astype(np.float32)
    names = ("Kidney_L", "GTV_Mass", "something else")
    coding = code_structures(LabelScheme.simple(*names).structures, series_uid=made.source.series_uid)
    result = dataclasses.replace(made.result, probabilities=heads)
    return dataclasses.replace(made, result=result, structures=coding.structures)
