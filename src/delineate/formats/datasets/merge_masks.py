"""Binary masks of several structures become one label map; structures that lie inside each other become regions.

Whether structures lie inside each other is decided over all cases at once, from counts. Knows arrays and names; no
files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import LabelScheme, Structure
from delineate.errors import LabelError

STRAY_SHARE = 0.01
"""Largest share of a mask that may lie outside of the one around it, in any case: slips of the pencil at the edge. Such
voxels become part of the outer structure, and are told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskCounts:
    """Voxels of the masks of one case."""

    sizes: Mapping[str, int]
    shared: Mapping[frozenset[str], int]
    """Per pair of structures, voxels that both have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Merging:
    """How masks are put into one label map."""

    scheme: LabelScheme
    painting: tuple[tuple[str, int], ...]
    """Structure and value; a later one overwrites an earlier one."""
    strays: tuple[str, ...]
    """In words: voxels that lie outside of the structure around them."""


def binary_mask(values: NDArray[Any], name: str, value: int | None = None) -> NDArray[np.bool_]:
    """Return a mask ``(z, y, x)`` or ``(y, x)``: where ``values`` equal ``value``, or the ones of a binary file.

    Raises
    ------
    LabelError
        If no value is asked for and the file holds more than 0 and one other whole number above it.
    """
    if value is not None:
        return np.asarray(values == value)
    found = np.unique(values)
    foreground = found[found != 0]
    if len(foreground) > 1 or (len(foreground) == 1 and foreground[0] not in (1, 255)):
        shown = ", ".join(f"{v:g}" for v in found[:6]) + (", ..." if len(found) > 6 else "")
        raise LabelError(
            f"{name}: expected a binary mask of 0 and 1 (or 255); found {len(found)} values ({shown}). Name the value "
            "of the structure after a colon if it is a label map (--mask liver=dseg:3)."
        )
    return np.asarray(values != 0)


def count_masks(masks: Mapping[str, NDArray[np.bool_]]) -> MaskCounts:
    """Count the voxels of the masks ``(z, y, x)`` of one case, and those that pairs of them share."""
    return MaskCounts(
        sizes={name: int(mask.sum()) for name, mask in masks.items()},
        shared={frozenset((a, b)): int((masks[a] & masks[b]).sum()) for a, b in combinations(masks, 2)},
    )


def plan_merging(counts: Mapping[str, MaskCounts], names: Sequence[str], order: Sequence[str] = ()) -> Merging:
    """Decide the labels of all cases.

    Structures that never touch get a value each. A structure inside of another one makes that one a region: cord with
    grey matter inside becomes cord = {1, 2}, grey = {2}. With an order every structure gets one value, and a later
    structure takes the voxels of an earlier one.

    Parameters
    ----------
    counts
        Per case id.
    names
        Of the structures.
    order
        All names, the one that wins last; empty: none is declared.

    Raises
    ------
    LabelError
        If structures overlap and neither lies inside of the other (names pairs, cases and voxels), or the order does
        not name every structure once.
    """
    if order:
        if sorted(order) != sorted(names):
            raise LabelError(f"The order must name every structure once: {', '.join(names)}; got {', '.join(order)}.")
        return Merging(
            scheme=LabelScheme.simple(*order),
            painting=tuple((name, value) for value, name in enumerate(order, start=1)),
            strays=(),
        )
    inside: dict[str, set[str]] = {name: set() for name in names}
    faults, strays = [], []
    for a, b in combinations(names, 2):
        if all(case.shared[frozenset((a, b))] == 0 for case in counts.values()):
            continue
        nested = [(inner, outer) for inner, outer in ((a, b), (b, a)) if _lies_inside(inner, outer, counts)]
        if len(nested) == 1:
            inner, outer = nested[0]
            inside[outer].add(inner)
            strays += _strays(inner, outer, counts)
        else:
            faults.append(_conflict(a, b, counts, same=len(nested) == 2))
    if faults:
        raise LabelError("; ".join(faults) + ". Declare with --order which structure takes the voxels (the last one).")
    return _regions(names, inside, tuple(strays))


def merge_masks(masks: Mapping[str, NDArray[np.bool_]], merging: Merging) -> NDArray[np.uint8]:
    """Return the label map ``(z, y, x)`` of one case."""
    labels = np.zeros(next(iter(masks.values())).shape, dtype=np.uint8)
    for name, value in merging.painting:
        labels[masks[name]] = value
    return labels


def _lies_inside(inner: str, outer: str, counts: Mapping[str, MaskCounts]) -> bool:
    return all(_outside(inner, outer, case) <= STRAY_SHARE * case.sizes[inner] for case in counts.values())


def _outside(inner: str, outer: str, case: MaskCounts) -> int:
    return case.sizes[inner] - case.shared[frozenset((inner, outer))]


def _strays(inner: str, outer: str, counts: Mapping[str, MaskCounts]) -> list[str]:
    return [
        f"{case_id}: {outside} of {case.sizes[inner]} voxels of {inner} lie outside of {outer}; they now belong to both"
        for case_id, case in counts.items()
        if (outside := _outside(inner, outer, case))
    ]


def _conflict(a: str, b: str, counts: Mapping[str, MaskCounts], *, same: bool) -> str:
    if same:
        return f"{a} and {b} are the same voxels in every case; name the structure once"
    pair = frozenset((a, b))
    touched = {case_id: case for case_id, case in counts.items() if case.shared[pair]}
    worst = max(touched, key=lambda case_id: touched[case_id].shared[pair])
    case = touched[worst]
    return (
        f"{a} and {b} overlap in {len(touched)} of {len(counts)} cases and neither lies inside of the other; most in "
        f"{worst}: {case.shared[pair]} voxels of {case.sizes[a]} of {a} and {case.sizes[b]} of {b}"
    )


def _regions(names: Sequence[str], inside: Mapping[str, set[str]], strays: tuple[str, ...]) -> Merging:
    """Number the structures, outer ones first, so that painting in this order leaves the inner ones on top."""
    outermost_first = sorted(names, key=lambda name: (-len(_within(name, inside)), names.index(name)))
    value_of = {name: value for value, name in enumerate(outermost_first, start=1)}
    structures = tuple(
        Structure(name=name, values=tuple(sorted(value_of[n] for n in {name, *_within(name, inside)})))
        for name in outermost_first
    )
    nested = any(inside.values())
    scheme = LabelScheme(structures=structures, region_order=tuple(value_of.values()) if nested else None)
    return Merging(scheme=scheme, painting=tuple(value_of.items()), strays=strays)


def _within(name: str, inside: Mapping[str, set[str]]) -> set[str]:
    """Return everything inside of a structure, at any depth."""
    found: set[str] = set()
    waiting = [*inside[name]]
    while waiting:
        inner = waiting.pop()
        if inner not in found:
            found.add(inner)
            waiting += inside[inner]
    return found
