"""Measurements as a DICOM Structured Report (TID 1500), written by highdicom.

Per structure: volume, longest diameter, longest diameter within a plane; with the structure's codes and identity, a
reference to its segment in the segmentation that was written with it, and to the source series as a whole. The device
is an observer; after approval the reviewer is one as well and verifies the document.

References
----------
DICOM PS3.16 TID 1500, 1411; PS3.3 C.17.2 (SR Document General: completion, verification).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from delineate import __version__
from delineate.clinical.attributes import MANUFACTURER, MODEL
from delineate.clinical.coding import CodedStructure
from delineate.clinical.dicom_seg import WrittenSegmentation
from delineate.clinical.highdicom_values import concept, person_name, quiet_libraries
from delineate.clinical.measurements import StructureMeasures, measure_structures
from delineate.clinical.results import Approval, ApprovedResult, DraftResult
from delineate.clinical.rtstruct import ARTIFICIAL_INTELLIGENCE
from delineate.clinical.source_datasets import source_datasets
from delineate.execution.atomic import atomic_path

DEVICE_UID = "2.25.175402917283649713870274180925263310592"
"""Of the program as an observer; the version stands beside it."""
UNKNOWN_ORGANISATION = "not stated"
"""The standard wants an organisation of who verifies; images need not name one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenReport:
    """What was written."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    measures: tuple[StructureMeasures, ...]


def write_sr(path: Path, approved: ApprovedResult, segmentation: WrittenSegmentation) -> WrittenReport:
    """Write the measurements of an approved result, verified by its reviewer.

    Raises
    ------
    ReviewError
        If the content changed after the approval.
    ResourceError
        If the file cannot be written.
    """
    approved.require_unchanged()
    return _write(path, approved.draft, segmentation, approved.approval)


def write_draft_sr(path: Path, draft: DraftResult, segmentation: WrittenSegmentation) -> WrittenReport:
    """Write the measurements of a draft: partial, unverified.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    return _write(path, draft, segmentation, None)


def _write(
    path: Path, draft: DraftResult, segmentation: WrittenSegmentation, approval: Approval | None
) -> WrittenReport:
    measures = measure_structures(draft)
    with quiet_libraries():
        report = _document(draft, segmentation, measures, approval)
    with atomic_path(path) as temporary:
        report.save_as(temporary)
    return WrittenReport(
        sop_class_uid=str(report.SOPClassUID),
        sop_instance_uid=str(report.SOPInstanceUID),
        series_uid=str(report.SeriesInstanceUID),
        measures=measures,
    )


def _document(
    draft: DraftResult,
    segmentation: WrittenSegmentation,
    measures: tuple[StructureMeasures, ...],
    approval: Approval | None,
) -> Comprehensive3DSR:
    content = MeasurementReport(
        observation_context=_context(approval),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[
            _group(number, structure, found, draft, segmentation)
            for number, (structure, found) in enumerate(zip(draft.structures, measures, strict=True), start=1)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    images = source_datasets(draft.source)
    organisation = str(draft.source.header.get("InstitutionName", "") or UNKNOWN_ORGANISATION)
    report = Comprehensive3DSR(
        evidence=[*images, _as_evidence(segmentation, images[0])],
        content=content,
        series_instance_uid=generate_uid(prefix=None),
        series_number=901,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=approval is not None,
        is_final=approval is not None,
        is_verified=approval is not None,
        verifying_observer_name=None if approval is None else person_name(approval.reviewer_name),
        verifying_organization=None if approval is None else organisation,
        series_description="Measurements" if approval else "Measurements by AI, not reviewed",
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=__version__,
    )
    if approval is not None:
        report.VerifyingObserverSequence[0].VerificationDateTime = approval.time_utc.strftime("%Y%m%d%H%M%S+0000")
    else:
        report.CompletionFlagDescription = "Draft by an algorithm, not reviewed"
    return report


def _context(approval: Approval | None) -> ObservationContext:
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=DEVICE_UID,
            name=MODEL,
            manufacturer_name=MANUFACTURER,
            model_name=MODEL,
            serial_number=__version__,
        ),
    )
    if approval is None:
        return ObservationContext(observer_device_context=device)
    person = ObserverContext(
        observer_type=codes.DCM.Person,
        observer_identifying_attributes=PersonObserverIdentifyingAttributes(
            name=person_name(approval.reviewer_name), login_name=approval.reviewer_id or None
        ),
    )
    return ObservationContext(observer_person_context=person, observer_device_context=device)


def _group(
    number: int,
    structure: CodedStructure,
    found: StructureMeasures,
    draft: DraftResult,
    segmentation: WrittenSegmentation,
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    algorithm = AlgorithmIdentification(
        name=draft.result.provenance.model[:64],
        version=__version__,
        family=concept(ARTIFICIAL_INTELLIGENCE),
        manufacturer=MANUFACTURER,
    )
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=structure.tracking_uid, identifier=structure.tracking_id),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.sop_class_uid,
            sop_instance_uid=segmentation.sop_instance_uid,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(draft.source.series_uid),
        ),
        finding_category=concept(structure.category),
        finding_type=concept(structure.type),
        finding_sites=_sites(structure),
        algorithm_id=algorithm,
        measurements=_measurements(found),
    )


def _sites(structure: CodedStructure) -> list[FindingSite] | None:
    """Return where a structure is; None for an abnormal one whose place is not known."""
    if structure.site is None:
        return None
    side = None if structure.laterality is None else concept(structure.laterality)
    return [FindingSite(anatomic_location=concept(structure.site), laterality=side)]


def _measurements(found: StructureMeasures) -> list[Measurement]:
    millilitre = CodedConcept("ml", "UCUM", "milliliter")
    millimetre = codes.UCUM.Millimeter
    maximum = codes.SCT.Maximum
    return [
        Measurement(name=codes.SCT.Volume, value=_digits(found.volume_ml), unit=millilitre),
        Measurement(name=codes.SCT.Diameter, value=_digits(found.diameter_mm), unit=millimetre, derivation=maximum),
        Measurement(name=codes.SCT.LongAxis, value=_digits(found.diameter_in_plane_mm), unit=millimetre),
    ]


def _digits(value: float) -> float:
    return float(np.format_float_positional(value, precision=6, unique=False, fractional=False))


def _as_evidence(segmentation: WrittenSegmentation, image: Dataset) -> Dataset:
    """Return the segmentation's header as far as a reference to it needs."""
    dataset = Dataset()
    dataset.update({element.tag: element for element in image})
    dataset.file_meta = image.file_meta
    dataset.SOPClassUID = segmentation.sop_class_uid
    dataset.SOPInstanceUID = segmentation.sop_instance_uid
    dataset.SeriesInstanceUID = segmentation.series_uid
    dataset.Modality = "SEG"
    return dataset
