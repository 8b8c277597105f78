"""Sub-models of TotalSegmentator's shapes with random weights, written as trained models of nnU-Net.

The plans are in the older form that the published weights carry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from delineate.networks import build_network, to_nnunet
from delineate.planning.anatomy import SubModel, Variant
from delineate.planning.plan import Architecture

WEIGHT_SCALE = 3.0
"""Spreads the logits, so that random networks use many of their labels and rounding decides nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Size of a random network."""

    patch: int = 16
    features: tuple[int, ...] = (4, 8)


def write_variant(root: Path, variant: Variant, shape: Shape | None = None) -> None:
    """Write all sub-models of a variant below a folder of results."""
    spacing = variant.spacing_mm if variant.spacing_mm is not None else (1.5, 1.5, 1.5)
    for model in variant.models:
        write_submodel(root, model, spacing, shape or Shape())


def write_submodel(root: Path, model: SubModel, spacing: Sequence[float], shape: Shape) -> Path:
    """Write one sub-model; its weights depend on its id only."""
    folder = root / model.folder / model.model_folder
    (folder / "fold_0").mkdir(parents=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: i for i, name in enumerate(model.classes, start=1)}},
        "numTraining": 1559,
        "file_ending": ".nii.gz",
    }
    plans = old_plans(model, spacing, shape)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "plans.json").write_text(json.dumps(plans))
    checkpoint = {
        "network_weights": to_nnunet(random_weights(model, shape)),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": 0.9,
        "current_epoch": 4000,
        "init_args": {"configuration": model.configuration, "fold": 0, "plans": plans, "dataset_json": dataset},
        "trainer_name": model.trainer,
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def random_weights(model: SubModel, shape: Shape) -> dict[str, torch.Tensor]:
    network = build_network(architecture(shape), in_channels=1, heads=len(model.classes) + 1, seed=model.dataset_id)
    return {
        name: tensor * WEIGHT_SCALE if "seg_layers" in name and name.endswith("weight") else tensor
        for name, tensor in network.state_dict().items()
    }


def architecture(shape: Shape) -> Architecture:
    stages = len(shape.features)
    return Architecture(
        kind="plain_unet",
        dims=3,
        features=shape.features,
        kernel_sizes=((3, 3, 3),) * stages,
        strides=((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
        encoder_blocks=(2,) * stages,
        decoder_convs=(2,) * (stages - 1),
    )


def old_plans(model: SubModel, spacing: Sequence[float], shape: Shape) -> dict:
    """Return plans as nnU-Net 2.0 wrote them, without an ``architecture``."""
    stages = len(shape.features)
    resampling = "resample_data_or_seg_to_shape"
    kwargs = {"order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": f"nnUNetPlans_{model.configuration}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [shape.patch] * 3,
        "median_image_size_in_voxels": [236.0, 223.0, 224.5],
        "spacing": list(spacing),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": shape.features[0],
        "n_conv_per_stage_encoder": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "num_pool_per_axis": [stages - 1] * 3,
        "pool_op_kernel_sizes": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "conv_kernel_sizes": [[3, 3, 3]] * stages,
        "unet_max_num_features": max(shape.features),
        "resampling_fn_data": resampling,
        "resampling_fn_seg": resampling,
        "resampling_fn_probabilities": resampling,
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **kwargs},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **kwargs},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **kwargs},
        "batch_dice": True,
    }
    values = {
        "mean": 20.0,
        "median": 40.0,
        "std": 300.0,
        "min": -1024.0,
        "max": 3000.0,
        "percentile_99_5": 1200.0,
        "percentile_00_5": -1000.0,
    }
    return {
        "dataset_name": model.folder,
        "plans_name": model.plans,
        "original_median_spacing_after_transp": [1.5, 1.5, 1.5],
        "original_median_shape_after_transp": [236, 223, 224],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {model.configuration: configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": values},
    }
