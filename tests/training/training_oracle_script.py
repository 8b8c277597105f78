"""Runs under the oracle's interpreter: writes inputs and nnU-Net's answers for losses and augmentation to an .npz."""

import json
import sys

import numpy as np
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

RNG = np.random.default_rng(20260713)
ANSWERS = {}


def normal(*shape):
    return torch.from_numpy(RNG.normal(size=shape).astype(np.float32))


def labels(highest, *shape):
    return torch.from_numpy(RNG.integers(0, highest + 1, shape).astype(np.int16))


def loss_of(regions, ignore, batch_dice):
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "ddp": False}
    if regions is None:
        return DC_and_CE_loss({**dice, "do_bg": False}, {}, 1, 1, ignore, MemoryEfficientSoftDiceLoss)
    return DC_and_BCE_loss(
        {}, {**dice, "do_bg": True}, use_ignore_label=ignore is not None, dice_class=MemoryEfficientSoftDiceLoss
    )


def target_of(label_map, regions, ignore):
    if regions is None:
        return label_map[:, None]
    groups = [*regions, (ignore,)] if ignore is not None else regions
    return torch.stack([torch.isin(label_map, torch.tensor(group)) for group in groups], 1)


def single_losses():
    cases = [
        {"heads": heads, "regions": regions, "ignore": ignore, "batch_dice": batch_dice}
        for batch_dice in (False, True)
        for heads, regions, ignore in (
            (3, None, None),
            (3, None, 3),
            (2, None, None),
            (3, [[1, 2, 3], [2, 3], [3]], None),
            (2, [[1, 3], [2]], 4),
        )
    ]
    for index, case in enumerate(cases):
        highest = 4 if case["regions"] else case["heads"] - (case["ignore"] is None)
        logits, target = 3 * normal(2, case["heads"], 6, 5, 7), labels(highest, 2, 6, 5, 7)
        logits.requires_grad_()
        loss = loss_of(case["regions"], case["ignore"], case["batch_dice"])
        value = loss(logits, target_of(target, case["regions"], case["ignore"]))
        value.backward()
        keep(f"loss{index}", logits=logits, target=target, value=value, gradient=logits.grad)
    ANSWERS["losses"] = json.dumps(cases)


def deep_supervision():
    target = labels(2, 2, 8, 12, 10)
    scales = [[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.25, 0.25]]
    outputs = [normal(2, 3, 8, 12, 10), normal(2, 3, 8, 6, 5), normal(2, 3, 4, 3, 2)]
    shrink = DownsampleSegForDSTransform(scales)
    pyramids = [shrink._apply_to_segmentation(one[None]) for one in target]
    targets = [torch.stack(level) for level in zip(*pyramids, strict=True)]
    weights = np.array([1.0, 0.5, 0.0])
    loss = DeepSupervisionWrapper(loss_of(None, None, False), weights / weights.sum())
    keep("deep", target=target, value=loss(outputs, targets))
    for index, (output, level) in enumerate(zip(outputs, targets, strict=True)):
        keep(f"deep{index}", logits=output, target=level[:, 0])


def spatial():
    cases = [
        {"size": [9, 11, 10], "angles": [0.3, -0.2, 0.45], "scale": 1.2, "labels": "bilinear"},
        {"size": [9, 11, 10], "angles": [-0.5, 0.1, 0.2], "scale": 0.8, "labels": "nearest"},
        {"size": [9, 11, 10], "angles": [0.0, 0.0, 0.0], "scale": 1.33, "labels": "bilinear"},
        {"size": [12, 9], "angles": [1.9], "scale": 0.9, "labels": "bilinear"},
        {"size": [8, 8, 8], "angles": [0.0, 0.0, 0.0], "scale": None, "labels": "bilinear"},
    ]
    for index, case in enumerate(cases):
        shape = [14, 17, 15][: len(case["size"])]
        coarse = RNG.integers(-1, 4, [-(-size // 3) for size in shape]).astype(np.int16)
        for axis, size in enumerate(shape):
            coarse = coarse.repeat(3, axis).take(range(size), axis)
        image, label_map = normal(2, *shape), torch.from_numpy(coarse.copy())[None]
        moved = case["scale"] is not None
        transform = SpatialTransform(
            case["size"],
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=float(moved),
            rotation=lambda image, dim, angles=case["angles"]: angles[dim if len(angles) > 1 else 0],
            p_scaling=float(moved),
            scaling=(case["scale"], case["scale"]),
            p_synchronize_scaling_across_axes=1,
            mode_seg=case["labels"],
            border_mode_seg="constant",
            padding_value_seg=-1,
        )
        done = transform(image=image.clone(), segmentation=label_map.clone())
        keep(f"spatial{index}", image=image, labels=label_map[0])
        keep(f"spatial{index}", warped=done["image"], warped_labels=done["segmentation"][0])
    ANSWERS["spatial"] = json.dumps(cases)


def rows():
    image = normal(2, 9, 12, 7)
    keep("rows", image=image)
    for name, inverted in (("gamma", 0), ("inverted", 1)):
        transform = GammaTransform(lambda image, channel: [0.7, 1.4][channel], inverted, False, 1, 1)
        keep("rows", **{name: transform(image=image.clone())["image"]})
    transform = ContrastTransform(lambda image, channel: [0.75, 1.25][channel], True, False, 1)
    keep("rows", contrast=transform(image=image.clone())["image"])
    widths = [[0.5, 0.7, 0.93], [0.97, 0.6, 1.0]]
    transform = GaussianBlurTransform(p_per_channel=1)
    params = {"apply_to_channel": torch.tensor([True, True]), "sigmas": widths}
    keep("rows", blur=transform._apply_to_image(image.clone(), **params), widths=torch.tensor(widths))
    for name, axes in (("coarse", None), ("coarse_in_plane", (0,))):
        transform = SimulateLowResolutionTransform(
            lambda image, channel, dim: [0.55, 0.81][int(channel)], False, True, axes, None, 1
        )
        keep("rows", **{name: transform(image=image.clone())["image"]})


def sizes():
    third, half, tilt = np.pi / 6, np.pi, np.pi / 12
    cases = [
        ((40, 56, 40), third, False),
        ((128, 128, 128), third, False),
        ((96, 160, 112), third, False),
        ((16, 320, 256), half, True),
        ((56, 40), half, False),
        ((512, 256), tilt, False),
    ]
    found = []
    for patch, angle, in_plane in cases:
        limits = (-angle, angle)
        size = get_patch_size(patch, limits, limits, limits, (0.85, 1.25)).tolist()
        found.append([patch, [patch[0], *size[1:]] if in_plane else size])
    ANSWERS["sizes"] = json.dumps(found)


def policies():
    steps = nnUNetTrainer.get_training_transforms((40, 56, 40), (-1.0, 1.0), None, (0, 1, 2), False).transforms
    found = {}
    for step in steps:
        inner = getattr(step, "transform", step)
        entry = {"probability": getattr(step, "apply_probability", None)}
        for name, value in vars(inner).items():
            if isinstance(value, int | float | str | bool | tuple | list):
                entry[name] = value
            elif hasattr(value, "contrast_range"):
                entry[name] = value.contrast_range
        found.setdefault(type(inner).__name__, []).append(entry)
    ANSWERS["policy"] = json.dumps(found, default=str)


def keep(prefix, **tensors):
    for name, tensor in tensors.items():
        ANSWERS[f"{prefix}_{name}"] = tensor.detach().numpy()


if __name__ == "__main__":
    for task in (single_losses, deep_supervision, spatial, rows, sizes, policies):
        task()
    np.savez(sys.argv[1], **ANSWERS)
