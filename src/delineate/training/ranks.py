"""The processes that train one network together, as the training loop sees them.

Every process (*rank*) runs the same loop on its share of the same global batch. What the loop has to ask the others is
this small value: its share, sums over all ranks, whose clock counts, who writes files. :class:`Ranks` is the answer of
a process that works alone; :class:`delineate.training.distributed.JoinedRanks` that of several.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from delineate.errors import PlanError
from delineate.execution.progress import Cancellation


class Ranks:
    """One process that works alone: its share is everything, and sums over ranks are what it has.

    Attributes
    ----------
    index, size
        Number of this process, from 0, and how many there are.
    """

    index: int = 0
    size: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and records; the first one does."""
        return self.index == 0

    def share(self, batch_size: int) -> slice:
        """Return the samples of a global batch that this process works on; the first ranks take what is left over.

        Raises
        ------
        PlanError
            If there are more processes than samples.
        """
        if batch_size < self.size:
            raise PlanError(
                f"A batch of {batch_size} cannot be divided among {self.size} processes; use at most {batch_size}."
            )
        each, left = divmod(batch_size, self.size)
        first = self.index * each + min(self.index, left)
        return slice(first, first + each + (self.index < left))

    def turns(self, count: int) -> Iterator[int]:
        """Yield those of the numbers 0 to ``count - 1`` that this process works on."""
        return iter(range(self.index, count, self.size))

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks of a tensor that has the same shape everywhere; no gradient flows through."""
        return values

    def wait(self) -> None:
        """Return when all ranks have come here."""
        self.total(torch.zeros(()))

    def agreed_time(self, seconds: float) -> float:
        """Return the first rank's time, so that all take the same decisions."""
        return seconds

    def agreed(self, cancellation: Cancellation) -> Cancellation:
        """Return a cancellation that is requested everywhere as soon as it is requested anywhere."""
        return cancellation

    def joined(self, network: nn.Module) -> nn.Module:
        """Return the module to train through, whose gradients are summed over all ranks."""
        return network

    def losses_explained(self, advice: str) -> AbstractContextManager[None]:
        """Turn the loss of another process inside the block into one clear error that ends with ``advice``."""
        return nullcontext()
