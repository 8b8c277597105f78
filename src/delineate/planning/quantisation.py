"""Whether a model may compute in 8-bit integers: what doing so cost on cases with references, and the rule. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

LARGEST_DROP = 0.005
"""A structure's mean Dice may fall by this much; about what repeated trainings of one model differ by."""

Range = tuple[float, float]
"""Least and greatest value that a layer sees in its input."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureCheck:
    """Mean Dice of one structure over the cases, in both number formats; NaN if no case has it."""

    name: str
    floating: float
    integer: float

    @property
    def drop(self) -> float:
        """How much Dice is lost; infinite if the structure can be scored in one of the formats only."""
        if math.isnan(self.floating) and math.isnan(self.integer):
            return 0.0
        lost = self.floating - self.integer
        return math.inf if math.isnan(lost) else lost


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantisation:
    """How the layers of a model are brought to 8 bits, and what a check of that has found."""

    weights: Mapping[str, str]
    """Fold -> SHA-256 of the weights that were checked; for others the verdict does not hold."""
    ranges: Mapping[str, Mapping[str, Range]]
    """Fold -> layer -> range of its input."""
    structures: tuple[StructureCheck, ...]
    cases: int
    out_of_fold: bool
    """Whether every fold's network was checked on cases that it was not trained on."""
    largest_drop: float
    agreement: float
    """Share of equal labels among the voxels that either format calls foreground."""
    seconds: tuple[float, float]
    """Time of all predictions, floating and integer."""

    @property
    def passed(self) -> bool:
        """Whether no structure lost more than was allowed."""
        return self.cases > 0 and all(one.drop <= self.largest_drop for one in self.structures)

    def verdict(self) -> str:
        """Return the verdict as a sentence with its numbers."""
        worst = max(self.structures, key=lambda one: one.drop, default=None)
        if worst is None or not self.cases:
            return "int8 was checked on no case; not allowed for this model."
        did = f"lost {worst.drop:.4f}" if worst.drop > 0 else f"gained {-worst.drop:.4f}"
        return (
            f"int8 {did} Dice of {worst.name} ({worst.floating:.4f} became {worst.integer:.4f}), the worst of "
            f"{len(self.structures)} structure(s), on {self.cases} cases; {self.largest_drop:g} may be lost; "
            f"{'allowed' if self.passed else 'not allowed'} for this model."
        )
