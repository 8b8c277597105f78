"""Groups of cases from numbers: bands of a column such as the age, and the size of a structure.

Knows cases and words; reads no table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from delineate.errors import UsageError
from delineate.metrics.cohort import CaseRows

MOST_VALUES = 6
"""A column of numbers with more different ones than this is cut into bands; with fewer each is a group."""
MOST_GROUPS = 40
"""A column with more groups than this names cases, not groups."""
QUARTERS = (0.25, 0.5, 0.75)
THIRDS = (1 / 3, 2 / 3)
NOT_THERE = "not in the reference"
"""Group of the cases whose reference does not have the structure, where its size is asked for."""
SIZE = "size"
"""The column that needs no table."""


def groups_of(column: Mapping[str, str], name: str, *, width: float | None = None) -> tuple[dict[str, str], str | None]:
    """Return case -> group, and in words how numbers were cut, None if the values themselves are the groups.

    Parameters
    ----------
    column
        Case id -> text, for the cases that have it.
    name
        Of the column, for the words.
    width
        Cut numbers into bands of this width, from multiples of it; None: quarters of the cases, if there are more than
        :data:`MOST_VALUES` different numbers.

    Raises
    ------
    UsageError
        If bands are wanted and there is text, or there are more than :data:`MOST_GROUPS` groups.
    """
    numbers = {case: number for case, text in column.items() if (number := _number(text)) is not None}
    if width is not None:
        found, words = _bands(column, numbers, name, width), f"{name} in bands of {width:g}"
    elif len(numbers) == len(column) and len(set(numbers.values())) > MOST_VALUES:
        cuts = [float(cut) for cut in np.quantile(list(numbers.values()), QUARTERS)]
        found, words = _cut(numbers, cuts), f"{name} cut at the quarters of the cases, {_listed(cuts)}"
    else:
        found, words = dict(column), None
    if len(set(found.values())) > MOST_GROUPS:
        raise UsageError(
            f"Column '{name}' has {len(set(found.values()))} different values, which are no groups. Name another "
            f"column, or a width for numbers (--by {name}:10)."
        )
    return found, words


def size_groups(cases: Sequence[CaseRows], structure: int) -> dict[str, str]:
    """Return case -> third by the reference's volume of one structure: ``small``, ``medium`` or ``large``.

    Parameters
    ----------
    cases
        All cases; those whose reference does not have the structure are a group of their own.
    structure
        Its place in the rows.
    """
    volumes = {case.case_id: case.rows[structure].reference_ml for case in cases}
    there = {case: volume for case, volume in volumes.items() if volume > 0}
    groups = dict.fromkeys((case for case in volumes if case not in there), NOT_THERE)
    if len(set(there.values())) < 3:
        return {**groups, **dict.fromkeys(there, "one size")}
    low, high = np.quantile(list(there.values()), THIRDS)
    names = {case: "small" if v <= low else "medium" if v <= high else "large" for case, v in there.items()}
    return {**groups, **names}


def _bands(column: Mapping[str, str], numbers: Mapping[str, float], name: str, width: float) -> dict[str, str]:
    text = [f"'{value}' (case {case})" for case, value in column.items() if case not in numbers]
    if text or not width > 0:
        raise UsageError(
            f"Column '{name}' can be cut into bands of {width:g} only if it holds numbers; found {text[:3]}."
        )
    starts = {case: math.floor(number / width) * width for case, number in numbers.items()}
    return {case: f"{start:g} to under {start + width:g}" for case, start in starts.items()}


def _cut(numbers: Mapping[str, float], cuts: Sequence[float]) -> dict[str, str]:
    edges = sorted(dict.fromkeys(float(cut) for cut in cuts))
    names = [f"up to {edges[0]:.4g}"]
    names += [f"over {low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    names += [f"over {edges[-1]:.4g}"]
    return {case: names[int(np.searchsorted(edges, number))] for case, number in numbers.items()}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
