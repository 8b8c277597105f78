"""Models of instances with random weights, random batch statistics among them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from delineate.formats.instance_package import InstancePackage, write_instance_package
from delineate.masks.candidate_features import FEATURES
from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.instance_decoding import Decoding
from delineate.networks.instance_unet import InstanceUNet

SMALL = Decoding(reach=12, grow=3, largest=40, least_pixels=3, foreground=0.5, prominence=0.1, smooth=1.0)


def random_scorer(seed: int = 17, least: float = 0.0) -> CandidateScorer:
    """One that likes some candidates better than others, for no reason; this seed takes many, and joins many."""
    generator = np.random.default_rng(seed)
    sizes = (len(FEATURES), 6, 1)
    layers = tuple(
        (generator.standard_normal((inputs, outputs)), generator.standard_normal(outputs))
        for inputs, outputs in itertools.pairwise(sizes)
    )
    middle = np.array([4, 1, 0.5, 4, 0.5, *[0.5] * 15, 0.2, 0.2, 0.5, 3])[: len(FEATURES)]
    return CandidateScorer(mean=middle, deviation=np.ones(len(FEATURES)), layers=layers, least=least)


SCORED = replace(SMALL, foreground=0.4, prominence=0.02, scorer=random_scorer())


def random_network(seed: int, *, types: int = 2, widths: tuple[int, ...] = (8, 12, 16)) -> InstanceUNet:
    """A network whose answers differ much from place to place."""
    network = InstanceUNet(types=types, widths=widths, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.3 + torch.rand(module.num_features, generator=generator))
                module.weight.copy_(0.7 + 0.6 * torch.rand(module.num_features, generator=generator))
                module.bias.copy_(0.2 * torch.randn(module.num_features, generator=generator))
        picture = torch.rand(1, 3, 128, 128, generator=generator)
        answer = network.eval()(picture)
        spread = answer.std(dim=(0, 2, 3)).mean()
        network.head.weight.mul_(2.5 / spread)
        answer = network(picture)
        shift = answer.mean(dim=(0, 2, 3)).repeat_interleave(4)
        network.head.bias.sub_(shift)
    return network


def write_model(folder: Path, seed: int = 0, **changes) -> Path:
    """A package of such a network."""
    network = random_network(seed)
    values = {
        "name": "random",
        "software": "test",
        "licence": "CC0",
        "type_names": ("round", "other"),
        "widths": network.widths,
        "decoding": SMALL,
        "typical_pixels": 10.0,
        "pixel_um": None,
        "weights": network.state_dict(),
    }
    write_instance_package(folder, InstancePackage(**(values | changes)))
    return folder
