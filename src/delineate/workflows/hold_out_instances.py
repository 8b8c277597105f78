"""Which pictures with instances are held out: whole groups, so that no field of view is on both sides."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import DatasetError
from delineate.execution import write_text
from delineate.formats.datasets.instance_dataset import InstanceDataset
from delineate.planning.likeness import groups_of_likeness, is_coloured, look_of
from delineate.planning.splits import hold_out_groups

HELD_OUT = 0.15
"""Share of the pictures."""


def hold_out(
    datasets: Sequence[InstanceDataset], path: Path, known: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], ...]:
    """Return, per data set, the ids that validate.

    Parameters
    ----------
    datasets
        Their names are distinct.
    path
        A split that stands there is kept; else it is written.
    known
        Data set's name to ids that an earlier training held out; those that are there are held out again, no others.

    Raises
    ------
    DatasetError
        If the split that stands there is of other data sets.
    """
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if set(stored) != {dataset.name for dataset in datasets}:
            raise DatasetError(f"{path} divides {', '.join(stored)}; choose another output folder for other data sets.")
        return tuple(tuple(stored[dataset.name]) for dataset in datasets)
    held_out = {dataset.name: inherited(dataset, known) or _drawn(dataset) for dataset in datasets}
    write_text(path, json.dumps(held_out, indent=1))
    return tuple(held_out[dataset.name] for dataset in datasets)


def inherited(dataset: InstanceDataset, known: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return the ids of a data set that an earlier training of the same name held out, as far as they are there."""
    there = {case.case_id for case in dataset.cases}
    return tuple(name for name in known.get(dataset.name, ()) if name in there)


def split_words(dataset: InstanceDataset, held_out: Sequence[str]) -> str:
    """Say how many pictures of a data set are held out, and how they were grouped."""
    told = all(case.group for case in dataset.cases)
    how = "whole groups, as the data set tells them" if told else "whole groups of pictures that look alike"
    return f"{dataset.name}: {len(held_out)} of {len(dataset.cases)} pictures are held out, {how}."


def _drawn(dataset: InstanceDataset) -> tuple[str, ...]:
    """Hold out groups of grey and of coloured pictures, each in its share; at least one group if there are two.

    A group with pictures of both kinds belongs to the more frequent one: it is held out as a whole or not at all.
    """
    pictures = {case.case_id: _three_colours(dataset.load(case).picture) for case in dataset.cases}
    coloured = {name: is_coloured(picture) for name, picture in pictures.items()}
    group_of = {case.case_id: case.group for case in dataset.cases}
    if all(group_of.values()):
        votes = {group: Counter[bool]() for group in group_of.values()}
        for name, group in group_of.items():
            votes[group][coloured[name]] += 1
        coloured = {name: votes[group][True] >= votes[group][False] for name, group in group_of.items()}
    else:
        for kind in (False, True):
            names = [name for name in group_of if coloured[name] is kind]
            numbers = groups_of_likeness([look_of(pictures[name]) for name in names])
            group_of.update((name, f"look {kind} {n}") for name, n in zip(names, numbers, strict=True))
    chosen: list[str] = []
    for kind in (False, True):
        groups = {name: group for name, group in group_of.items() if coloured[name] is kind}
        chosen += hold_out_groups(groups, share=HELD_OUT, seed=0) or _smallest_group(groups)
    return tuple(sorted(chosen))


def _smallest_group(group_of: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cases of the smallest of several groups; none if there is one group only."""
    members: dict[str, list[str]] = {}
    for case in sorted(group_of):
        members.setdefault(group_of[case], []).append(case)
    smallest = min(members, key=lambda name: len(members[name]), default="")
    return tuple(members[smallest]) if len(members) > 1 else ()


def _three_colours(picture: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
