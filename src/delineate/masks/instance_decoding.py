"""From three maps to instances, by a rule that looks no farther than it says: the same instances in every tiling.

A watershed floods whole connected areas, so what one nucleus becomes can depend on where a tile ends. Here every
foreground pixel climbs to the highest of its neighbours, at most ``reach`` steps, on the interior times the root of the
distance: where a network doubts, both are low, and instances part there more often than on either map or their mean.
Summits that stand out are instances; from another one the climb goes on at the higher place that it leads to
(``masks.summits``), at most ``JUMPS`` times. So what a pixel becomes depends on the pixels around it alone. Pixels
that arrive nowhere join an instance beside them, if there is one at most ``grow`` pixels away.

The choice of summits can be left to a scorer that has learnt what instances look like (``masks.instance_candidates``):
then many stand out, and what is worth most together of them and their unions is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError, UsageError
from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.compiled import kernels
from delineate.masks.instance_candidates import Candidates, find_candidates
from delineate.masks.summits import KERNELS, leading_from

WORK_PER_PIXEL = 4
"""Of climbing, in voxels of the kernels that :data:`delineate.masks.compiled.LEAST_VOXELS` was measured on."""

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))
_BESIDE = tuple(
    pair
    for axis in (0, 1)
    for ahead, behind in [((slice(None),) * axis + (slice(1, None),), (slice(None),) * axis + (slice(None, -1),))]
    for pair in ((ahead, behind), (behind, ahead))
)
"""Index pairs of pixels that share an edge."""


RADIUS = 32
"""Pixels around a summit that are looked at for a higher one."""
JUMPS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoding:
    """How maps become instances; chosen on validation images.

    Raises
    ------
    UsageError
        If a share does not lie in [0, 1], or a length is below 1.
    """

    foreground: float = 0.5
    """Pixels of instances have this much of the first map."""
    prominence: float = 0.16
    """A summit is an instance if it stands as high above zero, and above every way to a higher one."""
    smooth: float = 1.0
    """Standard deviation, in pixels, of the Gaussian on the height."""
    reach: int = 48
    """Most steps of a pixel to its summit; pixels that need more belong to nothing."""
    grow: int = 8
    largest: int = 160
    """Instances whose height or width is larger, in pixels, are left out."""
    least_pixels: int = 8
    scorer: CandidateScorer | None = None
    """Says which summits, alone or joined, are instances; None: every one is. With it many may stand out."""

    def __post_init__(self) -> None:
        shares = (self.foreground, self.prominence)
        if any(not 0 <= value <= 1 for value in shares) or min(self.reach, self.largest, self.least_pixels) < 1:
            raise UsageError(f"Shares lie from 0 to 1, lengths begin at 1; got {self}.")

    @property
    def settings(self) -> dict[str, float]:
        """Thresholds and lengths by name, and the single numbers of a scorer, as a model's document tells them."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "scorer"}
        return plain if self.scorer is None else plain | self.scorer.settings

    @property
    def halo(self) -> int:
        """Pixels that a tile must see on every side, so that its own instances are whole."""
        # one pixel for the neighbour that is climbed to, two for what lies beside the largest candidate
        return self.largest + self.reach + (JUMPS + 1) * RADIUS + self.grow + round(4 * self.smooth) + 3


def decode_instances(maps: NDArray[Any], decoding: Decoding) -> NDArray[np.int32]:
    """Find the instances of a plane.

    Parameters
    ----------
    maps
        (3, y, x) float: foreground, interior, normalised distance, each about 0 to 1.
    decoding
        Thresholds and lengths.

    Returns
    -------
    (y, x) int32
        0 background, instances 1, 2, ... in the order of their first pixel.

    Raises
    ------
    GeometryError
        If there are not three maps of a plane.
    """
    return decode_scored(maps, decoding)[0]


