"""Reading a CT series against SimpleITK, and writing a structure set against rt-utils; in one run, both made here.

    python benchmarks/bench_dicom.py [--peer-python PYTHON] [--slices 300] [--rounds 3]

PYTHON is an interpreter with rt-utils; without one only the own writer is timed. Processor time is shown beside the
clock's, because on a shared machine only the former compares. The phantom has noise, so nothing is easier than in a
real scan; the 20 organs are smooth lumps of 1 to 300 ml.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from delineate.case import LabelMap, Provenance, Result
from delineate.clinical.coding import Code, CodedStructure
from delineate.clinical.results import DraftResult
from delineate.clinical.rtstruct import write_draft_rtstruct
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct

CT = "1.2.840.10008.5.1.4.1.1.2"
SPACING = (2.0, 0.9, 0.9)
ORGANS = 20

PEER = """
import sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from rt_utils import RTStructBuilder
images, labels, out = sys.argv[1:4]
labels = np.load(labels)
masks = [np.ascontiguousarray(np.moveaxis(labels == value, 0, -1)) for value in range(1, int(labels.max()) + 1)]
clock, cpu = time.perf_counter(), time.process_time()
builder = RTStructBuilder.create_new(dicom_series_path=images)
opened = time.perf_counter() - clock, time.process_time() - cpu
for number, mask in enumerate(masks, start=1):
    builder.add_roi(mask=mask, name=f"organ {number}")
