"""Batches on the training device: drawn, moved, augmented, and if wanted made one step ahead in a second thread."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate.training.sampler import Patches

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Images (B, C, *patch) float32 and labels (B, *patch) int16 on the training device."""

    images: Tensor
    labels: Tensor
    case_ids: tuple[str, ...]
    previous: Tensor | None = None
    """(B, *patch) int16, in a cascade: what the previous stage said, before it becomes channels of the images."""


def to_device(patches: Patches, device: torch.device) -> Batch:
    """Return the patches as tensors on ``device``."""
    return Batch(
        images=torch.from_numpy(patches.images).to(device),
        labels=torch.from_numpy(patches.labels).to(device),
        case_ids=patches.case_ids,
        previous=None if patches.previous is None else torch.from_numpy(patches.previous).to(device),
    )


def there(numbers: NDArray[Any], device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device; a GPU, and who feeds it, does not wait for the copy."""
    tensor = torch.from_numpy(numbers)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator for the augmentation of one step; a pure function of seed and step."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def in_order(make: Callable[[int], Made], first: int, *, ahead: int = 0) -> Generator[Made, None, None]:
    """Yield ``make(first)``, ``make(first + 1)``, ... without end.

    Parameters
    ----------
    make
        A pure function of the step number, so that making ahead changes nothing but the time.
    first
        The step to begin with.
    ahead
        How many to have under way in a background thread; 0 makes each one when it is asked for.
    """
    if ahead < 1:
        yield from map(make, itertools.count(first))
        return
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as executor:
        pending: deque[Future[Made]] = deque(executor.submit(make, first + k) for k in range(ahead))
        try:
            for step in itertools.count(first + ahead):
                made = pending.popleft().result()
                pending.append(executor.submit(make, step))
                yield made
        finally:
            for future in pending:
                future.cancel()
