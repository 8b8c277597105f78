"""RT Structure Sets, written on pydicom: contours along voxel edges, with the attributes that planning systems ask for.

A reader that asks which voxel centres lie inside gets the mask back voxel for voxel. Holes are reached by a bridge
without width (``keyhole``), or are contours of their own that are combined by exclusive or (``xor``); nested plain
contours are never written, because readers differ on them.

References
----------
DICOM PS3.3 A.19 (RT Structure Set IOD), C.8.8.5 to C.8.8.8, C.8.8.6.3 (holes), C.8.8.16 (Approval Module).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from delineate import __version__
from delineate.clinical.attributes import code_item, copy_patient_and_study, stamp_equipment
from delineate.clinical.coding import Code, CodedStructure
from delineate.clinical.results import ApprovedResult, DraftResult
from delineate.execution.atomic import atomic_path
from delineate.formats.dicom.source_series import SourceSeries
from delineate.masks.contours import Polygon, Region, keyhole, simplify, trace_regions
from delineate.masks.polygons import fill_even_odd

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
STUDY_REFERENCE = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: retired, and what every writer uses here."""
ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")
DECIMALS = 4
"""Of millimetres in contours: a tenth of a micrometre; a decimal string holds 16 characters."""
SERIES_NUMBER = 902
_CONTOUR_DATA = Tag(0x3006, 0x0050)

