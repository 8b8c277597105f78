"""Trained-model folders of nnU-Net in small, made with our own networks and written like nnU-Net's trainer does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from delineate.case.labels import LabelScheme, Structure
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.networks import build_network, to_nnunet
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, NetworkKind, Plan

REGIONS = LabelScheme(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    region_order=(1, 2),
)
LABELS = LabelScheme.simple("organ", "tumour")
STATISTICS = IntensityStatistics(
    mean=10.0, median=9.0, std=20.0, min=-50.0, max=90.0, percentile_99_5=80.0, percentile_00_5=-40.0
)


def architecture(kind: NetworkKind = "plain_unet", dims: int = 3, features: tuple[int, ...] = (4, 8)) -> Architecture:
    n = len(features)
    return Architecture(
        kind=kind,
        dims=dims,
        features=features,
        kernel_sizes=((3,) * dims,) * n,
        strides=((1,) * dims, *((2,) * dims,) * (n - 1)),
        encoder_blocks=(1,) * n,
        decoder_convs=(1,) * (n - 1),
    )


def configuration(name: str = "3d_fullres", *, channels: int = 1, dims: int = 3, **changes) -> Configuration:
    values = {
        "name": name,
        "data_identifier": f"nnUNetPlans_{name}",
        "spacing_mm": (1.0,) * dims,
        "patch_size": (16,) * dims,
        "batch_size": 2,
        "median_shape": (20.0, 20.0, 20.0)[:dims],
        "normalization": ("zscore",) * channels,
        "use_mask_for_norm": (False,) * channels,
        "architecture": architecture(dims=dims),
        "batch_dice": False,
        **changes,
    }
    return Configuration(**values)


def plan(*configurations: Configuration, **changes) -> Plan:
    chosen = configurations or (configuration(),)
    values = {
        "dataset_name": "Dataset007_Toy",
        "plans_name": "nnUNetPlans",
        "planner_name": "ExperimentPlanner",
        "image_reader": "SimpleITKIO",
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "original_median_spacing_mm": (1.0, 1.0, 1.0),
        "original_median_shape": (20, 20, 20),
        "intensities": (STATISTICS,) * len(chosen[0].normalization),
        "configurations": chosen,
        **changes,
    }
    return Plan(**values)


def old_form(plans: dict, name: str = "3d_fullres") -> dict:
    """Return plans as nnU-Net wrote them before it knew `architecture`."""
    plans = json.loads(json.dumps(plans))
    entry = plans["configurations"][name]
    kwargs = entry.pop("architecture")["arch_kwargs"]
    entry |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": kwargs["features_per_stage"][0],
        "unet_max_num_features": max(kwargs["features_per_stage"]),
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": kwargs["strides"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
    }
    return plans


def declaration(scheme: LabelScheme = LABELS, channels: Sequence[str] = ("MRI",)) -> dict:
    return dataset_json(channel_names=channels, scheme=scheme, training_cases=12, file_ending=".nii.gz")


def weights_of(of: Configuration, dataset: dict, scheme: LabelScheme, seed: int) -> dict[str, torch.Tensor]:
    extra = len(scheme.values) if of.previous_stage else 0
    channels = len(dataset["channel_names"]) + extra
    network = build_network(of.architecture, in_channels=channels, heads=scheme.head_count, seed=seed)
    return network.state_dict()


def checkpoint(weights: dict, plans: dict, name: str, dataset: dict, fold: str, **changes) -> dict:
    """What nnU-Net's `save_checkpoint` writes, numpy scalars and device included."""
    return {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "ema_fg_dice": [np.float32(0.5)]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {
            "plans": plans,
            "configuration": name,
            "fold": int(fold) if fold.isdigit() else fold,
            "dataset_json": dataset,
            "device": torch.device("cuda"),
            "unpack_dataset": True,
        },
        "trainer_name": "nnUNetTrainer_MyOwn",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        **changes,
    }


def make_trained_model(
    results: Path,
    *,
    of: Plan | None = None,
    name: str = "3d_fullres",
    folds: Sequence[str] = ("0",),
    scheme: LabelScheme = LABELS,
    channels: Sequence[str] = ("MRI",),
    **changes,
) -> Path:
    """Write `results/DatasetXXX/TRAINER__PLANS__CONFIG` and return it."""
    of = of or plan(configuration(channels=len(channels)))
    plans, dataset = plan_to_json(of), declaration(scheme, channels)
    folder = results / of.dataset_name / f"nnUNetTrainer_MyOwn__{of.plans_name}__{name}"
    for seed, fold in enumerate(folds):
        (folder / f"fold_{fold}").mkdir(parents=True)
        weights = to_nnunet(weights_of(of.configuration(name), dataset, scheme, seed))
        content = checkpoint(weights, plans, name, dataset, fold, **changes)
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def cascade_plan() -> Plan:
    low = configuration("3d_lowres", spacing_mm=(2.0, 2.0, 2.0), next_stage="3d_cascade_fullres")
    full = configuration()
    cascade = replace(full, name="3d_cascade_fullres", inherits_from="3d_fullres", previous_stage="3d_lowres")
    return plan(low, full, cascade)
