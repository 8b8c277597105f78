"""Trained models written so that unmodified nnU-Net 2.8.1 predicts with them, exports them as a zip, and trains on.

    DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION/
        plans.json  dataset.json  dataset_fingerprint.json
        fold_X/checkpoint_final.pth  fold_X/{debug.json, progress.png}  fold_X/validation/summary.json

Keys and their meaning are those of ``training/nnUNetTrainer/nnUNetTrainer.py`` (``save_checkpoint``); nnU-Net's zip
export wants every one of the small files. Weights come under nnU-Net's names already. The checkpoint holds tensors and
plain values only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import UsageError
from delineate.execution.atomic import atomic_path
from delineate.formats.nnunet.trained_model import (
    DATASET_FILE,
    FINAL_CHECKPOINT,
    FINGERPRINT_FILE,
    PLANS_FILE,
    SEPARATOR,
)

if TYPE_CHECKING:
    from torch import Tensor

LEARNING_RATE = 1e-2
MOMENTUM = 0.99
WEIGHT_DECAY = 3e-5
"""Of nnU-Net's optimiser (``nnUNetTrainer.configure_optimizers``)."""
NEW_SCALER = {
    "scale": 65536.0,
    "growth_factor": 2.0,
    "backoff_factor": 0.5,
    "growth_interval": 2000,
    "_growth_tracker": 0,
}
"""State of a ``torch.amp.GradScaler`` that has not scaled anything yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What nnU-Net logs of one epoch; NaN where it is not known."""

    train_loss: float
    dice_per_structure: tuple[float, ...]
    mean_dice: float
    smoothed_dice: float
    learning_rate: float
    end_seconds: float
    """Since training began."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WrittenFold:
    """One fold of the model to write."""

    weights: Mapping[str, Tensor]
    """nnU-Net's whole state dict, duplicates included, float32."""
    parameters: int
    """Number of different parameters, in whose order nnU-Net keeps the optimiser's state."""
    epochs: Sequence[Epoch] = ()
    """The record of training; nnU-Net goes on after the last of them."""
    summary: Mapping[str, Any]
    """``validation/summary.json``."""
    picture: bytes
    """``progress.png``."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WrittenModel:
    """The model to write, in nnU-Net's words."""

    plans: Mapping[str, Any]
    """``plans.json`` with the configuration as it was trained."""
    configuration: str
    dataset: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    trainer_name: str
    """A trainer that nnU-Net has."""
    mirror_axes: tuple[int, ...]
    folds: Mapping[str, WrittenFold]
    notes: Mapping[str, Any] = field(default_factory=dict)
    """Goes to ``debug.json``, which nobody reads but people."""

    @property
    def place(self) -> Path:
        """The folder of the model, relative to the results folder."""
        name = SEPARATOR.join((self.trainer_name, self.plans["plans_name"], self.configuration))
        return Path(str(self.plans["dataset_name"])) / name


def require_absent(results: Path, models: Sequence[WrittenModel]) -> None:
    """Refuse models whose folders are there already.

    Raises
    ------
    UsageError
        If there are any; names all of them.
    """
    standing = [str(results / model.place) for model in models if (results / model.place).exists()]
    if standing:
        raise UsageError(f"{', '.join(standing)} exists already. Remove it, or choose another folder.")


def write_trained_model(results: Path, model: WrittenModel) -> Path:
    """Write a trained model below a results folder; whole or not at all.

    Parameters
    ----------
    results
        What nnU-Net calls ``nnUNet_results``; made if it does not exist.
    model
        The model.

    Returns
    -------
    Path
        ``results/DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION``.

    Raises
    ------
    UsageError
        If that folder exists already.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    require_absent(results, [model])
    target = results / model.place
    with atomic_path(target) as temporary:
        temporary.mkdir()
        _write_json(temporary / PLANS_FILE, model.plans)
        _write_json(temporary / DATASET_FILE, model.dataset)
        _write_json(temporary / FINGERPRINT_FILE, model.fingerprint)
        for fold in model.folds:
            _write_fold(temporary / f"fold_{fold}", model, fold)
    return target


def _write_fold(folder: Path, model: WrittenModel, fold: str) -> None:
    from delineate.formats.torch_checkpoint import write_checkpoint

    written = model.folds[fold]
    (folder / "validation").mkdir(parents=True)
    write_checkpoint(folder / FINAL_CHECKPOINT, checkpoint_content(model, fold))
    _write_json(folder / "debug.json", {**model.notes, "fold": fold})
    _write_json(folder / "validation" / "summary.json", written.summary)
    (folder / "progress.png").write_bytes(written.picture)


def checkpoint_content(model: WrittenModel, fold: str) -> dict[str, Any]:
    """Return what nnU-Net's trainer saves after the last epoch of a fold.

    The optimiser's momentum is not kept in a model package, so its state is that of a new optimiser: nnU-Net loads it
    and goes on at the learning rate of the epoch.
    """
    written = model.folds[fold]
    best = [epoch.smoothed_dice for epoch in written.epochs if math.isfinite(epoch.smoothed_dice)]
    return {
        "network_weights": dict(written.weights),
        "optimizer_state": _new_optimizer(written.parameters),
        "grad_scaler_state": dict(NEW_SCALER),
        "logging": _logging(written.epochs),
        "_best_ema": max(best, default=None),
        "current_epoch": len(written.epochs),
        "init_args": {
            "plans": model.plans,
            "configuration": model.configuration,
            "fold": int(fold) if fold.isdigit() else fold,
            "dataset_json": model.dataset,
            "device": "cpu",
        },
        "trainer_name": model.trainer_name,
        "inference_allowed_mirroring_axes": model.mirror_axes or None,
    }


def _new_optimizer(parameters: int) -> dict[str, Any]:
    group = {
        "lr": LEARNING_RATE,
        "initial_lr": LEARNING_RATE,
        "momentum": MOMENTUM,
        "dampening": 0,
        "weight_decay": WEIGHT_DECAY,
        "nesterov": True,
        "maximize": False,
        "foreach": None,
        "differentiable": False,
        "fused": None,
        "params": list(range(parameters)),
    }
    return {"state": {}, "param_groups": [group]}


def _logging(epochs: Sequence[Epoch]) -> dict[str, list[Any]]:
    """Return nnU-Net's log: one entry per epoch under every key, or it will not go on."""
    ends = [epoch.end_seconds for epoch in epochs]
    return {
        "mean_fg_dice": [epoch.mean_dice for epoch in epochs],
        "ema_fg_dice": [epoch.smoothed_dice for epoch in epochs],
        "dice_per_class_or_region": [list(epoch.dice_per_structure) for epoch in epochs],
        "train_losses": [epoch.train_loss for epoch in epochs],
        "val_losses": [math.nan for _ in epochs],
        "lrs": [epoch.learning_rate for epoch in epochs],
        "epoch_start_timestamps": [0.0, *ends][: len(ends)],
        "epoch_end_timestamps": ends,
    }


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=4), encoding="utf-8")
