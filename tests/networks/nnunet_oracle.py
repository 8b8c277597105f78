"""Run by the interpreter that has nnU-Net: loads our weights into nnU-Net's classes, and answers with its own.

Usage: ``python nnunet_oracle.py FOLDER``; reads FOLDER/ours.pt, writes FOLDER/theirs.pt.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn


def their_network(question: dict) -> nn.Module:
    """Return nnU-Net's network of that architecture, deep supervision on."""
    plain = question["kind"] == "plain_unet"
    flat = question["dims"] == 2
    make = PlainConvUNet if plain else ResidualEncoderUNet
    return make(
        input_channels=question["in_channels"],
        n_stages=len(question["features"]),
        features_per_stage=question["features"],
        conv_op=nn.Conv2d if flat else nn.Conv3d,
        kernel_sizes=question["kernel_sizes"],
        strides=question["strides"],
        num_classes=question["heads"],
        n_conv_per_stage_decoder=question["decoder_convs"],
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if flat else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **{"n_conv_per_stage" if plain else "n_blocks_per_stage": question["encoder_blocks"]},
    )


@torch.no_grad()
def answer(question: dict) -> dict:
    """Return nnU-Net's outputs with our weights, and its own weights with its outputs, on the question's input."""
    network = their_network(question)
    own_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own_outputs = network(question["x"])
    network.load_state_dict(question["weights"], strict=True)
    outputs = network(question["x"])
    network.decoder.deep_supervision = False
    return {
        "outputs": outputs,
        "single": network(question["x"]),
        "own_weights": own_weights,
        "own_outputs": own_outputs,
        "parameter_names": [name for name, _ in network.named_parameters()],
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    questions = torch.load(folder / "ours.pt", weights_only=True)
    torch.save({name: answer(question) for name, question in questions.items()}, folder / "theirs.pt")
