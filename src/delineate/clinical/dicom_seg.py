"""DICOM Segmentations, written by highdicom: binary (the default), label map, or fractional from probabilities.

The geometry is that of the source series; segments keep their order and number even if they are empty. Drafts say so in
the object; approved ones name the reviewer as creator of the content.

References
----------
DICOM PS3.3 A.51 and C.8.20 (Segmentation), Supplement 243 (Label Map).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, generate_uid

from delineate import __version__
from delineate.clinical.attributes import MANUFACTURER, MODEL, code_item
from delineate.clinical.coding import CodedStructure
from delineate.clinical.highdicom_values import concept, person_name, quiet_libraries
from delineate.clinical.results import ApprovedResult, DraftResult
from delineate.clinical.rtstruct import ARTIFICIAL_INTELLIGENCE
from delineate.clinical.source_datasets import source_datasets
from delineate.errors import UsageError
from delineate.execution.atomic import atomic_path
from delineate.formats.dicom.source_series import SourceSeries

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.7"
FULL = 255
"""The stored number that stands for a probability of one."""

SegKind = Literal["binary", "labelmap", "fractional"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentationSettings:
    """How a segmentation is written."""

    kind: SegKind = "binary"
    """``labelmap`` is small and not known to old archives; ``fractional`` keeps the model's probabilities."""
    omit_empty_frames: bool = True
    """Whether frames without a voxel are left out, as most writers do; some viewers then misplace the rest."""
    edited_by_person: bool = False
    """Whether a person changed what the model drew: the algorithm is then called semiautomatic."""
    content_label: str = "DELINEATE"
    """At most 16 characters, capital letters, digits and underscores."""
    series_number: int = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenSegmentation:
    """What was written."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    segments: tuple[str, ...]
    """Names of the structures; segment n is number n."""
    frames: int


def write_seg(
    path: Path, approved: ApprovedResult, settings: SegmentationSettings | None = None
) -> WrittenSegmentation:
    """Write an approved result as a segmentation that names its reviewer.

    Raises
    ------
    ReviewError
        If the content changed after the approval.
    UsageError
        If the kind cannot hold the result.
    ResourceError
        If the file cannot be written.
    """
    approved.require_unchanged()
    name = person_name(approved.approval.reviewer_name)
    when = f"{approved.approval.time_utc:%Y-%m-%d %H:%M} UTC"
    description = f"Approved {when}: {approved.approval.meaning}"
    return _write(path, approved.draft, settings, "Segmentation, approved", description, name)


def write_draft_seg(
    path: Path, draft: DraftResult, settings: SegmentationSettings | None = None
) -> WrittenSegmentation:
    """Write a draft as a segmentation that says that nobody reviewed it.

    Raises
    ------
    UsageError
        If the kind cannot hold the result.
    ResourceError
        If the file cannot be written.
    """
    return _write(
        path, draft, settings, "Segmentation by AI, not reviewed", "Draft by an algorithm, not reviewed", None
    )


def _write(
    path: Path,
    draft: DraftResult,
    settings: SegmentationSettings | None,
    series_description: str,
    description: str,
    creator: str | None,
) -> WrittenSegmentation:
    settings = settings or SegmentationSettings()
    with quiet_libraries():
        dataset = _segmentation(draft, settings, series_description, description[:64], creator)
    with atomic_path(path) as temporary:
        dataset.save_as(temporary)
    return WrittenSegmentation(
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        segments=tuple(s.name for s in draft.structures),
        frames=int(dataset.NumberOfFrames),
    )


def _segmentation(
    draft: DraftResult, settings: SegmentationSettings, series_description: str, description: str, creator: str | None
) -> Segmentation:
    numbers = range(1, len(draft.structures) + 1)
    return Segmentation(
        source_images=source_datasets(draft.source),
        pixel_array=_placed(_pixels(draft, settings.kind), draft.source),
        segmentation_type=settings.kind.upper(),
        segment_descriptions=[
            _segment(number, structure, draft, settings)
            for number, structure in zip(numbers, draft.structures, strict=True)
        ],
        series_instance_uid=generate_uid(prefix=None),
        series_number=settings.series_number,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=__version__,
        max_fractional_value=FULL,
        content_description=description,
        content_creator_name=creator,
        content_label=settings.content_label[:16],
        transfer_syntax_uid=RLELossless if settings.kind == "labelmap" else ExplicitVRLittleEndian,
        omit_empty_frames=settings.omit_empty_frames,
        series_description=series_description,
    )


def _placed(array: NDArray[Any], source: SourceSeries) -> NDArray[Any] | hd.Volume:
    """Return an array (z, y, x) or (z, y, x, segment) as highdicom places it.

    Planes of single-frame images lie where their images lie, one by one. A multi-frame image may hold other volumes as
    well, so that its planes are placed by the grid.
    """
    if source.slices[0].frame is None:
        return array
    return hd.Volume(
        array,
        source.grid.affine,
        coordinate_system="PATIENT",
        frame_of_reference_uid=source.frame_of_reference_uid,
        channels={"SegmentNumber": list(range(1, array.shape[3] + 1))} if array.ndim == 4 else None,
    )


def _pixels(draft: DraftResult, kind: SegKind) -> NDArray[Any]:
    """Return segment numbers (z, y, x), or one channel per segment (z, y, x, segment) where segments may overlap."""
    if kind == "fractional":
        return _probabilities(draft)
    if not _overlap(draft.structures):
        return _segment_numbers(draft)
    if kind == "labelmap":
        raise UsageError("A label map cannot hold structures that overlap; write a binary segmentation instead.")
    labels = draft.result.labels.array
    return np.stack([np.isin(labels, structure.values) for structure in draft.structures], axis=-1)


def _overlap(structures: Sequence[CodedStructure]) -> bool:
    values = [value for structure in structures for value in structure.values]
    return len(set(values)) < len(values)


def _segment_numbers(draft: DraftResult) -> NDArray[Any]:
    labels = draft.result.labels.array
    table = np.zeros(
        max(int(labels.max(initial=0)), *(max(s.values) for s in draft.structures)) + 1,
        dtype=np.uint8 if len(draft.structures) < 256 else np.uint16,
    )
    for number, structure in enumerate(draft.structures, start=1):
        table[list(structure.values)] = number
    numbers: NDArray[Any] = table[labels]
    return numbers


def _probabilities(draft: DraftResult) -> NDArray[np.float32]:
    """Return the probability (z, y, x, segment) of every structure, 0 to 1.

    Models without regions have a background head and one head per value; models with regions a head per structure.
    """
    heads = draft.result.probabilities
    if heads is None:
        raise UsageError("A fractional segmentation holds probabilities; predict with them, or write a binary one.")
    values = max(max(s.values) for s in draft.structures)
    if not _overlap(draft.structures) and len(heads) > values:
        found = [sum(heads[v] for v in structure.values) for structure in draft.structures]
    elif len(heads) == len(draft.structures):
        found = list(heads)
    else:
        raise UsageError(f"{len(draft.structures)} structures do not fit to {len(heads)} channels of probabilities.")
    shares: NDArray[np.float32] = np.clip(np.stack(found, axis=-1), 0.0, 1.0).astype(np.float32)
    return shares


def _segment(
    number: int, structure: CodedStructure, draft: DraftResult, settings: SegmentationSettings
) -> SegmentDescription:
    algorithm = hd.AlgorithmIdentificationSequence(
        name=draft.result.provenance.model[:64],
        family=concept(ARTIFICIAL_INTELLIGENCE),
        version=__version__,
        source=MANUFACTURER,
    )
    item = SegmentDescription(
        segment_number=number,
        segment_label=structure.name[:64],
        segmented_property_category=concept(structure.category),
        segmented_property_type=concept(structure.type),
        algorithm_type="SEMIAUTOMATIC" if settings.edited_by_person else "AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=structure.tracking_uid,
        tracking_id=structure.tracking_id,
        anatomic_regions=None if structure.region is None else [concept(structure.region)],
        display_color=hd.color.CIELabColor.from_rgb(*structure.colour),
    )
    if structure.laterality is not None:
        side = code_item(structure.laterality)
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    if structure.label != structure.name:
        item.SegmentDescription = structure.label
    return item
