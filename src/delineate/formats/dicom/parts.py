"""The parts of a series: planes of one size, spacing, orientation and stack; and the volumes of a 4-D series.

A series is split by what its headers say, never by the order of its files, and a 4-D series only by an attribute that
gives complete volumes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from delineate.formats.dicom.files import raw_pixels
from delineate.formats.dicom.planes import Plane
from delineate.formats.dicom.series_report import Finding, finding

SAME_PLACE_MM = 1e-3
"""Planes nearer than this lie at one place."""
SAME_DIRECTION = 1e-4
"""Largest difference of direction cosines of planes of one stack; headers round them."""
SAME_SPACING = 1e-4
"""Largest difference of pixel spacings of one stack, as a share."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """Planes that may make one volume."""

    name: str
    """Empty for the only part of a series."""
    planes: tuple[Plane, ...]
    findings: tuple[Finding, ...]


def parts_of(planes: Sequence[Plane]) -> list[Part]:
    """Return the parts of the planes of one series; all of them say where they lie."""
    groups = _groups(planes)
    named = _named(groups)
    found: list[Part] = []
    for (name, notes), group in zip(named, groups, strict=True):
        found += [
            Part(name=", ".join(filter(None, (name, inner))), planes=tuple(members), findings=(*notes, *told))
            for inner, members, told in _volumes(group)
        ]
    return found


def heights_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Return how far along the normal of the first plane each plane lies, in mm."""
    positions = np.array([plane.placement.position_mm for plane in planes])
    heights: NDArray[np.float64] = positions @ planes[0].placement.normal
    return heights


