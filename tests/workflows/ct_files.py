"""Small DICOM series in files, for tests of the flows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from delineate.formats.dicom.reading import read_dicom
from delineate.geometry.grid import Grid

SHAPE = (4, 6, 8)
CT = "1.2.840.10008.5.1.4.1.1.2"


def write_series(
    folder: Path, array: NDArray[Any] | None = None, spacing_mm: tuple[float, float, float] = (2.5, 0.8, 1.1)
) -> Grid:
    """Write an oblique CT of whole numbers (z, y, x) and return its grid."""
    if array is None:
        array = np.broadcast_to(np.arange(SHAPE[0])[:, None, None], SHAPE)
    folder.mkdir(parents=True)
    turn = np.deg2rad(15)
    row, column = (np.cos(turn), np.sin(turn), 0.0), (-np.sin(turn), np.cos(turn), 0.0)
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    for number, plane in enumerate(array):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = CT, generate_uid(prefix=None)
        dataset.PatientName, dataset.PatientID, dataset.Modality = "Doe^Jane", "P1", "CT"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.ImagePositionPatient = [10.0, -20.0, 30.0 + spacing_mm[0] * number]
        dataset.ImageOrientationPatient = [f"{v:.10g}" for v in (*row, *column)]
        dataset.PixelSpacing = list(spacing_mm[1:])
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.InstanceNumber = 1, 0, number + 1
        dataset.PixelData = plane.astype(np.int16).tobytes()
        dataset.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return read_dicom(folder).source.grid
