"""The images of a series as the headers that DICOM libraries ask for, made of what a :class:`SourceSeries` knows."""

from __future__ import annotations

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from delineate.clinical.attributes import copy_patient_and_study
from delineate.formats.dicom.source_series import SourceSeries, SourceSlice

_COPIED = (
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "EthnicGroup",
    "ReasonForVisit",
    "AdmissionID",
    "Manufacturer",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "InstitutionName",
    "StationName",
    "PositionReferenceIndicator",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
)
"""Of patient, study and equipment; objects of the same study repeat them."""


def source_datasets(source: SourceSeries) -> list[Dataset]:
    """Return one header for each instance of the series, in the order of its planes; a multi-frame one is alone.

    Raises
    ------
    InputError
        If the images have no study or frame of reference.
    """
    if source.slices[0].frame is not None:
        return [_multi_frame(source)]
    return [_single_frame(source, one, number) for number, one in enumerate(source.slices, start=1)]


def _common(source: SourceSeries, one: SourceSlice) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    copy_patient_and_study(dataset, source)
    for name in _COPIED:
        if name in source.header:
            dataset[name] = source.header[name]
    dataset.StudyInstanceUID = source.study_uid
    dataset.SeriesInstanceUID = source.series_uid
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.SOPClassUID = one.sop_class_uid
    dataset.SOPInstanceUID = one.sop_instance_uid
    dataset.Modality = source.modality
    dataset.Rows, dataset.Columns = source.grid.shape[1], source.grid.shape[2]
    dataset.SamplesPerPixel, dataset.BitsAllocated = 1, 16
    return dataset


def _single_frame(source: SourceSeries, one: SourceSlice, number: int) -> Dataset:
    dataset = _common(source, one)
    dataset.InstanceNumber = number
    dataset.ImagePositionPatient = list(one.position_mm)
    dataset.ImageOrientationPatient = orientation(source)
    dataset.PixelSpacing = list(source.grid.spacing_mm[1:])
    dataset.SliceThickness = source.grid.spacing_mm[0]
    return dataset


def _multi_frame(source: SourceSeries) -> Dataset:
    dataset = _common(source, source.slices[0])
    dataset.InstanceNumber = 1
    measures, axes, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = list(source.grid.spacing_mm[1:])
    measures.SliceThickness = source.grid.spacing_mm[0]
    axes.ImageOrientationPatient = orientation(source)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [axes]
    dataset.SharedFunctionalGroupsSequence = [shared]
    count = max(one.frame or 1 for one in source.slices)
    dataset.NumberOfFrames = count
    by_frame = {one.frame: one for one in source.slices}
    frames = []
    for number in range(1, count + 1):
        position, frame = Dataset(), Dataset()
        # frames of another part of a 4-D file lie where a plane of this volume lies; only their number matters
        position.ImagePositionPatient = list(by_frame.get(number, source.slices[0]).position_mm)
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    return dataset


def orientation(source: SourceSeries) -> list[float]:
    """Return Image Orientation (Patient): along a row, then along a column."""
    _, column, row = source.grid.direction
    return [*row, *column]
