"""Run by the interpreter that has nnU-Net: goes on training a checkpoint, one step, and saves it again.

Usage: ``python resume_oracle_script.py MODEL_FOLDER FOLD ANSWER.json``; nnUNet_results and nnUNet_preprocessed must be
set. Answers what the trainer has after loading.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def main() -> None:
    folder, fold = Path(sys.argv[1]), int(sys.argv[2])
    plans = json.loads((folder / "plans.json").read_text())
    dataset = json.loads((folder / "dataset.json").read_text())
    configuration = folder.name.split("__")[2]
    prepared = Path(
        str(nnUNet_preprocessed), plans["dataset_name"], plans["configurations"][configuration]["data_identifier"]
    )
    prepared.mkdir(parents=True)
    (prepared / "case.b2nd").touch()
    trainer = nnUNetTrainer({**plans, "continue_training": True}, configuration, fold, dataset, torch.device("cpu"))
    trainer.initialize()
    trainer.load_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_final.pth"))
    epoch = trainer.current_epoch
    trainer.lr_scheduler.step(epoch)
    rate = trainer.optimizer.param_groups[0]["lr"]
    channels = len(dataset["channel_names"])
    patch = torch.rand(1, channels, *trainer.configuration_manager.patch_size)
    sum(output.square().mean() for output in trainer.network(patch)).backward()
    trainer.optimizer.step()
    for key, value in (("mean_fg_dice", 0.5), ("dice_per_class_or_region", [0.5]), ("train_losses", 1.0)):
        trainer.logger.log(key, value, epoch)
    for key, value in (
        ("val_losses", 1.0),
        ("lrs", rate),
        ("epoch_start_timestamps", 1.0),
        ("epoch_end_timestamps", 2.0),
    ):
        trainer.logger.log(key, value, epoch)
    trainer.logger.plot_progress_png(trainer.output_folder)
    trainer.save_checkpoint(str(folder / f"fold_{fold}" / "checkpoint_latest.pth"))
    told = {"epoch": epoch, "best": trainer._best_ema, "rate": rate, "axes": trainer.inference_allowed_mirroring_axes}
    Path(sys.argv[3]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
