"""A small network that says how good a candidate is: what it overlaps a true instance by. Values only, pure numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ModelError
from delineate.masks.basin_borders import Real
from delineate.masks.candidate_features import FEATURES

FARTHEST = 4.0
"""Standard deviations from the mean beyond which a feature counts as if it were so far."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CandidateScorer:
    """Layers of weights on standardised features, rectified between layers.

    Raises
    ------
    ModelError
        If the layers do not fit the features or each other, or a value is not finite.
    """

    mean: Real
    """(feature,)."""
    deviation: Real
    """(feature,) above 0."""
    layers: tuple[tuple[Real, Real], ...]
    """Weights (in, out) and offsets (out,) per layer; the last one has one output."""
    least: float
    """A candidate is taken if it is worth more; half of the panoptic quality that is reached makes that quality largest
    (a candidate adds its IoU to the numerator and one half to the denominator)."""
    offset: float = 0.0
    slope: float = 1.0
    """Of the line from what an instance is worth to what IoU was found on pictures that nobody had learnt from."""

    def __post_init__(self) -> None:
        width = len(FEATURES)
        fits = self.mean.shape == self.deviation.shape == (width,) and bool((self.deviation > 0).all())
        for weights, offsets in self.layers:
            fits = fits and weights.ndim == 2 and weights.shape == (width, len(offsets))
            width = len(offsets)
        values = [self.mean, self.deviation, *(part for layer in self.layers for part in layer)]
        values.append(np.array([self.least, self.offset, self.slope]))
        if not fits or width != 1 or not all(np.isfinite(part).all() for part in values):
            raise ModelError(
                f"A scorer of candidates takes {len(FEATURES)} features to one finite value; found layers of "
                f"{[weights.shape for weights, _ in self.layers]} on {self.mean.shape}."
            )

    def worth(self, features: Real) -> Real:
        """Return, of features (candidate, feature), the IoU (candidate,) with a true instance, 0 where it is below 0.5.

        Sums run in one order, so a candidate's number does not depend on which others are asked for.
        """
        values = np.clip((features - self.mean) / self.deviation, -FARTHEST, FARTHEST)
        for index, (weights, offsets) in enumerate(self.layers):
            total = np.repeat(offsets[None], len(values), axis=0)
            for column, row in zip(values.T, weights, strict=True):
                total += column[:, None] * row
            values = np.maximum(total, 0) if index + 1 < len(self.layers) else total
        worth: Real = values[:, 0]
        return worth

    def confidence(self, worth: Real) -> Real:
        """Return the IoU with a true instance that can be expected, 0 to 1, of instances with such a worth."""
        return np.clip(self.offset + self.slope * worth, 0, 1)

    def surer_than(self, confidence: float) -> CandidateScorer:
        """Return the scorer that takes what has more than a confidence; it may be 0, below which nothing is told."""
        return replace(self, least=(confidence - self.offset) / self.slope)

    @property
    def settings(self) -> dict[str, float]:
        """Its single numbers by name, as a model's document tells them."""
        return {"least_worth": self.least, "confidence_offset": self.offset, "confidence_slope": self.slope}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the values by name, as :meth:`of_arrays` takes them."""
        named: dict[str, NDArray[Any]] = {"mean": self.mean, "deviation": self.deviation}
        for index, (weights, offsets) in enumerate(self.layers):
            named |= {f"{index}.weight": weights, f"{index}.offset": offsets}
        return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in named.items()}

    @classmethod
    def of_arrays(cls, named: Mapping[str, NDArray[Any]], settings: Mapping[str, float]) -> CandidateScorer:
        """Return the scorer whose values and settings these are.

        Raises
        ------
        ModelError
            If some are missing, or do not fit.
        """
        count = sum(name.endswith(".weight") for name in named)
        names = ["mean", "deviation", *(f"{index}.{part}" for index in range(count) for part in ("weight", "offset"))]
        if set(named) != set(names):
            raise ModelError(f"Expected a scorer's {', '.join(names)}; found {', '.join(sorted(named)) or 'nothing'}.")
        values = {name: np.asarray(array, dtype=np.float64) for name, array in named.items()}
        layers = tuple((values[f"{index}.weight"], values[f"{index}.offset"]) for index in range(count))
        least, offset, slope = (
            float(settings[name]) for name in ("least_worth", "confidence_offset", "confidence_slope")
        )
        return cls(
            mean=values["mean"],
            deviation=values["deviation"],
            layers=layers,
            least=least,
            offset=offset,
            slope=slope,
        )
