"""What is normal for a structure: its size, its pieces and its place, and how far a label map is from that.

Knows label arrays and grids; not where the label maps come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import InputError
from delineate.geometry.grid import Grid
from delineate.masks.components import label_components

DeviationKind = Literal["missing", "volume", "pieces", "side", "place"]

LEAST_LOG_VOLUME_STD = 0.05
"""Volumes of even the most constant structure vary by 5 %; a smaller spread is one of few cases."""
LEAST_SHARE_STD = 0.01
"""Spread of the largest piece's share where all training cases have one piece."""
LEAST_PLACE_STD_MM = 1.0
"""A centroid is not known better than this."""
CERTAIN_SIDE = 3.0
"""A structure lies on one side of the others if the mean offset is so many standard deviations from 0."""
LEAST_CASES = 5
"""Of fewer cases nothing is said."""
MISSING_Z = 10.0
"""What the absence of a structure that every training case has counts as, in standard deviations."""
SIDES = (("to the right of", "to the left of"), ("in front of", "behind"), ("below", "above"))
"""World axes x, y, z (LPS): where negative and where positive coordinates lie."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureShape:
    """Size, pieces and place of one structure in one label map."""

    name: str
    volume_mm3: float
    """Area in mm^2 for planes; 0 if the structure is absent, and then the rest says nothing."""
    pieces: int = 0
    largest_share: float = 1.0
    """Share of the volume that the largest piece has."""
    centroid_mm: tuple[float, ...] = ()
    """World position (x, y, z), LPS."""
    from_centre_mm: tuple[float, ...] = ()
    """Centroid relative to the centre of the image, world axes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Mean and standard deviation of a quantity over cases."""

    mean: float
    std: float

    def z(self, value: float) -> float:
        """Return how many standard deviations a value is above the mean."""
        return (value - self.mean) / self.std


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureNorm:
    """What training cases say about one structure."""

    name: str
    cases: int
    present: int
    """Number of cases that have it: the training examples."""
    log_volume: Spread | None
    """Natural logarithm of mm^3; None if fewer than :data:`LEAST_CASES` have it."""
    largest_share: Spread | None
    most_pieces: int
    offset_mm: tuple[Spread, ...]
    """Per world axis: centroid relative to the mean centroid of the structures that every case has; empty without."""
    place_mm: tuple[Spread, ...]
    """Per world axis: centroid relative to the centre of the image."""

    @property
    def always(self) -> bool:
        """Whether every training case has it."""
        return self.present == self.cases >= LEAST_CASES


@dataclass(frozen=True, kw_only=True, slots=True)
class Deviation:
    """How a structure differs from what training cases have."""

    kind: DeviationKind
    structure: str
    z: float
    """Size in standard deviations, at least 0."""
    text: str


def measure_shapes(
    labels: NDArray[Any], grid: Grid, structures: Sequence[tuple[str, tuple[int, ...]]]
) -> tuple[StructureShape, ...]:
    """Measure every structure of a label map.

    Parameters
    ----------
    labels
        (z, y, x) or (y, x), an integer dtype.
    grid
        Where the voxels lie.
    structures
        Name and label values of each structure.
    """
    boxes = ndimage.find_objects(labels)
    return tuple(_shape(labels, grid, name, values, boxes) for name, values in structures)


def _shape(
    labels: NDArray[Any], grid: Grid, name: str, values: tuple[int, ...], boxes: Sequence[Any]
) -> StructureShape:
    found = [boxes[v - 1] for v in values if 0 < v <= len(boxes) and boxes[v - 1] is not None]
    if not found:
        return StructureShape(name=name, volume_mm3=0.0)
    box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*found, strict=True))
    mask = np.isin(labels[box], values)
    _, sizes = label_components(mask)
    index = [float(np.mean(i)) + s.start for i, s in zip(np.nonzero(mask), box, strict=True)]
    middle = [(n - 1) / 2 for n in grid.shape]
    centroid, centre = ((grid.affine @ (*place, 1))[:-1] for place in (index, middle))
    return StructureShape(
        name=name,
        volume_mm3=float(sizes.sum() * grid.voxel_volume_mm3),
        pieces=len(sizes),
        largest_share=float(sizes.max() / sizes.sum()),
        centroid_mm=tuple(float(v) for v in centroid),
        from_centre_mm=tuple(float(v) for v in centroid - centre),
    )


def structure_norms(cases: Sequence[Sequence[StructureShape]]) -> tuple[StructureNorm, ...]:
    """Return what is normal, per structure.

    Parameters
    ----------
    cases
        The shapes of every case, the same structures in each.

    Raises
    ------
    InputError
        If there is no case or the structures differ.
    """
    if not cases or len({tuple(shape.name for shape in case) for case in cases}) != 1:
        raise InputError("What is normal needs at least one case, and the same structures in each.")
    names = [shape.name for shape in cases[0]]
    always = frozenset(
        name for i, name in enumerate(names) if len(cases) >= LEAST_CASES and all(case[i].volume_mm3 for case in cases)
    )
    anchors = [_anchor(case, always) for case in cases]
    return tuple(_norm(name, [case[i] for case in cases], anchors) for i, name in enumerate(names))


def _anchor(case: Sequence[StructureShape], always: frozenset[str]) -> NDArray[np.float64] | None:
    """Return the mean centroid (x, y, z) of the structures that every training case has; None if one is missing."""
    centroids = [shape.centroid_mm for shape in case if shape.name in always]
    if len(centroids) < 2 or any(not c for c in centroids):
        return None
    return np.asarray(np.mean(centroids, axis=0))


def _norm(name: str, shapes: Sequence[StructureShape], anchors: Sequence[NDArray[np.float64] | None]) -> StructureNorm:
    there = [(s, a) for s, a in zip(shapes, anchors, strict=True) if s.volume_mm3]
    enough = len(there) >= LEAST_CASES
    offsets = [np.asarray(s.centroid_mm) - a for s, a in there if a is not None]
    places = [np.asarray(s.from_centre_mm) for s, _ in there]
    return StructureNorm(
        name=name,
        cases=len(shapes),
        present=len(there),
        log_volume=_spread([math.log(s.volume_mm3) for s, _ in there], LEAST_LOG_VOLUME_STD) if enough else None,
        largest_share=_spread([s.largest_share for s, _ in there], LEAST_SHARE_STD) if enough else None,
        most_pieces=max((s.pieces for s, _ in there), default=0),
        offset_mm=_spreads(offsets) if len(offsets) >= LEAST_CASES else (),
        place_mm=_spreads(places) if enough else (),
    )


def _spreads(places: Sequence[NDArray[np.float64]]) -> tuple[Spread, ...]:
    return tuple(_spread(column, LEAST_PLACE_STD_MM) for column in np.transpose(places))


def _spread(values: Sequence[float] | NDArray[np.float64], least: float) -> Spread:
    return Spread(mean=float(np.mean(values)), std=max(float(np.std(values, ddof=1)), least))


def deviations(case: Sequence[StructureShape], norms: Sequence[StructureNorm]) -> tuple[Deviation, ...]:
    """Compare a label map with what is normal; every comparison is told, however small.

    Parameters
    ----------
    case
        The shapes of the structures of ``norms``, in the same order.
    norms
        What is normal.

    Returns
    -------
    tuple of Deviation
        The largest first.
    """
    anchor = _anchor(case, frozenset(norm.name for norm in norms if norm.always))
    found = [d for shape, norm in zip(case, norms, strict=True) for d in _deviations(shape, norm, anchor)]
    return tuple(sorted(found, key=lambda d: -d.z))


def _deviations(shape: StructureShape, norm: StructureNorm, anchor: NDArray[np.float64] | None) -> Iterator[Deviation]:
    if not shape.volume_mm3:
        if norm.always:
            text = f"{norm.name} is missing; all {norm.cases} training cases have it"
            yield Deviation(kind="missing", structure=norm.name, z=MISSING_Z, text=text)
        return
    if norm.log_volume is not None:
        z = norm.log_volume.z(math.log(shape.volume_mm3))
        where = "above" if z > 0 else "below"
        text = (
            f"{norm.name} volume {abs(z):.1f} standard deviations {where} the training's ({shape.volume_mm3:.4g} mm3)"
        )
        yield Deviation(kind="volume", structure=norm.name, z=abs(z), text=text)
    if norm.largest_share is not None:
        z = max(0.0, -norm.largest_share.z(shape.largest_share))
        text = (
            f"{norm.name} is in {shape.pieces} pieces, the largest {shape.largest_share:.0%} of it; in training "
            f"{norm.largest_share.mean:.0%}"
        )
        yield Deviation(kind="pieces", structure=norm.name, z=z, text=text)
    yield from _place_deviations(shape, norm, anchor)


def _place_deviations(
    shape: StructureShape, norm: StructureNorm, anchor: NDArray[np.float64] | None
) -> Iterator[Deviation]:
    if anchor is not None and norm.offset_mm:
        offset = np.asarray(shape.centroid_mm) - anchor
        for axis, (spread, value) in enumerate(zip(norm.offset_mm, offset, strict=True)):
            yield _offset_deviation(norm.name, axis, spread, float(value))
    if norm.place_mm and len(shape.from_centre_mm) == len(norm.place_mm):
        zs = [spread.z(v) for spread, v in zip(norm.place_mm, shape.from_centre_mm, strict=True)]
        axis = int(np.argmax(np.abs(zs)))
        text = (
            f"{norm.name} lies {abs(zs[axis]):.1f} standard deviations {_where(axis, zs[axis])} its usual place in "
            "the image"
        )
        yield Deviation(kind="place", structure=norm.name, z=abs(zs[axis]), text=text)


def _offset_deviation(name: str, axis: int, spread: Spread, value: float) -> Deviation:
    z = spread.z(value)
    reversed_side = abs(spread.mean) > CERTAIN_SIDE * spread.std and spread.mean * value < 0
    if reversed_side:
        text = (
            f"{name} lies on the wrong side: {_where(axis, value)} the other structures, in training "
            f"{_where(axis, spread.mean)} them"
        )
        return Deviation(kind="side", structure=name, z=abs(z), text=text)
    text = f"{name} lies {abs(z):.1f} standard deviations {_where(axis, z)} its usual place among the others"
    return Deviation(kind="place", structure=name, z=abs(z), text=text)


def _where(axis: int, value: float) -> str:
    return SIDES[axis][value > 0]