def decode_scored(maps: NDArray[Any], decoding: Decoding) -> tuple[NDArray[np.int32], NDArray[np.float64] | None]:
    """Find the instances of a plane as :func:`decode_instances` does, and say how sure each is.

    Returns
    -------
    tuple
        (y, x) int32; and per instance 1, 2, ... the IoU with a true one that can be expected of it, 0 to 1, where one
        below 0.5 counts as 0. None without a scorer.

    Raises
    ------
    GeometryError
        If there are not three maps of a plane.
    """
    _require_maps(maps)
    if decoding.scorer is None:
        return _cleaned(_basins(maps, _height(maps, decoding), decoding), decoding)[0], None
    candidates = candidates_of(maps, decoding)
    worth = decoding.scorer.worth(candidates.features)
    found, owners = _cleaned(candidates.painted(candidates.taken(worth - decoding.scorer.least)), decoding)
    return found, decoding.scorer.confidence(worth[owners - 1])


def candidates_of(maps: NDArray[Any], decoding: Decoding) -> Candidates:
    """Return the candidates of a plane, among which :func:`decode_scored` chooses."""
    _require_maps(maps)
    height = _height(maps, decoding)
    return find_candidates(maps, height, _basins(maps, height, decoding), decoding.largest)


def _require_maps(maps: NDArray[Any]) -> None:
    if maps.ndim != 3 or len(maps) != 3:
        raise GeometryError(f"Three maps of a plane (3, y, x) are expected; got shape {maps.shape}.")


def _basins(maps: NDArray[Any], height: NDArray[np.float32], decoding: Decoding) -> NDArray[np.int32]:
    """Return the number of the summit that each foreground pixel belongs to; 0: none."""
    foreground = maps[0] >= decoding.foreground
    return _grown(_climbed(height, foreground, decoding), height, foreground, decoding.grow)


def _height(maps: NDArray[Any], decoding: Decoding) -> NDArray[np.float32]:
    distance = np.sqrt(np.maximum(maps[2], 0).astype(np.float32))
    values: NDArray[np.float32] = maps[1].astype(np.float32) * distance
    if decoding.smooth <= 0:
        return values
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(values, decoding.smooth, mode="nearest", truncate=4.0)
    return smooth


def _climbed(height: NDArray[np.float32], foreground: NDArray[np.bool_], decoding: Decoding) -> NDArray[np.int32]:
    """Return the number of the summit that each foreground pixel arrives at; 0: none."""
    ground = np.where(foreground, height, np.float32(-np.inf))
    target = _uphill(ground, foreground)
    inside = np.flatnonzero(foreground.ravel())
    summits = inside[target[inside] == inside]
    led = leading_from(ground, summits, decoding.prominence, RADIUS)
    stands = (led == summits) & (height.ravel()[summits] >= decoding.prominence)
    number = np.zeros(height.size, dtype=np.int32)
    number[summits[stands]] = np.arange(1, int(stands.sum()) + 1)
    leaps = np.zeros(height.size, dtype=bool)
    leaps[summits[led != summits]] = True
    target[summits] = led
    most = (decoding.reach + JUMPS + 1, JUMPS)
    compiled = kernels(KERNELS, WORK_PER_PIXEL * height.size)
    arrive = _arrivals if compiled is None else compiled.arrivals
    owner: NDArray[np.int32] = arrive(inside, target, number, leaps, *most)
    return owner.reshape(foreground.shape)


def _arrivals(
    starts: NDArray[np.int64],
    target: NDArray[np.int64],
    number: NDArray[np.int32],
    leaps: NDArray[np.bool_],
    most_steps: int,
    most_leaps: int,
) -> NDArray[np.int32]:
    """Return per pixel (flat) the number that the way from it arrives at; 0 beyond the steps or leaps."""
    owner = np.zeros(len(target), dtype=np.int32)
    steps, place, leapt = starts, starts, np.zeros(len(starts), dtype=np.int8)
    for _ in range(most_steps):
        owner[steps] = number[place]
        going = (number[place] == 0) & (target[place] != place) & ~(leaps[place] & (leapt == most_leaps))
        steps, place, leapt = steps[going], place[going], leapt[going]
        if not len(steps):
            break
        leapt = leapt + leaps[place]
        place = target[place]
    return owner


