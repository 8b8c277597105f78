"""Objects with an identifier in every attribute of the data dictionary, and small honest series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import DataElement, Dataset, Sequence, dcmwrite
from pydicom.datadict import DicomDictionary
from pydicom.dataset import FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from delineate.clinical.deidentify import NO_INSTANCES
from delineate.clinical.deidentify_profile import profile_rows

CT, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33"
SURNAME, FORENAME, PATIENT = "Quixley", "Zebedee", "MRN-778812"
CANARY, UID_CANARY, DATE_CANARY = "CANARYBIRD", "424242424242", "19610213"
FORBIDDEN = tuple(text.lower().encode() for text in (SURNAME, FORENAME, PATIENT, CANARY, UID_CANARY, DATE_CANARY))
LISTED = frozenset(row.tag for row in profile_rows())
FREE = ("PN", "LT", "ST", "UT", "UC", "UR", "AE", "UN")
SKIPPED = ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "PixelDataProviderURL", "SpecificCharacterSet")
CODED = ("LongCodeValue", "URNCodeValue", "CodingSchemeURL")


def planted(number: int, keyword: str, tag: int, vr: str) -> Any:
    """Return a value that tells a person: a text of its own where the profile must remove it, else the name."""
    listed = f"{tag:08x}" in LISTED
    text = f"{CANARY}{number}" if listed or (vr in FREE and keyword not in CODED) else f"made for {SURNAME}"
    if vr in ("DA", "DT", "TM"):
        return {"DA": DATE_CANARY, "DT": DATE_CANARY + "121212", "TM": "121212"}[vr]
    if vr == "UI":
        return None if NO_INSTANCES.search(keyword) else f"1.2.{UID_CANARY}.{number}"
    if vr in ("OB", "OW", "UN", "OB or OW"):
        return text.encode() + b" " * (len(text) % 2)
    if vr in ("SH", "LO", "CS", "LT", "ST", "UT", "UC", "UR", "AE", "PN"):
        short = text.upper()[-16:].strip()
        return {"CS": short, "AE": short, "SH": short, "UR": text.replace(" ", ":")}.get(vr, text)
    return None


def everything() -> Dataset:
    """Return every attribute of the dictionary, each with an identifier that its kind can hold."""
    dataset = Dataset()
    for number, (tag, (vr, _, _, _, keyword)) in enumerate(DicomDictionary.items()):
        if Tag(tag).group < 8 or keyword in SKIPPED or tag >> 16 == 0x7FE0 or tag >> 16 >= 0xFFFC:
            continue
        value = planted(number, keyword, tag, vr)
        if value is not None:
            dataset[tag] = DataElement(tag, vr.split(" or ")[0], value)
    for group in (0x6000, 0x6002):
        dataset[group, 0x3000] = DataElement((group, 0x3000), "OW", CANARY.encode())
        dataset[group, 0x4000] = DataElement((group, 0x4000), "LT", CANARY)
        dataset[group, 0x1500] = DataElement((group, 0x1500), "LO", CANARY)
    dataset[0x5000, 0x3000] = DataElement((0x5000, 0x3000), "OW", CANARY.encode())
    private = dataset.private_block(0x0029, f"{CANARY} MAKER", create=True)
    private.add_new(0x10, "LO", f"{CANARY} {SURNAME}")
    private.add_new(0x11, "OB", CANARY.encode())
    private.add_new(0x12, "SQ", [item_with_name()])
    dataset[0x0009, 0x0001] = DataElement((0x0009, 0x0001), "UN", CANARY.encode())
    dataset[0x0018, 0x5FFE] = DataElement((0x0018, 0x5FFE), "UN", CANARY.encode())  # no attribute of the standard
    dataset[0xFFFC, 0xFFFC] = DataElement((0xFFFC, 0xFFFC), "OB", CANARY.encode())
    return dataset


def item_with_name() -> Dataset:
    item = Dataset()
    item.PatientName = f"{SURNAME}^{FORENAME}"
    return item


def planted_object() -> Dataset:
    """Return a CT image with everything, at the top and three levels down, in file meta and preamble."""
    dataset = everything()
    below = everything()
    deeper = Dataset()
    deeper.DerivationCodeSequence = Sequence([everything()])
    below.SharedFunctionalGroupsSequence = Sequence([deeper])
    dataset.PerFrameFunctionalGroupsSequence = Sequence([below, item_with_name()])
    dataset.PatientName, dataset.PatientID = f"{SURNAME}^{FORENAME}", PATIENT
    dataset.Manufacturer = f"Scanner of {FORENAME} {SURNAME.upper()}"
    dataset.SOPClassUID, dataset.Modality = CT, "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.BurnedInAnnotation = "NO"
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientComments = f"Größe; {SURNAME}"
    add_pixels(dataset, np.zeros((4, 4), dtype=np.int16))
    return with_meta(dataset)


def add_pixels(dataset: Dataset, plane: np.ndarray) -> None:
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = plane.astype("<i2").tobytes()


def with_meta(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = f"1.2.{UID_CANARY}"
    meta.ImplementationVersionName = CANARY
    meta.SourceApplicationEntityTitle = CANARY
    meta.PrivateInformationCreatorUID = f"1.2.{UID_CANARY}.1"
    meta.PrivateInformation = CANARY.encode()
    dataset.file_meta = meta
    dataset.preamble = (CANARY.encode() * 13)[:128]
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return path


def ct_series(folder: Path, *, planes: int = 4, **more: Any) -> Path:
    """Write a small CT series of a named patient; return its folder."""
    generator = np.random.default_rng(5)
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    for number in range(planes):
        dataset = Dataset()
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT, generate_uid(prefix=None)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.PatientName, dataset.PatientID = f"{SURNAME}^{FORENAME}", PATIENT
        dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19310213", "F", "093Y"
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240229"
        dataset.StudyTime = dataset.AcquisitionTime = "101112.5"
        dataset.AccessionNumber, dataset.StudyID, dataset.ReferringPhysicianName = "ACC998877", "1", "House^Gregory"
        dataset.Modality, dataset.Manufacturer = "CT", "ScannerWorks"
        dataset.SeriesNumber, dataset.InstanceNumber = 1, number + 1
        dataset.SeriesDescription = f"CT ABDOMEN 5.0 mm portal, {SURNAME} born 13.02.1931"
        dataset.StationName, dataset.InstitutionName = "ROOM4711", "St Elsewhere"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-8, -7, 2.5 * number], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.9, 0.9], 2.5
        dataset.RescaleIntercept, dataset.RescaleSlope = -1024, 1
        dataset.PositionReferenceIndicator = None
        dataset.KVP, dataset.PatientPosition, dataset.AcquisitionNumber = 120, "HFS", 1
        block = dataset.private_block(0x0019, "ACME 1", create=True)
        block.add_new(0x01, "DS", "2.5")
        block.add_new(0x02, "LO", f"{SURNAME} {CANARY}")
        add_pixels(dataset, generator.integers(0, 2000, (9, 11)))
        for name, value in more.items():
            setattr(dataset, name, value)
        save(with_meta(dataset), folder / f"{number}.dcm")
    return folder
