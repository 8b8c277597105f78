"""What could be an instance: the basins of a height map, and what becomes of them where they are joined.

Basins are joined in the order of the passes between them, the highest pass first, so every candidate is what holds
together above some height. Candidates form trees; of each tree some that do not overlap are taken, those that are worth
most together (the idea is that of C. Arteta et al., Learning to detect cells using non-overlapping extremal regions,
2012). Candidates have a longest side, so all that decides about an instance lies within such a length of it, and it is
the same in every tile that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.masks.basin_borders import Real, Touching, Whole, find_meetings, outlines_of
from delineate.masks.candidate_features import CandidateSums, features_of
from delineate.masks.candidate_tree import CandidateTree


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """Candidates 1, 2, ...: first the basins by their numbers, then what is made of two earlier ones."""

    basins: NDArray[np.int32]
    """(y, x): 0 belongs to none."""
    parts: Whole
    """(candidate, 2) numbers of the two that it is made of; 0 for a basin."""
    whole: Whole
    """(candidate,) number of the one that it is a part of; 0: none."""
    features: Real
    """(candidate, feature), see ``FEATURES``."""

    def __len__(self) -> int:
        return len(self.whole)

    def taken(self, gain: Real) -> NDArray[np.bool_]:
        """Return the candidates (candidate,) that do not overlap and whose gains have the largest sum.

        Those without a gain above 0 are not taken. Of equal sums the parts are taken, not the whole.
        """
        own, best = np.zeros(len(self), dtype=bool), [0.0] * (len(self) + 1)
        for index, ((one, other), value) in enumerate(zip(self.parts.tolist(), gain.tolist(), strict=True)):
            apart = best[one] + best[other]
            own[index] = value > apart
            best[index + 1] = value if own[index] else apart
        inside = np.zeros(len(self) + 1, dtype=bool)
        """Whether a candidate, by its number, is taken or lies in one that is."""
        for index in range(len(self) - 1, -1, -1):
            within = inside[self.whole[index]]
            inside[index + 1] = within or own[index]
            own[index] &= not within
        return own

    def painted(self, taken: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Return the numbers (y, x) of the taken candidates, and 0 elsewhere."""
        numbers = np.concatenate([[0], np.where(taken, np.arange(1, len(self) + 1), 0)]).astype(np.int32)
        for index in range(len(self), 0, -1):
            above = self.whole[index - 1]
            numbers[index] = numbers[index] or numbers[above]
        return numbers[self.basins]


def find_candidates(
    maps: NDArray[Any], height: NDArray[np.float32], basins: NDArray[np.int32], side: int
) -> Candidates:
    """Join basins to candidates and describe each.

    Parameters
    ----------
    maps
        (3, y, x): foreground, interior, distance, each about 0 to 1.
    height
        (y, x): what the basins were found on.
    basins
        (y, x): 0, or 1, 2, ..., without gaps.
    side
        Longest height or width of a candidate in pixels; a basin may be larger, but is not joined then.
    """
    count = int(basins.max(initial=0))
    meetings = tuple(find_meetings(maps, basins))
    touching = Touching.between(height, meetings, count)
    own = CandidateSums.of_basins(maps, height, basins, outlines_of(meetings, count))
    tree = CandidateTree.grown(own.box, own.highest[:, 0], touching, side)
    features = features_of(own.joined(tree, touching), tree)
    return Candidates(basins=basins, parts=tree.parts, whole=tree.whole, features=features)