def _grown(
    owner: NDArray[np.int32], height: NDArray[np.float32], foreground: NDArray[np.bool_], rounds: int
) -> NDArray[np.int32]:
    """Let foreground pixels without an owner take that of their highest neighbour that has one, round by round."""
    padded, level = np.pad(owner, 1), np.pad(height, 1)
    for _ in range(rounds):
        y, x = np.nonzero(foreground & (padded[1:-1, 1:-1] == 0))
        best, taken = np.full(len(y), -np.inf, dtype=np.float32), np.zeros(len(y), dtype=np.int32)
        for dy, dx in _NEIGHBOURS:
            beside = padded[y + 1 + dy, x + 1 + dx]
            higher = (beside > 0) & (level[y + 1 + dy, x + 1 + dx] > best)
            best[higher], taken[higher] = level[y + 1 + dy, x + 1 + dx][higher], beside[higher]
        if not taken.any():
            break
        padded[y + 1, x + 1] = taken
    return np.ascontiguousarray(padded[1:-1, 1:-1])


def _uphill(ground: NDArray[np.float32], foreground: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the flat position of the highest neighbour of each foreground pixel, or its own on a summit.

    Among equal neighbours the one that comes first from the top left wins: the same wherever a tile begins.
    """
    compiled = kernels(KERNELS, WORK_PER_PIXEL * ground.size)
    if compiled is not None:
        found: NDArray[np.int64] = compiled.uphill(ground, foreground)
        return found
    columns = ground.shape[1]
    level = np.pad(ground, 1, constant_values=-np.inf).ravel()
    own = np.flatnonzero(foreground.ravel())
    padded = own + 2 * (own // columns) + columns + 3
    best, step = level[padded], np.zeros(len(own), dtype=np.int64)
    for dy, dx in _NEIGHBOURS:
        beside = level[padded + dy * (columns + 2) + dx]
        higher = beside > best
        best[higher], step[higher] = beside[higher], dy * columns + dx
    target = np.arange(ground.size)
    target[own] += step
    return target


def _cleaned(owner: NDArray[np.int32], decoding: Decoding) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Leave out what is too small or too large, fill holes of one instance, and number in the order of first pixels.

    Returns
    -------
    tuple
        (y, x) instances 1, 2, ...; and (instance,) the owner that each was.
    """
    boxes = ndimage.find_objects(owner)
    sizes = np.bincount(owner.ravel(), minlength=len(boxes) + 1)
    longest = [0, *(0 if box is None else max(part.stop - part.start for part in box) for box in boxes)]
    kept = (sizes >= decoding.least_pixels) & (np.array(longest) <= decoding.largest)
    kept[0] = False
    owner = _filled(np.where(kept[owner], owner, 0).astype(np.int32))
    first = first_places(owner, len(boxes))
    values = np.flatnonzero(first[1:] >= 0) + 1
    numbers = np.zeros(len(boxes) + 1, dtype=np.int32)
    owners = values[np.argsort(first[values])]
    numbers[owners] = np.arange(1, len(owners) + 1)
    return numbers[owner], owners


def first_places(labels: NDArray[np.int32], highest: int) -> NDArray[np.int64]:
    """Return, by number from 0 to the highest, the flat position of its first pixel; -1 for numbers that are absent."""
    places = np.full(highest + 1, -1, dtype=np.int64)
    places[labels.ravel()[::-1]] = np.arange(labels.size - 1, -1, -1)  # of equal numbers the last assignment stays
    return places


def _filled(owner: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give background that a single instance encloses to that instance; what the plane's border cuts stays open."""
    gaps, count = ndimage.label(owner == 0)
    if count < 2:
        return owner
    low, high = np.full(count + 1, np.iinfo(np.int32).max, dtype=np.int32), np.zeros(count + 1, dtype=np.int32)
    for here, there in _BESIDE:
        touches = (gaps[here] > 0) & (owner[there] > 0)
        np.minimum.at(low, gaps[here][touches], owner[there][touches])
        np.maximum.at(high, gaps[here][touches], owner[there][touches])
    for edge in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        low[edge] = 0
    enclosing = np.where(low == high, high, 0)
    enclosing[0] = 0
    filled: NDArray[np.int32] = owner + enclosing[gaps]
    return filled
