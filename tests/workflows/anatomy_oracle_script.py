"""Run by the interpreter that has nnU-Net: predicts images with trained models' folders, as nnunetv2 does.

Usage: ``python anatomy_oracle_script.py FOLDER STEP``; for every FOLDER/*.npz (array (1, z, y, x), spacing) reads its
models from the JSON of the same name (id -> folder) and writes FOLDER/{name}_{id}.npy, with the logits of overlapping
tiles summed in single precision, and FOLDER/{name}_{id}_half.npy, summed in half precision as nnU-Net does.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

HALF = torch.half


def sum_in(dtype: torch.dtype) -> None:
    """Let nnU-Net sum its tiles in that precision."""
    torch.half = dtype
    predict_from_raw_data.compute_gaussian = functools.partial(compute_gaussian, dtype=dtype)
    compute_gaussian.cache_clear()


def main(folder: Path, step: float) -> None:
    # the search by name imports every trainer of the package, some of which need libraries that may be absent; all
    # trainers of TotalSegmentator build the network of the plans, as this one does
    predict_from_raw_data.recursive_find_trainer_class_by_name = lambda name: nnUNetTrainer
    for question in sorted(folder.glob("*.npz")):
        asked = np.load(question)
        for name, model in json.loads(question.with_suffix(".json").read_text()).items():
            predictor = predict_from_raw_data.nnUNetPredictor(
                tile_step_size=step, use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False
            )
            predictor.initialize_from_trained_model_folder(model, use_folds=(0,))
            for suffix, dtype in (("", torch.float32), ("_half", HALF)):
                sum_in(dtype)
                labels = predictor.predict_single_npy_array(
                    asked["array"].astype(np.float32), {"spacing": asked["spacing"].tolist()}
                )
                np.save(folder / f"{question.stem}_{name}{suffix}.npy", labels)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), float(sys.argv[2]))