Holes = Literal["keyhole", "xor"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureSetSettings:
    """How a structure set is written."""

    label: str = "DELINEATE"
    """At most 16 characters."""
    holes: Holes = "keyhole"
    simplify_voxels: float = 0.0
    """Largest distance, in voxels, of a vertex that is left out; 0: every corner is kept."""
    edited_by_person: bool = False
    """Whether a person changed what the model drew: the algorithm is then called semiautomatic."""
    predecessor: tuple[str, str] | None = None
    """SOP class and instance UID of the structure set that this one replaces."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenStructure:
    """One structure as it was written."""

    name: str
    contours: int
    points: int
    volume_ml: float
    dice_kept: float
    """Dice of the written contours, filled again, with the mask; 1 unless they were simplified."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenStructureSet:
    """What was written."""

    sop_instance_uid: str
    series_uid: str
    structures: tuple[WrittenStructure, ...]


def write_rtstruct(
    path: Path, approved: ApprovedResult, settings: StructureSetSettings | None = None
) -> WrittenStructureSet:
    """Write an approved result as an RT Structure Set with its approval.

    Raises
    ------
    ReviewError
        If the content changed after the approval.
    ResourceError
        If the file cannot be written.
    """
    approved.require_unchanged()
    dataset, written = _structure_set(approved.draft, settings or StructureSetSettings())
    dataset.ApprovalStatus = "APPROVED"
    dataset.ReviewDate = approved.approval.time_utc.strftime("%Y%m%d")
    dataset.ReviewTime = approved.approval.time_utc.strftime("%H%M%S")
    dataset.ReviewerName = approved.approval.reviewer_name
    _save(path, dataset)
    return written


def write_draft_rtstruct(
    path: Path, draft: DraftResult, settings: StructureSetSettings | None = None
) -> WrittenStructureSet:
    """Write a draft as an RT Structure Set that says UNAPPROVED and is described as not reviewed.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    dataset, written = _structure_set(draft, settings or StructureSetSettings())
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.SeriesDescription = "Contours by AI, not reviewed"
    dataset.StructureSetDescription = "Draft by an algorithm; not reviewed by a person; not for clinical use"
    _save(path, dataset)
    return written


def _structure_set(draft: DraftResult, settings: StructureSetSettings) -> tuple[Dataset, WrittenStructureSet]:
    source, now = draft.source, datetime.now(UTC)
    dataset = Dataset()
    copy_patient_and_study(dataset, source)
    stamp_equipment(dataset)
    dataset.SOPClassUID = RT_STRUCTURE_SET
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = SERIES_NUMBER
    dataset.SeriesDescription = "Contours"
    dataset.OperatorsName = None
    dataset.SeriesDate = dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.InstanceNumber = 1
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.PositionReferenceIndicator = None
    dataset.StructureSetLabel = settings.label[:16]
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(source)]
    if settings.predecessor is not None:
        dataset.PredecessorStructureSetSequence = [_reference(*settings.predecessor)]
    rois = list(_rois(draft, settings, now))
    dataset.StructureSetROISequence = [roi for roi, _, _, _ in rois]
    dataset.ROIContourSequence = [contours for _, contours, _, _ in rois]
    dataset.RTROIObservationsSequence = [observation for _, _, observation, _ in rois]
    written = WrittenStructureSet(
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        structures=tuple(structure for _, _, _, structure in rois),
    )
    return dataset, written


def _rois(
    draft: DraftResult, settings: StructureSetSettings, now: datetime
) -> Iterator[tuple[Dataset, Dataset, Dataset, WrittenStructure]]:
    """Yield structure, contours and observation of every ROI, and what is to be told of it."""
    labels = draft.result.labels.array
    traced: dict[int, list[Region]] = {}
    for region in trace_regions(labels):
        traced.setdefault(region.label, []).append(region)
    for number, structure in enumerate(draft.structures):
        if len(structure.values) == 1:
            regions: Sequence[Region] = traced.get(structure.values[0], [])
        else:
            regions = trace_regions(np.isin(labels, structure.values))
        contours, points, drawn = _contour_items(regions, draft.source, settings)
        simplified = settings.simplify_voxels > 0
        kept = _dice_kept(drawn, np.isin(labels, structure.values)) if simplified else 1.0
        volume = sum(region.area for region in regions) * draft.source.grid.voxel_volume_mm3 / 1000
        yield (
            _roi(number + 1, structure, draft, settings, volume),
            _roi_contour(number + 1, structure, contours, draft.source),
            _observation(number + 1, structure, now),
            WrittenStructure(
                name=structure.name, contours=len(contours), points=points, volume_ml=volume, dice_kept=kept
            ),
        )


def _contour_items(
    regions: Sequence[Region], source: SourceSeries, settings: StructureSetSettings
) -> tuple[list[Dataset], int, dict[int, list[Polygon]]]:
    """Return the contours, the number of their points, and the polygons by plane."""
    affine = source.grid.affine
    items: list[Dataset] = []
    points = 0
    drawn: dict[int, list[Polygon]] = {}
    as_xor = settings.holes == "xor" and any(region.holes for region in regions)  # one type for the whole ROI
    for region in regions:
        loops = [region.outer, *region.holes] if as_xor else [keyhole(region)]
        for loop in loops:
            polygon = simplify(loop, settings.simplify_voxels)
            drawn.setdefault(region.plane, []).append(polygon)
            points += len(polygon)
            kind = "CLOSEDPLANAR_XOR" if as_xor else "CLOSED_PLANAR"
            items.append(_contour(len(items) + 1, polygon, region.plane, kind, affine, source))
    return items, points, drawn


def _dice_kept(drawn: dict[int, list[Polygon]], mask: NDArray[np.bool_]) -> float:
    common = total = 0
    for plane in range(len(mask)):
        filled = fill_even_odd(drawn.get(plane, []), (mask.shape[1], mask.shape[2]))
        common += 2 * int((filled & mask[plane]).sum())
        total += int(filled.sum()) + int(mask[plane].sum())
    return common / total if total else 1.0


def _contour(
    number: int, polygon: Polygon, plane: int, kind: str, affine: NDArray[np.float64], source: SourceSeries
) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = [_image_reference(source, plane)]
    item.ContourGeometricType = kind
    item.NumberOfContourPoints = len(polygon)
    item.ContourNumber = number
    # from where the image truly lies: planes of a nearly regular series lie beside the grid
    world = polygon @ affine[:3, 1:3].T + np.array(source.slices[plane].position_mm)
    text = "\\".join([f"{value:.{DECIMALS}f}" for value in world.ravel().tolist()]).encode("ascii")
    text += b" " * (len(text) % 2)
    # as raw bytes: a decimal object for every number would take most of the time
    item[_CONTOUR_DATA] = RawDataElement(_CONTOUR_DATA, "DS", len(text), text, 0, True, True)
    item.set_original_encoding(True, True, default_encoding)  # as the file will be; else it is parsed to be written
    return item


def _roi(
    number: int, structure: CodedStructure, draft: DraftResult, settings: StructureSetSettings, volume_ml: float
) -> Dataset:
    item = Dataset()
    item.ROINumber = number
    item.ReferencedFrameOfReferenceUID = draft.source.frame_of_reference_uid
    item.ROIName = structure.label
    item.ROIDescription = structure.name[:1024]
    item.ROIVolume = f"{volume_ml:.6g}"
    item.ROIGenerationAlgorithm = "SEMIAUTOMATIC" if settings.edited_by_person else "AUTOMATIC"
    item.ROIGenerationDescription = draft.result.provenance.model[:64]
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [code_item(ARTIFICIAL_INTELLIGENCE)]
    algorithm.AlgorithmName = draft.result.provenance.model[:64]
    algorithm.AlgorithmVersion = __version__
    item.ROIDerivationAlgorithmIdentificationSequence = [algorithm]
    return item


def _roi_contour(number: int, structure: CodedStructure, contours: list[Dataset], source: SourceSeries) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = list(structure.colour)
    item.RecommendedDisplayCIELabValue = list(hd.color.CIELabColor.from_rgb(*structure.colour).value)
    item.SourcePixelPlanesCharacteristicsSequence = [_source_planes(source)]
    if contours:
        item.ContourSequence = contours
    item.ReferencedROINumber = number
    return item


def _source_planes(source: SourceSeries) -> Dataset:
    """Return the raster that the contours were made on: a plane without a contour has no part of the ROI."""
    grid, first = source.grid, source.slices[0]
    item = Dataset()
    item.PixelSpacing = [DSfloat(value, auto_format=True) for value in grid.spacing_mm[1:]]
    item.SpacingBetweenSlices = DSfloat(grid.spacing_mm[0], auto_format=True)
    item.ImageOrientationPatient = [
        DSfloat(value, auto_format=True) for value in (*grid.direction[2], *grid.direction[1])
    ]
    item.ImagePositionPatient = [DSfloat(value, auto_format=True) for value in first.position_mm]
    item.NumberOfFrames, item.Rows, item.Columns = grid.shape
    return item


def _observation(number: int, structure: CodedStructure, _now: datetime) -> Dataset:
    item = Dataset()
    item.ObservationNumber = number
    item.ReferencedROINumber = number
    item.ROIObservationLabel = structure.label[:16]
    item.RTROIInterpretedType = structure.interpreted_type
    item.ROIInterpreter = None
    item.RTROIIdentificationCodeSequence = [code_item(structure.type)]
    item.SegmentedPropertyCategoryCodeSequence = [code_item(structure.category)]
    return item


def _frame_of_reference(source: SourceSeries) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ContourImageSequence = [_image_reference(source, plane) for plane in range(len(source.slices))]
    study = _reference(STUDY_REFERENCE, source.study_uid)
    study.RTReferencedSeriesSequence = [series]
    item = Dataset()
    item.FrameOfReferenceUID = source.frame_of_reference_uid
    item.RTReferencedStudySequence = [study]
    return item


def _image_reference(source: SourceSeries, plane: int) -> Dataset:
    one = source.slices[plane]
    item = _reference(one.sop_class_uid, one.sop_instance_uid)
    if one.frame is not None:
        item.ReferencedFrameNumber = one.frame
    return item


def _reference(sop_class: str, instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = instance
    return item


def _save(path: Path, dataset: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    # explicit VR would limit the text of a contour to 65534 bytes
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with atomic_path(path) as temporary:
        content: Any = FileDataset(str(temporary), dataset, preamble=b"\0" * 128, file_meta=meta)
        content.save_as(temporary, enforce_file_format=True)
