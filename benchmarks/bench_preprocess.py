"""Preprocessing MSD Hippocampus, files to files, against nnU-Net; one process each, imports not counted.

Needs DELINEATE_DATA (the folder that holds ``hippocampus``) and DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from delineate.case import LabelScheme
from delineate.formats.images import read_image, read_labels
from delineate.formats.nnunet import dataset_json, plan_to_json
from delineate.formats.prepared_store import PreparedStore
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, Plan
from delineate.preprocessing import prepare

SCHEME = LabelScheme.simple("Anterior", "Posterior")
CASES = 60


def measure(cases: int = CASES, repeats: int = 2) -> list[dict[str, Any]]:
    """Return one row, or none where data or interpreter are missing."""
    data, peer = os.environ.get("DELINEATE_DATA"), os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not data or not peer:
        return []
    images = sorted((Path(data) / "hippocampus" / "imagesTr").glob("hippocampus*.nii.gz"))[:cases]
    files = [(path.name.removesuffix(".nii.gz"), path, path.parents[1] / "labelsTr" / path.name) for path in images]
    with tempfile.TemporaryDirectory() as folder:
        ours = min(_ours(files, Path(folder) / f"ours{number}") for number in range(repeats))
        theirs = min(_theirs(files, Path(folder) / f"peer{number}", peer) for number in range(repeats))
        difference = _difference(files, Path(folder) / "ours0", Path(folder) / "peer0")
    return [
        {
            "operation": f"preprocessing {len(files)} cases of Hippocampus, files to files",
            "peer": "nnU-Net",
            "peer_seconds": theirs,
            "ours_seconds": ours,
            "ratio": theirs / ours,
            "max_difference": difference,
        }
    ]


def _ours(files: list[tuple[str, Path, Path]], folder: Path) -> float:
    plan = _plan()
    configuration = plan.configurations[0]
    store = PreparedStore(folder, patch_size=configuration.patch_size)
    start = time.perf_counter()
    for name, image, labels in files:
        store.write(name, prepare(read_image(image), read_labels(labels, SCHEME), plan, configuration, case_id=name))
    return time.perf_counter() - start


def _theirs(files: list[tuple[str, Path, Path]], folder: Path, interpreter: str) -> float:
    declared = dataset_json(channel_names=["MRI"], scheme=SCHEME, training_cases=208, file_ending=".nii.gz")
    cases = [[name, str(image), str(labels)] for name, image, labels in files]
    question = {"plans": plan_to_json(_plan()), "dataset": declared, "cases": cases, "out": str(folder)}
    folder.mkdir()
    path = folder / "question.json"
    path.write_text(json.dumps(question))
    script = Path(__file__).with_name("preprocess_peer.py")
    done = subprocess.run([interpreter, str(script), str(path)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _difference(files: list[tuple[str, Path, Path]], ours: Path, theirs: Path) -> float:
    import blosc2

    store, worst = PreparedStore(ours), 0.0
    for name, _, _ in files:
        case = store.open(name)
        array = blosc2.open(str(theirs / f"{name}.b2nd"), mode="r")[...]
        labels = blosc2.open(str(theirs / f"{name}_seg.b2nd"), mode="r")[...]
        if not np.array_equal(case.labels[...], labels[0]):
            return float("inf")
        worst = max(worst, float(np.abs(case.array[...] - array).max()))
    return worst


def _plan() -> Plan:
    """Return the plan that nnU-Net makes for this dataset, as far as preprocessing looks at it."""
    statistics = IntensityStatistics(
        mean=1.0, median=1.0, std=1.0, min=0.0, max=1.0, percentile_99_5=1.0, percentile_00_5=0.0
    )
    architecture = Architecture(
        kind="plain_unet",
        dims=3,
        features=(32, 64, 128, 256),
        kernel_sizes=((3, 3, 3),) * 4,
        strides=((1, 1, 1), *((2, 2, 2),) * 3),
        encoder_blocks=(2,) * 4,
        decoder_convs=(2,) * 3,
    )
    configuration = Configuration(
        name="3d_fullres",
        data_identifier="nnUNetPlans_3d_fullres",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=(40, 56, 40),
        batch_size=9,
        median_shape=(36.0, 50.0, 35.0),
        normalization=("zscore",),
        use_mask_for_norm=(False,),
        architecture=architecture,
        batch_dice=False,
    )
    return Plan(
        dataset_name="Dataset004_Hippocampus",
        plans_name="nnUNetPlans",
        planner_name="ExperimentPlanner",
        image_reader="SimpleITKIO",
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        original_median_spacing_mm=(1.0, 1.0, 1.0),
        original_median_shape=(36.0, 50.0, 35.0),
        intensities=(statistics,),
        configurations=(configuration,),
    )


def main() -> None:
    rows = measure()
    if not rows:
        print("preprocessing: set DELINEATE_DATA and DELINEATE_ORACLE_PYTHON to run this benchmark")
    for row in rows:
        print(
            f"{row['operation']}: {row['peer']} {row['peer_seconds']:.2f} s, ours {row['ours_seconds']:.2f} s, "
            f"{row['ratio']:.1f} times faster, largest difference {row['max_difference']:.1e}"
        )


if __name__ == "__main__":
    main()
