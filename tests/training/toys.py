"""Small cases, a small network and a short recipe for tests of training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delineate.case.labels import LabelScheme
from delineate.planning.plan import Architecture, Configuration
from delineate.planning.recipe import Recipe
from delineate.training import Assignment, TrainingCases

SHAPE = (10, 12, 14)
PATCH = (8, 8, 8)


@dataclass(frozen=True)
class ToyCase:
    array: np.ndarray
    labels: np.ndarray
    locations: dict[int, np.ndarray] = field(default_factory=dict)
    previous: np.ndarray | None = None


def toy_case(
    seed: int, shape: tuple[int, ...] = SHAPE, classes: tuple[int, ...] = (1, 2), channels: int = 1
) -> ToyCase:
    """Noise with one bright block per class."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int16)
    for value in classes:
        corner = [int(rng.integers(0, max(size - 3, 1))) for size in shape]
        labels[tuple(slice(c, c + 3) for c in corner)] = value
    array = (labels + rng.normal(0, 0.3, (channels, *shape))).astype(np.float32)
    locations = {v: np.argwhere(labels == v).astype(np.int32) for v in classes}
    return ToyCase(array=array, labels=labels, locations=locations)


def toy_cases(training: int = 4, validation: int = 2, **settings: Any) -> TrainingCases:
    ids = tuple(f"toy_{i}" for i in range(training + validation))
    made = {case_id: toy_case(i, **settings) for i, case_id in enumerate(ids)}
    return TrainingCases(training=ids[:training], validation=ids[training:], open=made.__getitem__)


class ToyNetwork(nn.Module):
    """Two scales, with dropout, so that torch's own random state matters."""

    def __init__(self, heads: int = 3, channels: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.deep_supervision = True
        self.fine = nn.Sequential(
            nn.Conv3d(channels, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True), nn.LeakyReLU()
        )
        self.coarse = nn.Sequential(nn.Conv3d(6, 8, 3, stride=2, padding=1), nn.LeakyReLU(), nn.Dropout3d(dropout))
        self.up = nn.ConvTranspose3d(8, 6, 2, stride=2)
        self.heads = nn.ModuleList([nn.Conv3d(6, heads, 1), nn.Conv3d(8, heads, 1)])

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        fine = self.fine(x)
        coarse = self.coarse(fine)
        finest = self.heads[0](fine + self.up(coarse))
        return [finest, self.heads[1](coarse)] if self.deep_supervision else finest


def toy_network(seed: int = 0, **settings: Any) -> ToyNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ToyNetwork(**settings)


def toy_recipe(**changes: Any) -> Recipe:
    recipe = Recipe(
        iterations=12,
        iterations_per_epoch=5,
        validation_batches=2,
        batch_size=2,
        patch_size=PATCH,
        ema_decay=0.9,
        augmentation="light",
        mirror_axes=(0, 1, 2),
        seed=7,
    )
    return replace(recipe, **changes)


def toy_configuration(**changes: Any) -> Configuration:
    configuration = Configuration(
        name="3d_fullres",
        data_identifier="toy_3d_fullres",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_size=PATCH,
        batch_size=2,
        median_shape=(10.0, 12.0, 14.0),
        normalization=("zscore",),
        use_mask_for_norm=(False,),
        architecture=Architecture(
            kind="plain_unet",
            dims=3,
            features=(4, 8),
            kernel_sizes=((3, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (2, 2, 2)),
            encoder_blocks=(1, 1),
            decoder_convs=(1,),
        ),
        batch_dice=False,
    )
    return replace(configuration, **changes)


def toy_assignment(scheme: LabelScheme | None = None, **recipe: Any) -> Assignment:
    return Assignment(
        configuration=toy_configuration(),
        recipe=toy_recipe(**recipe),
        scheme=scheme or LabelScheme.simple("anterior", "posterior"),
    )
