"""What is learnt: where batches come from, what an answer costs, and how the network is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from delineate.planning.recipe import Recipe
from delineate.training.batches import Batch
from delineate.training.step import Criterion


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """Everything that the training loop needs to know of what it trains."""

    recipe: Recipe
    identity: str
    """All that must be equal for a checkpoint to be continued, as JSON."""
    batch: Callable[[int], Batch]
    """This process's share of the batch of a step, on the device; a pure function of the step."""
    criterion: Criterion
    score: Callable[[nn.Module], dict[str, float]] | None
    """Scores of a network on held-out patches by name, larger is better; None without such patches."""
    notices: tuple[str, ...] = ()
    """What the report should tell of the cases."""
