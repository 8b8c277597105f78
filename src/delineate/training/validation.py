"""The online pseudo-Dice: patches of held-out cases, always the same ones (nnU-Net's, but with fixed patches).

It says whether learning goes on; it is no measure of whole cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from delineate.case.labels import LabelScheme
from delineate.planning.recipe import Recipe
from delineate.training.augment import one_hot
from delineate.training.batches import to_device
from delineate.training.losses import pseudo_counts
from delineate.training.precision import forward, place_images
from delineate.training.ranks import Ranks
from delineate.training.sampler import PatchSampler

SMOOTHING = 0.9
"""Weight of the past in the smoothed mean Dice (nnU-Net)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validation:
    """How a network is validated."""

    sampler: PatchSampler
    recipe: Recipe
    scheme: LabelScheme
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    """Processes that share the patches."""

    @torch.no_grad()
    def dice(self, network: nn.Module) -> dict[str, float]:
        """Return the Dice of every structure over all validation patches; NaN if it is neither there nor found."""
        with full_resolution(network):
            counts = [self._counts(network, index) for index in self.ranks.turns(self.recipe.validation_batches)]
        none = torch.zeros((len(head_names(self.scheme)), 3), dtype=torch.int64, device=self.device)
        totals = self.ranks.total(torch.stack([none, *counts]).sum(0)).tolist()
        return {name: _dice(*total) for name, total in zip(head_names(self.scheme), totals, strict=True)}

    def _counts(self, network: nn.Module, index: int) -> Tensor:
        """Return true positives, false positives, false negatives (structure, 3) of one batch."""
        batch = to_device(self.sampler.draw(index), self.device)
        images = batch.images
        if batch.previous is not None:
            images = torch.cat([images, one_hot(batch.previous, self.scheme.values)], 1)
        logits = forward(network, place_images(images, self.recipe, self.device), self.recipe.precision)
        finest = logits if isinstance(logits, Tensor) else logits[0]
        return pseudo_counts(finest, batch.labels, regions=head_regions(self.scheme), ignore=self.scheme.ignore)


def head_regions(scheme: LabelScheme) -> tuple[tuple[int, ...], ...] | None:
    """Return the label values of every head in region mode, or None in label mode, as the loss wants them."""
    return tuple(structure.values for structure in scheme.structures) if scheme.has_regions else None


def head_names(scheme: LabelScheme) -> tuple[str, ...]:
    """Return the name of every foreground head: declared order for regions, ascending value for labels."""
    structures = scheme.structures if scheme.has_regions else sorted(scheme.structures, key=lambda s: s.values)
    return tuple(structure.name for structure in structures)


def mean_dice(dice: Mapping[str, float]) -> float | None:
    """Return the mean over the structures that have a Dice; None if none has."""
    known = [value for value in dice.values() if value == value]
    return sum(known) / len(known) if known else None


def smoothed(before: float | None, now: float | None) -> float | None:
    """Return nnU-Net's exponential moving average of the mean Dice."""
    if before is None or now is None:
        return now if before is None else before
    return SMOOTHING * before + (1 - SMOOTHING) * now


@contextmanager
def full_resolution(network: nn.Module) -> Iterator[None]:
    """Let a network answer with its finest logits only, in evaluation mode, inside the block."""
    training, supervision = network.training, getattr(network, "deep_supervision", None)
    try:
        network.eval()
        set_deep_supervision(network, enabled=False)
        yield
    finally:
        network.train(training)
        set_deep_supervision(network, enabled=bool(supervision))


def set_deep_supervision(network: nn.Module, *, enabled: bool) -> None:
    """Let a network answer with all its scales or only the finest; networks without scales are left alone."""
    if hasattr(network, "deep_supervision"):
        network.deep_supervision = enabled  # type: ignore[assignment]


def _dice(true: int, false_positive: int, false_negative: int) -> float:
    total = 2 * true + false_positive + false_negative
    return 2 * true / total if total else float("nan")
