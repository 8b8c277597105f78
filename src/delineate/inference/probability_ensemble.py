"""Several models of different configurations as one: the mean of their probabilities on one grid.

References
----------
nnU-Net 2.8.1, ``ensembling/ensemble.py``: probabilities are summed in float32, divided by their number, and the largest
wins; of regions those above one half are written in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case.image import LabelMap
from delineate.case.labels import LabelScheme
from delineate.case.prepared import Trace
from delineate.errors import ModelError
from delineate.preprocessing.probability_slabs import planes_per_slab, probability_slabs

FEW_VALUES = 255
"""With fewer foreground labels than this the label map is uint8, else uint16 (nnU-Net)."""


def mean_probabilities(members: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return the mean of equally shaped arrays, summed in float32 in their order.

    Raises
    ------
    ModelError
        If the shapes differ: the models have other labels, or saw another image.
    """
    total = members[0].astype(np.float32)
    for member in members[1:]:
        if member.shape != total.shape:
            raise ModelError(f"Probabilities of one shape were expected; got {total.shape} and {member.shape}.")
        total += member
    total /= len(members)
    return total


def decide_by_heads(heads: Iterable[NDArray[np.float32]], scheme: LabelScheme) -> NDArray[Any]:
    """Return the label map that probabilities say, given one head after the other; only one is held at a time.

    Parameters
    ----------
    heads
        (z, y, x) each, in the order of the network's heads.
    scheme
        Label mode: the largest wins, the first on a tie. Region mode: heads above one half are written in
        ``region_order``, later over earlier.

    Returns
    -------
    NDArray
        (z, y, x) uint8 or uint16.

    Raises
    ------
    ModelError
        If there are not as many heads as the scheme has.
    """
    values = (scheme.region_order or ()) if scheme.has_regions else (0, *scheme.values)
    dtype = np.uint8 if len(scheme.values) < FEW_VALUES else np.uint16
    best: NDArray[np.float32] | None = None
    labels: NDArray[Any] = np.zeros(0, dtype)
    remaining = list(reversed(values))
    for head in heads:
        if not remaining:
            raise ModelError(f"Probabilities of {len(values)} heads were expected for these labels; there are more.")
        if best is None:
            best = np.full(head.shape, 0.5 if scheme.has_regions else -np.inf, np.float32)
            labels = np.zeros(head.shape, dtype)
        labels[head > best] = remaining.pop()
        if not scheme.has_regions:
            np.maximum(best, head, out=best)
    if remaining:
        raise ModelError(f"Probabilities of {len(values)} heads were expected; {len(remaining)} are missing.")
    return labels


def ensemble_labels(answers: Sequence[tuple[NDArray[Any], Trace]], scheme: LabelScheme) -> LabelMap:
    """Return the label map that several models say together, working through the image slab by slab.

    Parameters
    ----------
    answers
        Of each model the logits (head, z, y, x) on its prepared grid, and the trace back to the image's grid.
    scheme
        Of all models.

    Raises
    ------
    ModelError
        If logits do not fit their trace and the scheme, or the traces do not lead to one grid.
    """
    grid = answers[0][1].grid
    if any(trace.grid.shape != grid.shape for _, trace in answers):
        raise ModelError("The models of an ensemble must be given the same image; their grids differ.")
    planes = planes_per_slab(answers[0][1], scheme.head_count)
    sources = [probability_slabs(logits, trace, scheme, planes=planes) for logits, trace in answers]
    slabs = [decide_by_heads(mean_probabilities(members), scheme) for members in zip(*sources, strict=True)]
    whole = np.concatenate(slabs)
    return LabelMap(array=whole[0] if grid.dims == 2 else whole, grid=grid, scheme=scheme)
