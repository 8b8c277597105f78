"""Preprocessing MSD Hippocampus with the commands as a user gives them: from the program's start to the last file.

``nnUNetv2_preprocess`` against ``delineate preprocess``, all 208 cases, two workers each; planning is done before and
not counted. Needs DELINEATE_DATA and DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from delineate.case import LabelScheme
from delineate.formats.nnunet import dataset_json
from peer import show


def measure() -> list[dict[str, Any]]:
    """Return one row, or none where data or interpreter are missing."""
    data, peer = os.environ.get("DELINEATE_DATA"), os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not data or not peer:
        return []
    source = Path(data) / "hippocampus"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        their_seconds, our_seconds = _theirs(source, work, Path(peer).parent), _ours(source, work)
    return [
        {
            "operation": "preprocessing Hippocampus, 208 cases, whole command, 2 workers",
            "peer": "nnUNetv2_preprocess",
            "peer_seconds": their_seconds,
            "ours_seconds": our_seconds,
            "ratio": their_seconds / our_seconds,
        }
    ]


def _ours(source: Path, work: Path) -> float:
    delineate = [sys.executable, "-m", "delineate.cli.main"]
    plan = [*delineate, "plan", str(source), "--out", str(work / "run")]
    subprocess.run(plan, check=True, capture_output=True)
    return _timed([*delineate, "preprocess", str(work / "run"), "-j", "2"], dict(os.environ))


def _theirs(source: Path, work: Path, commands: Path) -> float:
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    environment = {**os.environ, **{name: str(work / name) for name in names}}
    for name in names:
        (work / name).mkdir()
    write_nnunet_raw(source, work / "nnUNet_raw" / "Dataset004_Hippocampus")
    plan = [str(commands / "nnUNetv2_plan_and_preprocess"), "-d", "4", "--no_pp", "-npfp", "2"]
    subprocess.run(plan, env=environment, check=True, capture_output=True)
    command = [str(commands / "nnUNetv2_preprocess"), "-d", "4", "-c", "3d_fullres", "-np", "2"]
    return _timed(command, environment)


def write_nnunet_raw(source: Path, target: Path) -> None:
    """Lay the Decathlon task out as nnU-Net wants it."""
    for part in ("imagesTr", "labelsTr"):
        (target / part).mkdir(parents=True)
    images = sorted((source / "imagesTr").glob("hippocampus*.nii.gz"))
    for image in images:
        name = image.name.removesuffix(".nii.gz")
        shutil.copy(image, target / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copy(source / "labelsTr" / image.name, target / "labelsTr" / image.name)
    scheme = LabelScheme.simple("Anterior", "Posterior")
    declared = dataset_json(channel_names=["MRI"], scheme=scheme, training_cases=len(images), file_ending=".nii.gz")
    (target / "dataset.json").write_text(json.dumps(declared))


def _timed(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    show(measure())
