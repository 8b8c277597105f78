"""Looking at a study before its end without more false findings: O'Brien and Fleming's boundary, computed exactly.

Looks are equally spaced in information (cases). At look k of K the study may stop if |Z| reaches C sqrt(K / k); C is
such that the chance of ever doing so without a difference is alpha. The module knows standard normal statistics only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from delineate.errors import InputError

MOST_LOOKS = 20
_STEP = 0.02
"""Of the numerical integration over the score; C then is exact to 4 digits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """When a study may stop early."""

    critical: tuple[float, ...]
    """Per look, what |Z| must reach; the last belongs to the final analysis."""
    alpha: float
    """Two-sided chance of a false finding over all looks."""

    @property
    def looks(self) -> int:
        """Planned looks, the final analysis included."""
        return len(self.critical)


@cache
def obrien_fleming(looks: int, alpha: float = 0.05) -> Boundary:
    """Return O'Brien and Fleming's two-sided boundary.

    Parameters
    ----------
    looks
        Planned looks, the final analysis included; 1 is a study of fixed size.
    alpha
        Two-sided, between 0 and 0.5.

    Raises
    ------
    InputError
        If a number is impossible.

    References
    ----------
    P. C. O'Brien, T. R. Fleming, A multiple testing procedure for clinical trials, Biometrics 35 (1979); constants in
    C. Jennison, B. W. Turnbull, Group Sequential Methods (2000), table 2.3.
    """
    if not 1 <= looks <= MOST_LOOKS or not 0 < alpha < 0.5:
        raise InputError(f"A boundary needs 1 to {MOST_LOOKS} looks and 0 < alpha < 0.5; got {looks} and {alpha}.")
    fixed = float(stats.norm.isf(alpha / 2))
    constant = fixed
    if looks > 1:
        constant = float(
            optimize.brentq(lambda c: crossing_probability(_shape(c, looks)) - alpha, fixed * 0.9, fixed * 1.5)
        )
    return Boundary(critical=_shape(constant, looks), alpha=alpha)


def crossing_probability(critical: tuple[float, ...], drift: float = 0.0) -> float:
    """Return the chance that |Z| ever reaches its bound.

    Parameters
    ----------
    critical
        Per equally spaced look.
    drift
        Expected Z at the last look; 0 without a difference.

    References
    ----------
    P. Armitage, C. K. McPherson, B. C. Rowe, Repeated significance tests on accumulating data, J. R. Stat. Soc. A 132
    (1969): the recursion over looks.
    """
    looks = len(critical)
    # scores S_k = Z_k sqrt(k) have independent increments of variance 1 and mean drift / sqrt(looks)
    mean = drift / math.sqrt(looks)
    bounds = [c * math.sqrt(k) for k, c in enumerate(critical, start=1)]
    grid, weights = _grid(bounds[0])
    density = stats.norm.pdf(grid, mean)
    crossed = 1 - float(stats.norm.cdf(bounds[0] - mean) - stats.norm.cdf(-bounds[0] - mean))
    for bound in bounds[1:]:
        stays = stats.norm.cdf(bound - grid - mean) - stats.norm.cdf(-bound - grid - mean)
        crossed += float(np.sum(weights * density * (1 - stays)))
        finer, finer_weights = _grid(bound)
        density = stats.norm.pdf(finer[:, None] - grid[None, :], mean) @ (weights * density)
        grid, weights = finer, finer_weights
    return crossed


@cache
def inflation(boundary: Boundary, power: float) -> float:
    """Return by how much the looks enlarge the study that has this power, as a factor of 1 or a little more.

    Raises
    ------
    InputError
        If the power is not above alpha and below 1.
    """
    if not boundary.alpha < power < 1:
        raise InputError(f"The power must lie between alpha {boundary.alpha} and 1; got {power}.")
    fixed = float(stats.norm.isf(boundary.alpha / 2) + stats.norm.ppf(power))
    if boundary.looks == 1:
        return 1.0
    drift = optimize.brentq(
        lambda d: crossing_probability(boundary.critical, d) - power, 0.5 * fixed, 2 * fixed + 1, xtol=1e-6
    )
    return max(1.0, (float(drift) / fixed) ** 2)


def _shape(constant: float, looks: int) -> tuple[float, ...]:
    return tuple(constant * math.sqrt(looks / k) for k in range(1, looks + 1))


def _grid(bound: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places and weights of Simpson's rule from -bound to bound."""
    count = 2 * max(20, math.ceil(bound / _STEP / 4)) + 1
    places = np.linspace(-bound, bound, count)
    weights = np.full(count, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return places, weights * (2 * bound / (count - 1)) / 3
