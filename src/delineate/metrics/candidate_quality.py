"""How good candidates are: what each overlaps a true instance by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.masks.instance_candidates import Candidates


def candidate_quality(candidates: Candidates, instances: NDArray[Any]) -> NDArray[np.float64]:
    """Return, per candidate, the largest IoU with an instance.

    Parameters
    ----------
    candidates
        Of a plane (y, x).
    instances
        (y, x) integer: 0 is background, every other value one instance.
    """
    values, compact = np.unique(instances, return_inverse=True)
    compact = compact.reshape(instances.shape)
    sizes = np.bincount(compact.ravel(), minlength=len(values))
    if values[0] != 0:
        compact, sizes = compact + 1, np.concatenate([[0], sizes])
    joint, counts = np.unique(candidates.basins.astype(np.int64) * len(sizes) + compact, return_counts=True)
    owners, met = joint // len(sizes), joint % len(sizes)
    shared: list[dict[int, int]] = [{} for _ in range(len(candidates) + 1)]
    for owner, instance, count in zip(owners.tolist(), met.tolist(), counts.tolist(), strict=True):
        if owner:
            shared[owner][instance] = count
    quality = np.zeros(len(candidates))
    for number, (one, other) in enumerate(candidates.parts.tolist(), start=1):
        if one:
            mine = dict(shared[one])
            for instance, count in shared[other].items():
                mine[instance] = mine.get(instance, 0) + count
            shared[number] = mine
        pixels = sum(shared[number].values())
        quality[number - 1] = max(
            (count / (pixels + sizes[instance] - count) for instance, count in shared[number].items() if instance),
            default=0.0,
        )
    return quality
