"""Run by the interpreter that has nnU-Net: tile positions, Gaussians and whole predictions as nnunetv2 makes them.

Usage: ``python inference_oracle_script.py QUESTIONS.pt ANSWERS.pt``.
"""

from __future__ import annotations

import functools
import sys
from types import SimpleNamespace

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import nn

HALF = torch.half


def network(question: dict) -> nn.Module:
    """Return nnU-Net's plain U-Net of the question's architecture."""
    flat = len(question["patch"]) == 2
    return PlainConvUNet(
        input_channels=question["in_channels"],
        n_stages=len(question["features"]),
        features_per_stage=question["features"],
        conv_op=nn.Conv2d if flat else nn.Conv3d,
        kernel_sizes=question["kernel_sizes"],
        strides=question["strides"],
        num_classes=question["heads"],
        n_conv_per_stage=question["encoder_blocks"],
        n_conv_per_stage_decoder=question["decoder_convs"],
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def predict(question: dict) -> torch.Tensor:
    """Return the logits of nnU-Net's predictor; its half-precision sums as they are, or in float32."""
    exact = question["float32_sums"]
    torch.half = torch.float32 if exact else HALF
    dtype = torch.float32 if exact else torch.float16
    predict_from_raw_data.compute_gaussian = functools.partial(compute_gaussian, dtype=dtype)
    compute_gaussian.cache_clear()
    predictor = predict_from_raw_data.nnUNetPredictor(
        tile_step_size=question["step"],
        use_mirroring=bool(question["mirror_axes"]),
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = network(question)
    predictor.list_of_parameters = question["weights"]
    predictor.allowed_mirroring_axes = question["mirror_axes"]
    predictor.configuration_manager = SimpleNamespace(patch_size=question["patch"])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=question["heads"])
    return predictor.predict_logits_from_preprocessed_data(question["array"])


def answer(question: dict) -> object:
    """Answer one question of any kind."""
    if question["kind"] == "starts":
        return compute_steps_for_sliding_window(question["shape"], question["patch"], question["step"])
    if question["kind"] == "gaussian":
        return compute_gaussian(
            question["patch"], value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu")
        )
    return predict(question)


if __name__ == "__main__":
    torch.set_num_threads(1)
    questions = torch.load(sys.argv[1], weights_only=True)
    torch.save({name: answer(question) for name, question in questions.items()}, sys.argv[2])
