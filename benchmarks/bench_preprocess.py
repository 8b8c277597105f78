"""Preprocessing MSD Hippocampus, files to files, against nnU-Net; one process each.

Needs DELINEATE_DATA (the folder that holds ``hippocampus``) and DELINEATE_ORACLE_PYTHON (an interpreter with nnunetv2).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def measure(cases: int = CASES, repeats: int = 3) -> list[dict[str, Any]]:
    """Return two rows, or none where data or interpreter are missing: the work alone, and with the programs' start."""
    data, peer = os.environ.get("DELINEATE_DATA"), os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not data or not peer:
        return []
    images = sorted((Path(data) / "hippocampus" / "imagesTr").glob("hippocampus*.nii.gz"))[:cases]
    declared = dataset_json(channel_names=["MRI"], scheme=SCHEME, training_cases=208, file_ending=".nii.gz")
    question = {
        "plans": plan_to_json(_plan()),
        "dataset": declared,
        "cases": [
            [path.name.split(".")[0], str(path), str(path.parents[1] / "labelsTr" / path.name)] for path in images
        ],
    }
    commands = {
        "ours": [sys.executable, __file__, "--child"],
        "peer": [peer, str(Path(__file__).with_name("preprocess_peer.py"))],
    }
    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):  # in turns, so that a busy machine is busy for both
            for who, command in commands.items():
                times = _timed(command, question, Path(folder) / f"{who}{number}")
                best[who] = tuple(map(min, times, best.get(who, times)))
        difference = _difference(question["cases"], Path(folder) / "ours0", Path(folder) / "peer0")
    return [
        {
            "operation": f"preprocessing {len(images)} cases of Hippocampus, files to files{note}",
            "peer": "nnU-Net",
            "peer_seconds": best["peer"][index],
            "ours_seconds": best["ours"][index],
            "ratio": best["peer"][index] / best["ours"][index],
            "max_difference": difference,
        }
        for index, note in enumerate((", start of the program not counted", ", whole program"))
    ]


def _timed(command: list[str], question: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Return the seconds that the work took, and those of the whole program."""
    folder.mkdir()
    path = folder.with_suffix(".json")
    path.write_text(json.dumps({**question, "out": str(folder)}))
    start = time.perf_counter()
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"]), time.perf_counter() - start


def _child(path: Path) -> None:
    """Prepare the cases of the question; print the seconds."""
    asked = json.loads(path.read_text())
    plan = _plan()
    configuration = plan.configurations[0]
    store = PreparedStore(Path(asked["out"]), patch_size=configuration.patch_size)
    start = time.perf_counter()
    for name, image, labels in asked["cases"]:
        case = read_image(Path(image)), read_labels(Path(labels), SCHEME)
        store.write(name, prepare(*case, plan, configuration, case_id=name))
    print(json.dumps({"seconds": time.perf_counter() - start}))


def _difference(files: list[list[str]], ours: Path, theirs: Path) -> float:
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
    if sys.argv[1:2] == ["--child"]:
        _child(Path(sys.argv[2]))
        return
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