builder.save(out)
print(time.perf_counter() - clock - opened[0], time.process_time() - cpu - opened[1])
"""


def write_series(folder: Path, slices: int) -> None:
    """Write a CT series of 512 x 512."""
    generator = np.random.default_rng(1)
    study, series, frame = (generate_uid(prefix=None) for _ in range(3))
    base = generator.integers(0, 2000, (512, 512)).astype(np.uint16)
    for number in range(slices):
        plane = Dataset()
        plane.SOPClassUID, plane.SOPInstanceUID, plane.Modality = CT, generate_uid(prefix=None), "CT"
        plane.StudyInstanceUID, plane.SeriesInstanceUID, plane.FrameOfReferenceUID = study, series, frame
        plane.PatientName, plane.PatientID, plane.PatientBirthDate, plane.PatientSex = "Phantom", "P", "", "O"
        plane.StudyDate, plane.StudyTime, plane.StudyID, plane.AccessionNumber = "20260101", "120000", "1", ""
        plane.SeriesDescription, plane.ImageType = "bench", ["ORIGINAL", "PRIMARY", "AXIAL"]
        plane.Manufacturer, plane.InstitutionName, plane.SliceThickness = "none", "none", SPACING[0]
        plane.InstanceNumber, plane.AcquisitionNumber = number + 1, 1
        plane.ImagePositionPatient = [-230.0, -230.0, -300.0 + SPACING[0] * number]
        plane.ImageOrientationPatient, plane.PixelSpacing = [1, 0, 0, 0, 1, 0], [SPACING[1], SPACING[2]]
        plane.SamplesPerPixel, plane.PhotometricInterpretation, plane.Rows, plane.Columns = 1, "MONOCHROME2", 512, 512
        plane.BitsAllocated, plane.BitsStored, plane.HighBit, plane.PixelRepresentation = 16, 12, 11, 0
        plane.RescaleSlope, plane.RescaleIntercept = 1, -1024
        plane.PixelData = np.roll(base, number, axis=0).tobytes()
        plane["PixelData"].VR = "OW"
        plane.file_meta = FileMetaDataset()
        plane.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        plane.file_meta.MediaStorageSOPClassUID, plane.file_meta.MediaStorageSOPInstanceUID = CT, plane.SOPInstanceUID
        dcmwrite(folder / f"{(number * 7919) % 10007:05d}.dcm", plane, enforce_file_format=True)


def organs(slices: int) -> NDArray[np.uint8]:
    """Return 20 smooth lumps with bumps and, in every third, a hole."""
    generator = np.random.default_rng(2)
    labels = np.zeros((slices, 512, 512), dtype=np.uint8)
    for value in range(1, ORGANS + 1):
        centre = np.array([generator.uniform(0.2, 0.8) * n for n in labels.shape])
        radius = generator.uniform(8.0, 45.0)
        reach = np.ceil(1.3 * radius / np.array(SPACING)).astype(int)
        low, high = np.maximum(centre.astype(int) - reach, 0), np.minimum(centre.astype(int) + reach + 1, labels.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = (np.arange(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = ((axis - c) * s for axis, c, s in zip((z, y, x), centre, SPACING, strict=True))
        dz, dy, dx = z[:, None, None], y[None, :, None], x[None, None, :]
        bumps = 1 + 0.15 * np.sin(5 * np.arctan2(dy, dx)) + 0.1 * np.sin(dz / 6)
        distance = np.sqrt(dz**2 + dy**2 + dx**2) / (radius * bumps)
        inside = (distance < 1) & ((distance > 0.4) | (value % 3 > 0))
        labels[box][inside] = value
    return labels


def timed(function: Callable[[], Any], rounds: int) -> tuple[float, float, Any]:
    """Return the median clock and processor seconds of some calls, and the last result."""
    clocks, cpus, result = [], [], None
    for _ in range(rounds):
        clock, cpu = time.perf_counter(), time.process_time()
        result = function()
        clocks.append(time.perf_counter() - clock)
        cpus.append(time.process_time() - cpu)
    return statistics.median(clocks), statistics.median(cpus), result


def by_itk(folder: Path) -> Any:
    """Read with SimpleITK, as its documentation does."""
    reader: Any = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return SimpleITK.GetArrayFromImage(reader.Execute())


def bench_reading(folder: Path, rounds: int) -> DicomVolume:
    """Compare the readers, alternately."""
    mine, theirs = [], []
    for _ in range(rounds):
        clock, cpu, volume = timed(lambda: read_dicom(folder), 1)
        mine.append((clock, cpu))
        clock, cpu, array = timed(lambda: by_itk(folder), 1)
        theirs.append((clock, cpu))
    if not np.array_equal(volume.image.array[0], array):
        raise SystemExit("the readers disagree")
    for name, times in (("delineate", mine), ("SimpleITK", theirs)):
        clocks, cpus = zip(*times, strict=True)
        print(
            f"reading   {name:<10} {statistics.median(clocks):6.2f} s clock  {statistics.median(cpus):6.2f} s processor"
        )
    return volume


def draft_of(labels: NDArray[np.uint8], volume: DicomVolume) -> DraftResult:
    """Return the organs as a draft."""
    code = Code(value="123037004", scheme="SCT", meaning="Anatomical Structure")
    structures = tuple(
        CodedStructure(
            name=f"organ {value}",
            values=(value,),
            label=f"organ {value}",
            category=code,
            type=code,
            laterality=None,
            interpreted_type="ORGAN",
            colour=(200, 10, 10),
            tracking_id=str(value),
            tracking_uid=generate_uid(prefix=None),
        )
        for value in range(1, ORGANS + 1)
    )
    label_map = LabelMap(array=labels, grid=volume.image.grid)
    provenance = Provenance(software="bench", model="bench")
    return DraftResult(
        result=Result(case_id="c", labels=label_map, provenance=provenance), source=volume.source, structures=structures
    )


def bench_writing(folder: Path, work: Path, slices: int, rounds: int, peer: str | None) -> None:
    """Compare the writers of structure sets."""
    labels = organs(slices)
    draft = draft_of(labels, read_dicom(folder))
    clock, cpu, written = timed(lambda: write_draft_rtstruct(work / "own.dcm", draft), rounds)
    points = sum(one.points for one in written.structures)
    contours = sum(one.contours for one in written.structures)
    size = (work / "own.dcm").stat().st_size / 1e6
    print(f"writing   delineate  {clock:6.2f} s clock  {cpu:6.2f} s processor")
    print(f"          {contours} contours, {points} points, {size:.1f} MB")
    clock, cpu, read = timed(lambda: read_rtstruct(work / "own.dcm", draft.source), 1)
    exact = all(np.array_equal(one.mask, labels == value) for value, one in enumerate(read.structures, start=1))
    print(f"re-reading           {clock:6.2f} s clock  {cpu:6.2f} s processor  exact: {exact}")
    if peer is not None:
        np.save(work / "labels.npy", labels)
        command = [peer, "-c", PEER, str(folder), str(work / "labels.npy"), str(work / "peer.dcm")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        clock, cpu = (float(value) for value in done.stdout.split()[-2:])
        print(f"writing   rt-utils   {clock:6.2f} s clock  {cpu:6.2f} s processor")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peer-python", help="interpreter with rt-utils")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--organ-slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        for folder, slices in (("long", options.slices), ("short", options.organ_slices)):
            (work / folder).mkdir()
            write_series(work / folder, slices)
        bench_reading(work / "long", options.rounds)
        bench_writing(work / "short", work, options.organ_slices, options.rounds, options.peer_python)


if __name__ == "__main__":
    main()
