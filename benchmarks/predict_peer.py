"""Run by the interpreter that has nnU-Net: predicts prepared arrays with nnU-Net's predictor and times each case.

Usage: ``python predict_peer.py QUESTION.pt ANSWER.pt``; the question holds network, weights and arrays.
"""

import sys
import time
from types import SimpleNamespace

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn


def network(asked):
    return PlainConvUNet(
        input_channels=asked["in_channels"],
        n_stages=len(asked["features"]),
        features_per_stage=asked["features"],
        conv_op=nn.Conv3d,
        kernel_sizes=asked["kernel_sizes"],
        strides=asked["strides"],
        num_classes=asked["heads"],
        n_conv_per_stage=asked["encoder_blocks"],
        n_conv_per_stage_decoder=asked["decoder_convs"],
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


def predictor(asked, mirrored):
    made = nnUNetPredictor(use_mirroring=mirrored, device=torch.device("cpu"), allow_tqdm=False)
    made.network, made.list_of_parameters = network(asked), [asked["weights"]]
    made.allowed_mirroring_axes = asked["mirror_axes"]
    made.configuration_manager = SimpleNamespace(patch_size=asked["patch_size"])
    made.label_manager = SimpleNamespace(num_segmentation_heads=asked["heads"])
    return made


def main():
    asked = torch.load(sys.argv[1], weights_only=True)
    torch.set_num_threads(asked["threads"])
    answer = {}
    for mirrored in (False, True):
        made = predictor(asked, mirrored)
        made.predict_logits_from_preprocessed_data(asked["arrays"][0])  # the first call is slower; not counted
        for index, array in enumerate(asked["arrays"]):
            start = time.perf_counter()
            logits = made.predict_logits_from_preprocessed_data(array)
            answer[mirrored, index] = {
                "seconds": time.perf_counter() - start,
                "labels": logits.float().argmax(0).to(torch.uint8),
            }
    torch.save(answer, sys.argv[2])


if __name__ == "__main__":
    main()
