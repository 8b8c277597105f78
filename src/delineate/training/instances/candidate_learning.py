"""Learns what candidates are worth, from candidates whose overlap with true instances is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from delineate.masks.basin_borders import Real
from delineate.masks.candidate_scorer import FARTHEST, CandidateScorer
from delineate.metrics.decoding_choice import MATCH

HIDDEN = (48, 24)
"""Outputs of the layers before the last."""
STEPS, BATCH = 2000, 256
LEARNING_RATE, WEIGHT_DECAY = 5e-3, 5e-2


def learn_scorer(features: Real, quality: Real, weights: Real, *, least: float, seed: int = 0) -> CandidateScorer:
    """Return a scorer of candidates.

    Parameters
    ----------
    features
        (candidate, feature), see :data:`delineate.masks.candidate_features.FEATURES`.
    quality
        (candidate,) the IoU with a true instance.
    weights
        (candidate,) above 0: how often each is drawn, relative to the others.
    least
        What a candidate must be worth to be taken.
    seed
        Of the first weights and of what is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    # what a file keeps is of single precision; the scorer is then the same before and after
    mean, deviation = (_single(values) for values in (features.mean(axis=0), features.std(axis=0) + 1e-6))
    seen = torch.from_numpy(np.clip((features - mean) / deviation, -FARTHEST, FARTHEST)).float()
    wanted = torch.from_numpy(np.where(quality > MATCH, quality, 0.0)).float()
    layers = _first_layers((features.shape[1], *HIDDEN, 1), generator)
    values = [value for layer in layers for value in layer]
    optimizer = torch.optim.AdamW(values, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    chances = torch.from_numpy(np.cumsum(weights) / np.sum(weights))
    for _ in range(STEPS):
        drawn = torch.searchsorted(chances, torch.rand(BATCH, generator=generator, dtype=torch.float64))
        drawn = drawn.clamp(max=len(seen) - 1)
        loss = (_worth(seen[drawn], layers) - wanted[drawn]).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return CandidateScorer(
        mean=mean,
        deviation=deviation,
        layers=tuple((w.detach().double().numpy(), b.detach().double().numpy()) for w, b in layers),
        least=least,
    )


def _single(values: Real) -> Real:
    return values.astype(np.float32).astype(np.float64)


def _first_layers(sizes: Sequence[int], generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Return weights (in, out) and offsets, uniform within one over the root of the inputs."""
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        shapes = ((inputs, outputs), (outputs,))
        weights, offsets = ((2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(inputs) for shape in shapes)
        layers.append((weights.requires_grad_(), offsets.requires_grad_()))
    return layers


def _worth(values: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    for weights, offsets in layers[:-1]:
        values = torch.relu(values @ weights + offsets)
    weights, offsets = layers[-1]
    return (values @ weights + offsets)[:, 0]
