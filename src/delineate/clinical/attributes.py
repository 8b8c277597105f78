"""Attributes that every object repeats: the patient and the study of the images, and the equipment that made it."""

from __future__ import annotations

from pydicom import Dataset

from delineate import __version__
from delineate.clinical.coding import Code
from delineate.errors import InputError
from delineate.formats.dicom.source_series import SourceSeries

PATIENT = ("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "OtherPatientIDsSequence")
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
)
MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Type 2: must be there, may be empty."""
UTF_8 = "ISO_IR 192"
MANUFACTURER, MODEL = "Delineate", "Delineate"


def require_identified(source: SourceSeries) -> None:
    """Check that the images have the identifiers that objects made of them refer to.

    Raises
    ------
    InputError
        If the study, the series, the frame of reference or an image has none.
    """
    lacking = [
        name
        for name, uid in (
            ("Study Instance UID", source.study_uid),
            ("Series Instance UID", source.series_uid),
            ("Frame of Reference UID", source.frame_of_reference_uid),
            ("SOP Instance UID", all(one.sop_instance_uid for one in source.slices)),
        )
        if not uid
    ]
    if lacking:
        raise InputError(
            f"The images have no {' and no '.join(lacking)}; objects made of them would belong to nothing. Export the "
            "study again from its archive."
        )


def copy_patient_and_study(target: Dataset, source: SourceSeries) -> None:
    """Copy the patient and study modules of the images; what they lack and the standard wants stays empty.

    Nothing is invented: a study without an identifier cannot have objects made of it.

    Raises
    ------
    InputError
        If the images lack an identifier.
    """
    require_identified(source)
    # names of reviewers and structures may need more characters than those of the images; the values are text by now
    target.SpecificCharacterSet = UTF_8
    for name in (*PATIENT, *STUDY):
        if name in source.header:
            target[name] = source.header[name]
    for name in MAY_BE_EMPTY:
        if name not in target:
            setattr(target, name, None)


def stamp_equipment(target: Dataset) -> None:
    """Say which program made the object."""
    target.Manufacturer = MANUFACTURER
    target.ManufacturerModelName = MODEL
    target.SoftwareVersions = __version__
    target.DeviceSerialNumber = __version__


def code_item(code: Code) -> Dataset:
    """Return a code as an item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning
    return item
