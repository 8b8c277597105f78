"""Which pictures look alike: crops of one field, slides of one staining. They must not lie on both sides of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

LIKE = 0.2
"""Largest mean distance, in standard deviations per feature, within a group."""


def look_of(picture: NDArray[Any]) -> NDArray[np.float64]:
    """Return what a picture (y, x, 3) looks like: logarithm of its size, and mean, spread and tails of its colours."""
    values = picture.reshape(-1, 3).astype(np.float64)
    size = np.log(np.array(picture.shape[:2], dtype=np.float64)) * 4
    quantiles = np.percentile(values, (5, 25, 50, 75, 95), axis=0).ravel()
    return np.concatenate([size, values.mean(axis=0), values.std(axis=0), quantiles])


def groups_of_likeness(looks: Sequence[NDArray[np.float64]], *, like: float = LIKE) -> NDArray[np.int64]:
    """Return the group of every picture, numbered from 1: average linkage over standardised looks."""
    if len(looks) < 2:
        return np.ones(len(looks), dtype=np.int64)
    table = np.stack(looks)
    spread = table.std(axis=0)
    standard = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1)
    tree = linkage(standard / np.sqrt(standard.shape[1]), method="average")
    groups: NDArray[np.int64] = fcluster(tree, like, criterion="distance").astype(np.int64)
    return groups


def is_coloured(picture: NDArray[Any], *, least: float = 0.02) -> bool:
    """Say whether the colours of a picture (y, x, 3) differ by more than a share of its largest value, on average."""
    values = picture.astype(np.float32)
    return bool((values.max(axis=2) - values.min(axis=2)).mean() > least * max(float(values.max()), 1e-6))
