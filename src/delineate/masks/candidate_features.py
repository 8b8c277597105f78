"""How candidates look: sums over their pixels and their outlines, and the passes in them and out of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.masks.basin_borders import Real, Touching, Whole
from delineate.masks.candidate_tree import CandidateTree

FEATURES = (
    "log of the area in pixels",
    "area over that of the ellipse with its second moments",
    "short over long axis of that ellipse",
    "pixel edges of the outline over the root of the area",
    "share of the outline that lies against background",
    "mean foreground",
    "mean interior",
    "mean distance",
    "standard deviation of the interior",
    "standard deviation of the foreground",
    "mean foreground within the outline",
    "mean interior within the outline",
    "mean foreground beyond the outline",
    "mean interior beyond the outline",
    "mean distance within the outline",
    "highest height",
    "highest interior",
    "highest distance",
    "how deep its last pass lies below the lower of the two summits",
    "how deep the deepest of its passes lies",
    "height of the highest pass out of it, 0 if there is none",
    "how deep that pass lies below its summit",
    "lower over higher summit of the last two parts",
    "basins",
)
"""Of a candidate, in this order. Distance is the network's map, height what is climbed on."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CandidateSums:
    """What is added up over the pixels of candidates; row 0 is of nothing."""

    moments: Whole
    """(candidate, 6): pixels, and sums of y, x, y², x², y x: whole numbers, which nothing is lost of."""
    values: Real
    """(candidate, 5): sums of foreground, interior, distance, and of the squares of interior and foreground."""
    outline: Real
    """(candidate, 7) over pixel edges of the outline: their number, those against background; sums of foreground and
    interior within, of foreground and interior beyond, of distance within."""
    highest: Real
    """(candidate, 3): height, interior, distance."""
    box: Whole
    """(candidate, 4): first row and column, and those behind the last."""

    @classmethod
    def of_basins(
        cls, maps: NDArray[Any], height: NDArray[np.float32], basins: NDArray[np.int32], outline: Real
    ) -> CandidateSums:
        """Add up maps (3, y, x) and a height (y, x) over basins (y, x) whose outlines' sums are known."""
        count = len(outline) - 1
        y, x = np.nonzero(basins)
        owner = basins[y, x]

        def added(values: NDArray[Any]) -> Real:
            return np.bincount(owner, weights=values, minlength=count + 1).astype(np.float64)

        foreground, interior, distance = (plane[y, x].astype(np.float64) for plane in maps)
        highest = np.zeros((count + 1, 3))
        for column, values in enumerate((height[y, x], interior, distance)):
            np.maximum.at(highest[:, column], owner, values)
        box = np.zeros((count + 1, 4), dtype=np.int64)
        for number, (rows, columns) in enumerate(ndimage.find_objects(basins), start=1):
            box[number] = rows.start, columns.start, rows.stop, columns.stop
        return cls(
            moments=np.stack([np.rint(added(v)).astype(np.int64) for v in (y >= 0, y, x, y * y, x * x, y * x)], axis=1),
            values=np.stack([added(v) for v in (foreground, interior, distance, interior**2, foreground**2)], axis=1),
            outline=outline,
            highest=highest,
            box=box,
        )

    def joined(self, tree: CandidateTree, touching: Touching) -> CandidateSums:
        """Return the sums of all candidates."""
        more, parts = len(tree.parts) + 1 - len(self.moments), tree.parts
        moments, values, outline, highest = (
            np.concatenate([rows, np.zeros((more, rows.shape[1]), dtype=rows.dtype)])
            for rows in (self.moments, self.values, self.outline, self.highest)
        )
        inner = touching.inner(tree.whole)
        for number in range(len(self.moments), len(parts) + 1):
            one, other = parts[number - 1]
            moments[number] = moments[one] + moments[other]
            values[number] = values[one] + values[other]
            outline[number] = outline[one] + outline[other] - inner[number]
            highest[number] = np.maximum(highest[one], highest[other])
        return CandidateSums(moments=moments, values=values, outline=outline, highest=highest, box=tree.box)


def _second_moments(moments: Whole) -> tuple[Real, Real, Real]:
    """Return the variances along y and x, and the covariance, of pixels: squares with a side of 1.

    Whole numbers are moved to a whole centre first, so the corner of the tile changes nothing, not even by rounding.
    """
    pixels, y, x, yy, xx, yx = moments.T
    middle_y, middle_x = y // pixels, x // pixels
    left_y, left_x = (y - pixels * middle_y) / pixels, (x - pixels * middle_x) / pixels
    down = (yy - 2 * middle_y * y + pixels * middle_y**2) / pixels - left_y**2 + 1 / 12
    across = (xx - 2 * middle_x * x + pixels * middle_x**2) / pixels - left_x**2 + 1 / 12
    mixed = (yx - middle_y * x - middle_x * y + pixels * middle_y * middle_x) / pixels - left_y * left_x
    return down, across, mixed


def features_of(sums: CandidateSums, tree: CandidateTree) -> Real:
    """Return (candidate, feature), see ``FEATURES``."""
    down, across, mixed = _second_moments(sums.moments[1:])
    area = sums.moments[1:, 0].astype(np.float64)
    mean, product = (down + across) / 2, np.maximum(down * across - mixed**2, 1e-6)
    spread = np.sqrt(np.maximum(mean**2 - product, 0))
    foreground, interior, distance, interior_squares, foreground_squares = sums.values[1:].T / area
    edges, *along = sums.outline[1:].T
    edges = np.maximum(edges, 1)
    bare, *rim = (values / edges for values in along)
    top, highest_interior, highest_distance = sums.highest[1:].T
    return np.stack(
        [
            np.log(area),
            area / (4 * np.pi * np.sqrt(product)),
            np.sqrt((mean - spread) / (mean + spread)),
            edges / np.sqrt(area),
            bare,
            foreground,
            interior,
            distance,
            np.sqrt(np.maximum(interior_squares - interior**2, 0)),
            np.sqrt(np.maximum(foreground_squares - foreground**2, 0)),
            *rim,
            top,
            highest_interior,
            highest_distance,
            tree.last,
            tree.deepest,
            tree.out,
            top - tree.out,
            tree.evenness,
            tree.basins.astype(np.float64),
        ],
        axis=1,
    )
