"""Several networks of one task as one: the mean of their logits, all weights resident, converted once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from delineate.errors import ModelError, UsageError
from delineate.inference.precision import as_input, converted
from delineate.planning.recipe import Precision

Backend = Callable[[nn.Module, Tensor], Tensor]
"""Runs a network on a batch ``(B, C, *patch)`` elsewhere than in torch."""
Seen = Callable[[int, Tensor], None]
"""Is told which network, counted from 0, gave which logits ``(B, head, *patch)`` float32."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Ensemble:
    """Networks that are ready to predict; make it once with :func:`make_ensemble` and use it for every case."""

    networks: tuple[nn.Module, ...]
    device: torch.device
    precision: Precision
    channels_last: bool
    backend: Backend | None = None
    """What runs a network; None: torch."""
    seen: Seen | None = None
    """Who looks at the logits of each network (:mod:`delineate.inference.observer`); None: nobody."""

    def run(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Return the answer of one network at full resolution ``(B, channel, *patch)``."""
        answer = network(inputs) if self.backend is None else self.backend(network, inputs)
        return answer if isinstance(answer, Tensor) else answer[0]

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the mean logits ``(B, head, *patch)`` float32 of a batch ``(B, C, *patch)`` over the networks.

        Raises
        ------
        ModelError
            If a network gives NaN or infinite logits, or the networks do not agree on the number of heads.
        """
        inputs = as_input(batch, device=self.device, precision=self.precision, channels_last=self.channels_last)
        total = self._logits(0, inputs)
        for member in range(1, len(self.networks)):
            logits = self._logits(member, inputs)
            if logits.shape != total.shape:
                raise ModelError(
                    f"The networks of an ensemble must give logits of one shape; network 1 gave {tuple(total.shape)}, "
                    f"network {member + 1} gave {tuple(logits.shape)}. Use networks of one configuration."
                )
            total = total + logits  # never in place: a network may hand back its own input
        return total / len(self.networks) if len(self.networks) > 1 else total

    def _logits(self, member: int, inputs: Tensor) -> Tensor:
        logits = self.run(self.networks[member], inputs).float()
        # one pass instead of five: a sum is finite exactly if its terms are, but for logits beyond 1e30
        if not math.isfinite(float(logits.sum())):
            raise ModelError(
                f"Network {member + 1} of {len(self.networks)} gave NaN or infinite logits in {self.precision}. "
                "Its weights are damaged or its training diverged, or the image holds NaN; use another fold or float32."
            )
        if self.seen is not None:
            self.seen(member, logits)
        return logits


def make_ensemble(
    networks: Sequence[nn.Module],
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "float32",
    channels_last: bool | None = None,
    backend: Backend | None = None,
) -> Ensemble:
    """Return the networks as one, converted to the device, number format and layout; the originals stay as they are.

    ``channels_last=None`` chooses that layout on a CPU and for bfloat16, where convolutions are faster in it. A
    ``backend`` runs the networks instead of torch
    (:class:`~delineate.inference.openvino_backend.OpenVinoBackend`, which wants float32 on the CPU).

    Raises
    ------
    UsageError
        If no network is given.
    """
    if not networks:
        raise UsageError("A prediction needs at least one network; got none.")
    place = torch.device(device)
    last = precision == "bfloat16" or place.type == "cpu" if channels_last is None else channels_last
    ready = tuple(converted(n, device=place, precision=precision, channels_last=last) for n in networks)
    return Ensemble(networks=ready, device=place, precision=precision, channels_last=last, backend=backend)
