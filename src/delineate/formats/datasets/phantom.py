"""Phantom torsos written as a dataset in nnU-Net's raw layout, with held-out cases whose truth is kept apart.

Some patients were examined twice on different scanners, so that splitting by patient matters; patients.csv says which.
Knows files; what a torso looks like stands in :mod:`delineate.phantoms`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from delineate.errors import UsageError
from delineate.execution import Progress, map_items, write_text
from delineate.formats.datasets.dataset import Dataset
from delineate.formats.datasets.declaration import read_declaration
from delineate.formats.datasets.nnunet_raw import open_nnunet_raw
from delineate.formats.images import write_image, write_labels
from delineate.phantoms import SCANNERS, STRUCTURES, Scanner, make_torso, torso_scheme

TWO_SCANS_EVERY = 4
"""Every fourth patient is examined twice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """One phantom case that is to be written."""

    case_id: str
    patient: int
    scan: int
    scanner: Scanner
    held_out: bool


def write_phantom_dataset(  # noqa: PLR0913 - one keyword per property of the dataset
    folder: Path,
    *,
    cases: int = 24,
    held_out: int = 6,
    seed: int = 0,
    scale: float = 1.0,
    scanners: Sequence[Scanner] = SCANNERS,
    one_scanner: bool = False,
    structures: Sequence[str] = STRUCTURES,
    progress: Progress | None = None,
) -> Dataset:
    """Write phantom cases to ``folder`` (imagesTr, labelsTr, imagesTs, labelsTs, patients.csv) and open them.

    Parameters
    ----------
    folder
        Where the dataset is written; files of an earlier run are overwritten.
    cases, held_out
        Number of training cases and of held-out cases; no patient is in both.
    seed
        Of the first patient; the same seed writes the same voxels.
    scale
        Multiplies the scanners' voxel sizes; 1 gives about 60x47x45 voxels.
    scanners
        Taken in turn.
    one_scanner
        Examine every patient on one scanner only, so that cases can be divided by scanner.
    structures
        Which structures get labels.
    progress
        Where to tell how far it is.

    Raises
    ------
    UsageError
        If there is no case to write or a structure is unknown.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    if cases < 1 or held_out < 0 or not scanners:
        raise UsageError(f"A phantom dataset needs a case and a scanner; asked for {cases} and {len(scanners)}.")
    scheme = torso_scheme(structures)
    examinations = schedule(cases, held_out, seed, scanners, one_scanner=one_scanner)
    write = partial(_write, folder=folder, scale=scale, structures=tuple(structures))
    outcomes = map_items(write, examinations, what="phantoms", progress=progress)
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error
    rows = [f"{e.case_id},torso_{e.patient:04d},{e.scanner.name}" for e in examinations]
    write_text(folder / "patients.csv", "\n".join(["case,patient,scanner", *rows]) + "\n")
    labels = {"background": 0, **{s.name: s.values[0] for s in scheme.structures}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    write_text(folder / "dataset.json", json.dumps(content, indent=2) + "\n")
    return open_nnunet_raw(folder, read_declaration(folder / "dataset.json"), frozenset())


def schedule(
    cases: int, held_out: int, seed: int, scanners: Sequence[Scanner], *, one_scanner: bool = False
) -> list[Examination]:
    """Return which patient is examined on which scanner; training cases first, then held-out ones of other patients."""
    examinations: list[Examination] = []
    patient = seed
    for total, apart in ((cases, False), (held_out, True)):
        written = 0
        while written < total:
            scans = 2 if (patient - seed) % TWO_SCANS_EVERY == TWO_SCANS_EVERY - 1 else 1
            for scan in range(min(scans, total - written)):
                turn = patient - seed if one_scanner else len(examinations)
                scanner = scanners[turn % len(scanners)]
                case_id = f"torso_{patient:04d}_{scan}"
                examinations.append(
                    Examination(case_id=case_id, patient=patient, scan=scan, scanner=scanner, held_out=apart)
                )
                written += 1
            patient += 1
    return examinations


def _write(examination: Examination, folder: Path, scale: float, structures: tuple[str, ...]) -> None:
    case = make_torso(
        examination.patient, examination.scanner, scan=examination.scan, scale=scale, structures=structures
    )
    part = "Ts" if examination.held_out else "Tr"
    write_image(folder / f"images{part}" / f"{examination.case_id}_0000.nii.gz", case.image)
    if case.labels is not None:
        write_labels(folder / f"labels{part}" / f"{examination.case_id}.nii.gz", case.labels)