def _groups(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Return planes of one size, spacing, orientation, frame of reference and stack together."""
    groups: list[list[Plane]] = []
    for plane in planes:
        home = next((group for group in groups if _alike(group[0], plane)), None)
        if home is None:
            groups.append([plane])
        else:
            home.append(plane)
    return groups


def _alike(one: Plane, other: Plane) -> bool:
    return not any(differ(one, other) for _, differ, _ in _CRITERIA)


def _frames_differ(one: Plane, other: Plane) -> bool:
    return one.text("FrameOfReferenceUID") != other.text("FrameOfReferenceUID")


def _stacks_differ(one: Plane, other: Plane) -> bool:
    return one.stack != other.stack


def _sizes_differ(one: Plane, other: Plane) -> bool:
    return (one.rows, one.columns) != (other.rows, other.columns)


def _spacings_differ(one: Plane, other: Plane) -> bool:
    pairs = zip(one.placement.spacing_mm, other.placement.spacing_mm, strict=True)
    return any(abs(a - b) > SAME_SPACING * a for a, b in pairs)


def _orientations_differ(one: Plane, other: Plane) -> bool:
    return any(
        abs(a - b) > SAME_DIRECTION
        for mine, yours in (
            (one.placement.row_axis, other.placement.row_axis),
            (one.placement.column_axis, other.placement.column_axis),
        )
        for a, b in zip(mine, yours, strict=True)
    )


def _view(plane: Plane) -> str:
    return ("sagittal", "coronal", "axial")[int(np.argmax(np.abs(plane.placement.normal)))]


def _spacing_words(plane: Plane) -> str:
    return "spacing " + " x ".join(f"{value:g}" for value in plane.placement.spacing_mm)


_CRITERIA: tuple[tuple[str, Callable[[Plane, Plane], bool], Callable[[Plane], str]], ...] = (
    ("FRAME_OF_REFERENCE", _frames_differ, lambda _plane: "frame of reference"),
    ("STACKS", _stacks_differ, lambda plane: f"stack {plane.stack}"),
    ("SIZE", _sizes_differ, lambda plane: f"{plane.rows} x {plane.columns} pixels"),
    ("SPACING", _spacings_differ, _spacing_words),
    ("ORIENTATION", _orientations_differ, _view),
)
"""What parts groups of planes: code, whether two planes differ in it, and its words."""


def _named(groups: Sequence[Sequence[Plane]]) -> list[tuple[str, list[Finding]]]:
    """Return name and notes of every group; both empty if there is only one."""
    firsts = [group[0] for group in groups]
    differing = [
        (code, words)
        for code, differ, words in _CRITERIA
        if any(differ(one, other) for one, other in combinations(firsts, 2))
    ]
    files = [first.file for first in firsts]
    notes = [
        finding(
            f"MIXED_{code}",
            "note",
            f"the series holds {len(groups)} parts that differ in {code.lower().replace('_', ' ')}; "
            "each is a volume of its own, to be read by its name",
            files,
        )
        for code, _ in differing
    ]
    names = [", ".join(words(first) for _, words in differing) for first in firsts]
    again: Counter[str] = Counter()
    for position, name in enumerate(names):
        again[name] += 1
        if names.count(name) > 1 and name:
            names[position] = f"{name} #{again[name]}"
    return [(name, notes) for name in names]


def _volumes(planes: Sequence[Plane]) -> Iterator[tuple[str, list[Plane], list[Finding]]]:
    """Yield name, planes and findings of each volume of planes that are alike."""
    kept, notes = _without_copies(planes)
    places = _places(kept)
    if max(Counter(places).values()) == 1:
        yield "", kept, notes
        return
    split = _best_split(kept, places)
    if split is None:
        yield "", kept, notes
        return
    for name, members in split.items():
        lacking = len(set(places)) - len(members)
        told = list(notes)
        if lacking:
            words = (
                f"{lacking} of the {len(set(places))} places of the other volumes are missing; copy the whole series"
            )
            told.append(finding("INCOMPLETE_PART", "refused", words, [kept[i].file for i in members]))
        yield name, [kept[i] for i in members], told


def _best_split(planes: Sequence[Plane], places: Sequence[int]) -> dict[str, list[int]] | None:
    """Return the split whose volumes all cover every place; else one whose volumes cover none twice and some all."""
    names = [n for n in dict.fromkeys(n for p in planes for n in p.parts) if len({p.parts.get(n) for p in planes}) > 1]
    ways = [*((name,) for name in names), *combinations(names, 2)]
    count = len(set(places))
    partly = None
    for way in ways:
        split = _split(planes, way)
        covered = [[places[i] for i in members] for members in split.values()]
        if any(len(set(cover)) < len(cover) for cover in covered):
            continue
        if all(len(cover) == count for cover in covered):
            return split
        if partly is None and sum(len(cover) == count for cover in covered) * 2 >= len(covered):
            partly = split
    return partly


def _split(planes: Sequence[Plane], names: Sequence[str]) -> dict[str, list[int]]:
    values = [tuple(plane.parts.get(name, "") for name in names) for plane in planes]
    split: dict[str, list[int]] = {}
    for value in sorted(set(values), key=lambda parts: [_as_number(part) for part in parts]):
        words = ", ".join(f"{name} {part or 'not given'}" for name, part in zip(names, value, strict=True))
        split[words] = [i for i, own in enumerate(values) if own == value]
    return split


def _places(planes: Sequence[Plane]) -> list[int]:
    """Return the number of the place along the normal of every plane."""
    heights = heights_of(planes)
    order = np.argsort(heights, kind="stable")
    numbers = np.zeros(len(planes), dtype=np.int64)
    numbers[order] = np.cumsum(np.diff(heights[order], prepend=heights[order[0]]) > SAME_PLACE_MM)
    return [int(number) for number in numbers]


def _without_copies(planes: Sequence[Plane]) -> tuple[list[Plane], list[Finding]]:
    """Leave out planes that equal another one in place, in all that tells volumes apart, and in pixels."""
    alike: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, (plane, place) in enumerate(zip(planes, _places(planes), strict=True)):
        if plane.frame is None:
            alike[(place, *sorted(plane.parts.items()), plane.slope, plane.intercept)].append(index)
    copies: set[int] = set()
    for members in alike.values():
        seen: set[str] = set()
        for index in members if len(members) > 1 else ():
            digest = hashlib.sha256(raw_pixels(planes[index].dataset)).hexdigest()
            if digest in seen:
                copies.add(index)
            seen.add(digest)
    if not copies:
        return list(planes), []
    words = f"{len(copies)} planes equal another one at the same place, pixel for pixel, and were left out"
    told = finding("DUPLICATE_PLANES", "repaired", words, [planes[index].file for index in sorted(copies)])
    return [plane for index, plane in enumerate(planes) if index not in copies], [told]


def _as_number(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return float("inf"), text
