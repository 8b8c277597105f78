"""Run by the interpreter that has nnU-Net: makes trained models with nnU-Net's own classes, and predicts with them.

Usage: ``python parity_peer.py QUESTION.json``; the question is a list of steps, each an object with ``do``:

make     folder, plans, dataset, configuration, folds (list), seed, steps, images (one list of files per case),
         mirror_axes, trainer: writes a trained-model folder as nnU-Net's trainer does. The networks are trained for a
         few steps to tell brightness levels of the images apart, so that logits have margins as trained ones have.
predict  folder, folds, images, out, mirroring, half_sums, half_gaussian: writes one label map per case into ``out``.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

HALF = torch.half


def make(step):
    folder = Path(step["folder"])
    folder.mkdir(parents=True)
    for name in ("plans", "dataset"):
        (folder / f"{name}.json").write_text(json.dumps(step[name]))
    plans = PlansManager(json.loads(json.dumps(step["plans"])))
    configuration = plans.get_configuration(step["configuration"])
    labels = plans.get_label_manager(step["dataset"])
    channels = determine_num_input_channels(plans, configuration, step["dataset"])
    for number, fold in enumerate(step["folds"]):
        torch.manual_seed(step["seed"] + number)  # noqa: TID251 -- nnU-Net draws its weights globally
        network = nnUNetTrainer.build_network_architecture(
            plans, configuration, channels, labels.num_segmentation_heads, enable_deep_supervision=True
        )
        optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.9, nesterov=True)
        if step["steps"]:
            teach(network, optimizer, plans, configuration, labels, step)
        save(folder / f"fold_{fold}", network, optimizer, step, fold)


def teach(network, optimizer, plans, configuration, labels, step):
    """Teach the heads brightness levels of the first channel, over patches of the prepared images."""
    arrays = [prepared(plans, configuration, step["dataset"], files) for files in step["images"]]
    generator = np.random.default_rng(step["seed"])
    heads = labels.num_segmentation_heads
    network.decoder.deep_supervision = False
    for turn in range(step["steps"]):
        patch = torch.from_numpy(cut(arrays[turn % len(arrays)], configuration.patch_size, generator))[None]
        levels = np.quantile(arrays[turn % len(arrays)][0], np.linspace(0, 1, heads + 1)[1:-1])
        target = torch.bucketize(smooth(patch[:, 0]), torch.as_tensor(levels, dtype=torch.float32))
        logits = network(patch)
        if labels.has_regions:
            wanted = torch.stack([(target > head).float() for head in range(heads)], 1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        else:
            loss = torch.nn.functional.cross_entropy(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.decoder.deep_supervision = True


def smooth(image):
    pool = torch.nn.functional.avg_pool2d if image.ndim == 3 else torch.nn.functional.avg_pool3d
    return pool(image[:, None], 3, 1, 1)[:, 0]


def prepared(plans, configuration, dataset, files):
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, _ = preprocessor.run_case(files, None, plans, configuration, dataset)
    return np.asarray(data, np.float32)


def cut(array, patch, generator):
    if len(patch) == 2:
        array = array[:, generator.integers(array.shape[1])]
    wide = [(0, 0)] + [(0, max(0, p - n)) for p, n in zip(patch, array.shape[1:], strict=True)]
    array = np.pad(array, wide)
    start = [generator.integers(0, n - p + 1) for p, n in zip(patch, array.shape[1:], strict=True)]
    return np.ascontiguousarray(array[(slice(None), *(slice(s, s + p) for s, p in zip(start, patch, strict=True)))])


def save(folder, network, optimizer, step, fold):
    """Write what `nnUNetTrainer.save_checkpoint` writes, numpy scalars and device included."""
    folder.mkdir()
    log = {"mean_fg_dice": [np.float64(0.5)], "ema_fg_dice": [np.float32(0.5)], "lrs": [0.01]}
    torch.save(
        {
            "network_weights": network.state_dict(),
            "optimizer_state": optimizer.state_dict(),
            "grad_scaler_state": None,
            "logging": log,
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {
                "plans": step["plans"],
                "configuration": step["configuration"],
                "fold": fold,
                "dataset_json": step["dataset"],
                "device": torch.device("cpu"),
            },
            "trainer_name": step["trainer"],
            "inference_allowed_mirroring_axes": step["mirror_axes"],
        },
        folder / "checkpoint_final.pth",
    )


def predict(step):
    torch.half = HALF if step["half_sums"] else torch.float32
    dtype = torch.float16 if step["half_gaussian"] else torch.float32
    predict_from_raw_data.compute_gaussian = functools.partial(compute_gaussian, dtype=dtype)
    compute_gaussian.cache_clear()
    predictor = nnUNetPredictor(use_mirroring=step["mirroring"], device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(step["folder"], step["folds"], "checkpoint_final.pth")
    reader = predictor.plans_manager.image_reader_writer_class()
    Path(step["out"]).mkdir(parents=True, exist_ok=True)
    for case, files in step["images"].items():
        array, properties = reader.read_images(files)
        labels = predictor.predict_single_npy_array(array, properties)
        reader.write_seg(labels, str(Path(step["out"]) / (case + predictor.dataset_json["file_ending"])), properties)


def main():
    torch.set_num_threads(2)
    for step in json.loads(Path(sys.argv[1]).read_text()):
        {"make": make, "predict": predict}[step["do"]](step)


if __name__ == "__main__":
    main()
