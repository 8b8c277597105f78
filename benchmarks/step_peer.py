"""One training step of nnU-Net; runs in the oracle's interpreter. Prints JSON.

Arguments: a JSON file with features, strides, kernels, convolutions, patch, batch, steps.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(task["threads"])
    stages = len(task["features"])
    network = PlainConvUNet(
        1, stages, task["features"], torch.nn.Conv3d, task["kernels"], task["strides"], task["convs"], 3,
        task["convs"][:-1], conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d, norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=True,
    )  # fmt: skip
    weights = [1 / 2**i for i in range(stages - 1)]
    weights[-1] = 0.0
    loss = DeepSupervisionWrapper(
        DC_and_CE_loss(
            {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False},
            {},
            dice_class=MemoryEfficientSoftDiceLoss,
        ),
        [w / sum(weights) for w in weights],
    )
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True)
    PolyLRScheduler(optimizer, 1e-2, 1000).step(0)
    images = torch.randn(task["batch"], 1, *task["patch"])
    full = torch.randint(0, 3, (task["batch"], 1, *task["patch"])).float()
    targets, scale = [full], 1
    for _ in range(stages - 2):
        scale *= 2
        targets.append(full[:, :, ::scale, ::scale, ::scale].contiguous())
    times = []
    for _ in range(task["steps"]):
        began = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        value = loss(network(images), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        times.append(time.perf_counter() - began)
    print(json.dumps({"seconds": min(times[1:]), "all": times}))


if __name__ == "__main__":
    main()
