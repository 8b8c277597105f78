"""nnU-Net trained for a time on the CPU, scored on held-out cases as it goes; runs in the oracle's interpreter.

Arguments: a JSON file with dataset (MSD folder), work (folder), mode (stock or tuned), seconds, threads, points.

``stock`` is nnU-Net's own 3d_fullres plan. ``tuned`` is what an expert would make of nnU-Net for so little time: half
the features, batch 4, and in both cases the schedule is stretched over the number of iterations that fit, which is
measured first. The time of planning and preprocessing is not counted against nnU-Net. Prints JSON lines: seconds of
training, iterations, Dice of both structures on the validation cases of fold 0 without mirroring; the last one with.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    work = Path(task["work"])
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(work / name)
        (work / name).mkdir(parents=True, exist_ok=True)
    os.environ["nnUNet_n_proc_DA"] = str(task["threads"])
    import torch

    torch.set_num_threads(task["threads"])
    plans, dataset, folder = prepare(Path(task["dataset"]), work, task["mode"], task["splits"])
    train(plans, dataset, folder, task)


def prepare(source: Path, work: Path, mode: str, splits: list) -> tuple[dict, dict, Path]:
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    name = "Dataset004_Hippocampus"
    raw, folder = work / "nnUNet_raw" / name, work / "nnUNet_preprocessed" / name
    declared = json.loads((source / "dataset.json").read_text())
    if not (folder / "nnUNetPlans_3d_fullres").exists():
        for part in ("imagesTr", "labelsTr"):
            (raw / part).mkdir(parents=True, exist_ok=True)
        for entry in declared["training"]:
            file = Path(entry["image"]).name
            shutil.copy(source / "imagesTr" / file, raw / "imagesTr" / file.replace(".nii.gz", "_0000.nii.gz"))
            shutil.copy(source / "labelsTr" / file, raw / "labelsTr" / file)
        dataset = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
            "numTraining": len(declared["training"]),
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(dataset))
        extract_fingerprints([4], num_processes=1)
        plan_experiments([4])
        preprocess([4], configurations=["3d_fullres"], num_processes=[1])
    (folder / "splits_final.json").write_text(json.dumps(splits))
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    if mode == "tuned":
        configuration = plans["configurations"]["3d_fullres"]
        configuration["batch_size"] = 4
        kwargs = configuration["architecture"]["arch_kwargs"]
        kwargs["features_per_stage"] = [width // 2 for width in kwargs["features_per_stage"]]
    return plans, json.loads((folder / "dataset.json").read_text()), folder


def train(plans: dict, dataset: dict, folder: Path, task: dict) -> None:
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans["continue_training"] = False  # nnU-Net takes it out of the plans
    trainer = nnUNetTrainer(plans, "3d_fullres", 0, dataset, device=torch.device("cpu"))
    trainer.disable_checkpointing = True
    trainer.enable_deep_supervision = True
    trainer.initialize()
    # on_train_start makes the data loaders; the trainer's own validation is left out, ours is below
    trainer.on_train_start()
    trainer.network.train()
    warm = [timed(trainer) for _ in range(4)]
    total = max(4, int(task["seconds"] / (sum(warm[1:]) / 3)))
    trainer.num_epochs = total
    trainer.lr_scheduler.max_steps = total
    spent, steps, points = sum(warm), len(warm), [float(p) for p in task["points"]]
    while spent < task["seconds"]:
        trainer.lr_scheduler.step(min(steps, total - 1))
        spent += timed(trainer)
        steps += 1
        if points and spent >= points[0]:
            points.pop(0)
            report(trainer, folder, task, spent, steps, mirror=False)
    report(trainer, folder, task, spent, steps, mirror=True)
    trainer.dataloader_train._finish()
    trainer.dataloader_val._finish()


def timed(trainer) -> float:
    began = time.perf_counter()
    trainer.train_step(next(trainer.dataloader_train))
    return time.perf_counter() - began


def report(trainer, folder: Path, task: dict, spent: float, steps: int, *, mirror: bool) -> None:
    import numpy as np
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False, verbose=False)
    predictor.manual_initialization(
        trainer.network, trainer.plans_manager, trainer.configuration_manager, None, trainer.dataset_json,
        "nnUNetTrainer", trainer.inference_allowed_mirroring_axes,
    )  # fmt: skip
    cases = nnUNetDatasetBlosc2(str(folder / "nnUNetPlans_3d_fullres"), task["splits"][0]["val"])
    scores = []
    for case in task["splits"][0]["val"]:
        data, labels, _, _ = cases.load_case(case)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(np.asarray(data[:])))
        guess, truth = logits.argmax(0).numpy(), np.asarray(labels[0])
        scores.append(
            [2 * ((guess == k) & (truth == k)).sum() / max((guess == k).sum() + (truth == k).sum(), 1) for k in (1, 2)]
        )
    mean = np.mean(scores, axis=0)
    line = {
        "seconds": spent,
        "steps": steps,
        "anterior": mean[0],
        "posterior": mean[1],
        "mean": mean.mean(),
        "mirrored": mirror,
    }
    print("POINT " + json.dumps({k: float(v) for k, v in line.items()}), flush=True)
    trainer.network.train()
    trainer.set_deep_supervision_enabled(True)


if __name__ == "__main__":
    main()
