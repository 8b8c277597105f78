"""Runs inside the oracle interpreter: nnU-Net moves a plans file from one dataset to another.

    python move_plans_oracle_script.py REQUEST.json ANSWER.json FOLDER

The request holds "plans" (of Dataset001_Source), "identifier" of the moved plans, and "ending" of the target's images.
"""

import json
import os
import sys
from pathlib import Path


def main(request_file, answer_file, folder):
    request, folder = json.loads(Path(request_file).read_text()), Path(folder)
    for name in ("raw", "preprocessed", "results"):
        for dataset in ("Dataset001_Source", "Dataset002_Target"):
            (folder / name / dataset).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    plans, target = request["plans"], folder / "raw" / "Dataset002_Target"
    (folder / "preprocessed" / "Dataset001_Source" / f"{plans['plans_name']}.json").write_text(json.dumps(plans))
    image = target / f"case_0000{request['ending']}"
    write_image(image)
    declaration = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1},
        "numTraining": 1,
        "file_ending": request["ending"],
        "dataset": {"case": {"images": [str(image)], "label": "none"}},
    }
    (target / "dataset.json").write_text(json.dumps(declaration))
    from nnunetv2.experiment_planning.plans_for_pretraining.move_plans_between_datasets import (
        move_plans_between_datasets,
    )

    move_plans_between_datasets(1, 2, plans["plans_name"], request["identifier"])
    moved = folder / "preprocessed" / "Dataset002_Target" / f"{request['identifier'] or plans['plans_name']}.json"
    Path(answer_file).write_text(moved.read_text())


def write_image(path):
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray([[[0, 1], [1, 0]], [[0, 1], [1, 0]]]), str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
