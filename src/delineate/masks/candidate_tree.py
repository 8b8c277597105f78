"""Which basins may belong together: those that hold together above some height, up to a size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.masks.basin_borders import Real, Touching, Whole

MOST_BASINS = 12
"""That a candidate is made of."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CandidateTree:
    """Which candidates are made of which, and by what passes."""

    parts: Whole
    """(candidate, 2) numbers of the two that it is made of; 0 for a basin."""
    whole: Whole
    """(candidate,) number of the one that it is a part of; 0: none."""
    box: Whole
    """(candidate + 1, 4); row 0 is of nothing."""
    basins: Whole
    """(candidate,) how many it is made of."""
    last: Real
    """(candidate,) how deep the pass between its two parts lies below the lower summit; 0 for a basin."""
    deepest: Real
    """(candidate,) the largest of these within it."""
    out: Real
    """(candidate,) height of the highest pass out of it; 0: none."""
    evenness: Real
    """(candidate,) lower over higher summit of its two parts; 1 for a basin."""

    @classmethod
    def grown(cls, boxes: Whole, summits: Real, touching: Touching, side: int) -> CandidateTree:
        """Join basins, the highest pass first; what would be too large is no candidate, nor is what it is part of.

        Parameters
        ----------
        boxes
            (basin + 1, 4): first row and column of each, and those behind the last; row 0 is of nothing.
        summits
            (basin + 1,) height of each.
        touching
            Passes between them.
        side
            Longest height or width of what is joined, in pixels.
        """
        count = len(boxes) - 1
        parts, whole, size = [(0, 0)] * (count + 1), [0] * (count + 1), [0] + [1] * count
        last, deepest, out, even = ([value] * (count + 1) for value in (0.0, 0.0, 0.0, 1.0))
        box, top = boxes.tolist(), summits.tolist()
        group, candidate = list(range(count + 1)), list(range(count + 1))
        for (low, high), height in zip(touching.pairs.tolist(), touching.passes.tolist(), strict=True):
            first, second = _root(group, low), _root(group, high)
            if first == second:
                continue
            one, other = candidate[first], candidate[second]
            group[second], candidate[first] = first, 0
            for number in (one, other):
                if number and not out[number]:
                    out[number] = height
            if not one or not other or size[one] + size[other] > MOST_BASINS:
                continue
            joined = [*map(min, box[one][:2], box[other][:2]), *map(max, box[one][2:], box[other][2:])]
            if max(joined[2] - joined[0], joined[3] - joined[1]) > side:
                continue
            whole[one] = whole[other] = candidate[first] = len(parts)
            lower, higher = sorted((top[one], top[other]))
            parts.append((one, other))
            whole.append(0)
            box.append(joined)
            size.append(size[one] + size[other])
            last.append(lower - height)
            deepest.append(max(lower - height, deepest[one], deepest[other]))
            out.append(0.0)
            even.append(lower / max(higher, 1e-6))
            top.append(higher)
        return cls(
            parts=np.array(parts, dtype=np.int64)[1:],
            whole=np.array(whole, dtype=np.int64)[1:],
            box=np.array(box, dtype=np.int64),
            basins=np.array(size, dtype=np.int64)[1:],
            last=np.array(last)[1:],
            deepest=np.array(deepest)[1:],
            out=np.array(out)[1:],
            evenness=np.array(even)[1:],
        )


def _root(group: list[int], number: int) -> int:
    while group[number] != number:
        group[number] = group[group[number]]
        number = group[number]
    return number
