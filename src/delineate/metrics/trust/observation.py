"""What is measured of one case without a reference: by the network on its way, of the image, and of the label map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.trust.image_statistics import ImageStatistics
from delineate.metrics.trust.structure_norms import StructureShape
from delineate.metrics.trust.uncertainty import Uncertainty


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Mean Dice of pairs of predictions, per foreground head; NaN where there are no pairs or nothing is predicted."""

    flips: tuple[float, ...] = ()
    """Of the answers of one network to mirrored images; the mean over networks."""
    folds: tuple[float, ...] = ()
    """Of the answers of different networks to the same image; the mean over mirrored images."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Behaviour:
    """How the networks behaved on one case."""

    agreement: Agreement
    uncertainty: Uncertainty
    features: Mapping[str, tuple[NDArray[np.float32], ...]] = field(default_factory=dict)
    """Fold -> per stage of the encoder (feature,) means over the image; empty where the networks do not show them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Observation:
    """Everything that is known of one case without a reference."""

    behaviour: Behaviour
    image: ImageStatistics
    shapes: tuple[StructureShape, ...]


def mean_known(values: Sequence[float]) -> float:
    """Return the mean of the numbers that are not NaN; NaN if there are none."""
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan
