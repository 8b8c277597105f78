"""Whether a label map looks like a human body: sides, order, pieces, and labels that are known to be mixed up.

Nothing is corrected; every finding names the structures and the numbers. What is expected of which structure is passed
in (:class:`Expectations`); this module knows no structure's name and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.geometry.grid import Grid
from delineate.masks.components import label_components

Kind = Literal["sides", "mirrored", "order", "gap", "pieces", "uncounted", "shared level", "exchanged"]

LEAST_PIECE_MM3 = 200.0
"""Smaller pieces are specks; TotalSegmentator's own removal of small blobs ends at the same volume."""
MOST_PIECES = 32
"""Pieces of a structure that are looked at; a useless label map may have thousands."""
LARGE_PIECE_SHARE = 0.05
"""Share of the largest piece from which a second one is worth telling."""
EXTRA_BONE_SHARE = 0.2
"""Share of the largest piece from which a second one is a bone of its own: a thirteenth rib is short."""
SURROUNDED_SHARE = 0.5
"""Share of a piece's outer shell that lies in one other structure, from which the piece probably belongs to it."""
LEAST_PAIRS = 2
"""Fewest swapped pairs, if they are also most of the compared ones, that make an image mirrored as a whole."""
X, Z = 0, 2
"""Places of left-right and of feet-head in a world position (LPS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two structures of which one lies further left in the patient."""

    left: str
    right: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Chain:
    """Structures that lie above each other, the lowest first."""

    name: str
    structures: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    """Members whose absence between two others is nothing unusual."""
    whole_only: bool = False
    """Compare only members that do not reach the border of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """Two structures, one of which may hold a piece of the other."""

    first: str
    second: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectations:
    """All that is expected of a label map."""

    pairs: tuple[Pair, ...] = ()
    chains: tuple[Chain, ...] = ()
    whole: tuple[str, ...] = ()
    """Structures that are one connected piece."""
    once: tuple[str, ...] = ()
    """Bones of which a second large piece is one that was not counted (the thirteenth rib)."""
    levels: tuple[Neighbours, ...] = ()
    """Neighbouring levels of the spine."""
    exchanged: tuple[Neighbours, ...] = ()
    """Structures that a model takes for each other in places."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Implausibility:
    """Something that is not as expected."""

    kind: Kind
    structures: tuple[str, ...]
    text: str
    """One sentence for the person who looks at the result."""
    numbers: Mapping[str, float]
    """What was measured; lengths in mm, volumes in mm3."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """One connected piece of a structure."""

    volume_mm3: float
    centroid_mm: tuple[float, ...]
    """World position (x, y, z), LPS."""
    shell: Mapping[int, float] = field(default_factory=dict)
    """Label value -> share of the voxels next to the piece; 0 is background. Of the largest piece it is not taken."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """The pieces of a structure worth counting, the largest first."""

    volume_mm3: float
    at_border: bool
    pieces: tuple[Piece, ...]

    @property
    def centroid_mm(self) -> tuple[float, ...]:
        """Of the largest piece."""
        return self.pieces[0].centroid_mm


def implausibilities(
    labels: NDArray[Any], grid: Grid, names: Mapping[int, str], expected: Expectations
) -> tuple[Implausibility, ...]:
    """Compare a label map with what is expected of it.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype; 0 is background.
    grid
        Where the voxels lie (LPS mm).
    names
        Label value -> structure; values without a name are not looked at.
    expected
        The expectations.

    Returns
    -------
    tuple of Implausibility
        Empty if nothing is unusual.
    """
    shapes = measure_shapes(labels, grid, tuple(names))
    named = {names[value]: shape for value, shape in shapes.items()}
    values = {name: value for value, name in names.items()}
    return (
        *side_findings(named, expected.pairs),
        *(finding for chain in expected.chains for finding in chain_findings(named, chain)),
        *piece_findings(named, expected.whole),
        *uncounted_findings(named, expected.once),
        *level_findings(named, values, expected.levels),
        *exchange_findings(named, values, expected.exchanged),
    )


def measure_shapes(labels: NDArray[Any], grid: Grid, values: Sequence[int]) -> dict[int, Shape]:
    """Return the shapes of the label values that are present.

    Parameters
    ----------
    labels
        (z, y, x), an integer dtype.
    grid
        Where the voxels lie.
    values
        Label values to look at.
    """
    boxes = ndimage.find_objects(labels)
    found = {}
    for value in values:
        box = boxes[value - 1] if 0 < value <= len(boxes) else None
        if box is not None:
            found[value] = _shape(labels, grid, value, box)
    return found


def _shape(labels: NDArray[Any], grid: Grid, value: int, box: tuple[slice, ...]) -> Shape:
    wide = _widened(box, labels.shape)
    part = labels[wide]
    numbered, sizes = label_components(part == value)
    boxes = ndimage.find_objects(numbered)
    order = np.argsort(-sizes, kind="stable")[:MOST_PIECES]
    kept = [int(i) for n, i in enumerate(order) if n == 0 or sizes[i] * grid.voxel_volume_mm3 >= LEAST_PIECE_MM3]
    starts = tuple(s.start for s in wide)
    pieces = []
    for rank, i in enumerate(kept):
        near = _widened(boxes[i], part.shape)
        place = tuple(start + s.start for start, s in zip(starts, near, strict=True))
        pieces.append(_piece(part[near], numbered[near] == i + 1, grid, place, main=rank == 0))
    at_border = any(s.start == 0 or s.stop == n for s, n in zip(box, labels.shape, strict=True))
    volume = float(sizes.sum() * grid.voxel_volume_mm3)
    return Shape(volume_mm3=volume, at_border=at_border, pieces=tuple(pieces))


def _widened(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(max(0, s.start - 1), min(n, s.stop + 1)) for s, n in zip(box, shape, strict=True))


def _piece(part: NDArray[Any], mask: NDArray[np.bool_], grid: Grid, place: tuple[int, ...], *, main: bool) -> Piece:
    """Measure a piece; ``part`` are the labels around it, ``place`` is the index of the part's first voxel."""
    index = [float(np.mean(i)) + start for i, start in zip(np.nonzero(mask), place, strict=True)]
    shell: dict[int, float] = {}
    if not main:
        around = part[ndimage.binary_dilation(mask) & ~mask]
        values, counts = np.unique(around, return_counts=True)
        shell = {int(v): float(c / around.size) for v, c in zip(values, counts, strict=True)}
    return Piece(
        volume_mm3=float(mask.sum() * grid.voxel_volume_mm3),
        centroid_mm=tuple(float(v) for v in (grid.affine @ (*index, 1))[:-1]),
        shell=shell,
    )


def side_findings(shapes: Mapping[str, Shape], pairs: Sequence[Pair]) -> Iterator[Implausibility]:
    """Find pairs whose left member does not lie left of the right one; in LPS, left has the larger x."""
    compared = [pair for pair in pairs if pair.left in shapes and pair.right in shapes]
    distances = {p: shapes[p.left].centroid_mm[X] - shapes[p.right].centroid_mm[X] for p in compared}
    swapped = [pair for pair in compared if distances[pair] <= 0]
    for pair in swapped:
        yield Implausibility(
            kind="sides",
            structures=(pair.left, pair.right),
            text=f"{pair.left} should lie left of {pair.right}, but lies {abs(distances[pair]):.0f} mm right of it.",
            numbers={"left_of_mm": distances[pair]},
        )
    if len(swapped) >= LEAST_PAIRS and 2 * len(swapped) > len(compared):
        yield Implausibility(
            kind="mirrored",
            structures=(),
            text=f"{len(swapped)} of {len(compared)} pairs are on the wrong sides: left and right of the image may be "
            "exchanged (a wrong orientation in the header, or situs inversus).",
            numbers={"swapped": len(swapped), "compared": len(compared)},
        )


def chain_findings(shapes: Mapping[str, Shape], chain: Chain) -> Iterator[Implausibility]:
    """Find neighbours of a chain that are stacked the wrong way round, and members missing between two others."""
    present = [n for n in chain.structures if n in shapes and not (chain.whole_only and shapes[n].at_border)]
    for lower, upper in pairwise(present):
        rise = shapes[upper].centroid_mm[Z] - shapes[lower].centroid_mm[Z]
        if rise <= 0:
            yield Implausibility(
                kind="order",
                structures=(lower, upper),
                text=f"{chain.name}: {upper} should lie above {lower}, but lies {abs(rise):.0f} mm below it.",
                numbers={"above_mm": rise},
            )
    places = [i for i, name in enumerate(chain.structures) if name in shapes]
    between = chain.structures[places[0] : places[-1]] if places else ()
    missing = tuple(name for name in between if name not in shapes and name not in chain.optional)
    if missing:
        yield Implausibility(
            kind="gap",
            structures=missing,
            text=f"{chain.name}: {', '.join(missing)} missing between {chain.structures[places[0]]} and "
            f"{chain.structures[places[-1]]}.",
            numbers={"missing": len(missing)},
        )


def piece_findings(shapes: Mapping[str, Shape], whole: Sequence[str]) -> Iterator[Implausibility]:
    """Find structures in several large pieces; those cut by the border of the image may be so."""
    for name in whole:
        shape = shapes.get(name)
        if shape is None or shape.at_border:
            continue
        large = _large(shape, LARGE_PIECE_SHARE)
        if large:
            yield Implausibility(
                kind="pieces",
                structures=(name,),
                text=f"{name} should be one piece, but has {len(large) + 1}; the second has "
                f"{large[0].volume_mm3 / 1000:.1f} ml.",
                numbers={"pieces": len(large) + 1, "second_mm3": large[0].volume_mm3},
            )


def uncounted_findings(shapes: Mapping[str, Shape], once: Sequence[str]) -> Iterator[Implausibility]:
    """Find bones whose label holds a second bone."""
    for name in once:
        shape = shapes.get(name)
        extra = _large(shape, EXTRA_BONE_SHARE) if shape is not None and not shape.at_border else ()
        if extra:
            yield Implausibility(
                kind="uncounted",
                structures=(name,),
                text=f"{name} is two bones, the second of {extra[0].volume_mm3 / 1000:.1f} ml: there may be one more "
                "than the model counts.",
                numbers={"bones": len(extra) + 1, "second_mm3": extra[0].volume_mm3},
            )


def level_findings(
    shapes: Mapping[str, Shape], values: Mapping[str, int], levels: Sequence[Neighbours]
) -> Iterator[Implausibility]:
    """Find pieces that carry one level's label, but touch and lie nearer to the neighbouring level.

    Levels cut by the border of the image are left out: a cut separates the parts of a vertebra.
    """
    inner = {name: shape for name, shape in shapes.items() if not shape.at_border}
    for owner, other in _both_ways(levels, inner):
        strays = [
            piece
            for piece in _large(shapes[owner], LARGE_PIECE_SHARE)
            if piece.shell.get(values[other], 0) > 0 and _nearer(piece, shapes[other], shapes[owner])
        ]
        if strays:
            yield Implausibility(
                kind="shared level",
                structures=(owner, other),
                text=f"A piece of {strays[0].volume_mm3 / 1000:.1f} ml labelled {owner} belongs to {other}: one "
                "vertebra carries two numbers.",
                numbers={"volume_mm3": sum(piece.volume_mm3 for piece in strays)},
            )


def exchange_findings(
    shapes: Mapping[str, Shape], values: Mapping[str, int], exchanged: Sequence[Neighbours]
) -> Iterator[Implausibility]:
    """Find pieces of one structure that lie in the middle of another with which it is known to be confused."""
    for owner, other in _both_ways(exchanged, shapes):
        inside = [piece for piece in shapes[owner].pieces[1:] if piece.shell.get(values[other], 0) >= SURROUNDED_SHARE]
        if inside:
            yield Implausibility(
                kind="exchanged",
                structures=(owner, other),
                text=f"{len(inside)} pieces of {owner} lie within {other}: the two may be exchanged there.",
                numbers={"pieces": len(inside), "volume_mm3": sum(piece.volume_mm3 for piece in inside)},
            )


def _large(shape: Shape, share: float) -> tuple[Piece, ...]:
    return tuple(piece for piece in shape.pieces[1:] if piece.volume_mm3 >= share * shape.pieces[0].volume_mm3)


def _both_ways(neighbours: Sequence[Neighbours], shapes: Mapping[str, Shape]) -> Iterator[tuple[str, str]]:
    for one in neighbours:
        if one.first in shapes and one.second in shapes:
            yield one.first, one.second
            yield one.second, one.first


def _nearer(piece: Piece, other: Shape, owner: Shape) -> bool:
    return float(np.linalg.norm(np.subtract(piece.centroid_mm, other.centroid_mm))) < float(
        np.linalg.norm(np.subtract(piece.centroid_mm, owner.centroid_mm))
    )
