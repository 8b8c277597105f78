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
from delineate.planning.splits import hold_out_groups, make_splits

HELD_OUT = 0.15
"""Share of the pictures."""
FOLDS = 6
"""Fold 0 is what is held out when nothing is said; the others divide the rest, so every picture validates once."""


def hold_out(
    datasets: Sequence[InstanceDataset], path: Path, known: Mapping[str, Sequence[str]], fold: int = 0
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
    fold
        Which of :data:`FOLDS`; above 0 only without ``known``.

    Raises
    ------
    DatasetError
        If the split that stands there is of other data sets, or a data set has too few groups for the fold.
    """
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if set(stored) != {dataset.name for dataset in datasets}:
            raise DatasetError(f"{path} divides {', '.join(stored)}; choose another output folder for other data sets.")
        return tuple(tuple(stored[dataset.name]) for dataset in datasets)
    held_out = {dataset.name: inherited(dataset, known) or _drawn(dataset, fold) for dataset in datasets}
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


def _drawn(dataset: InstanceDataset, fold: int) -> tuple[str, ...]:
    """Hold out groups of grey and of coloured pictures, each in its share; at least one group if there are two."""
    chosen: list[str] = []
    for group_of in _groups_by_kind(dataset):
        first = hold_out_groups(group_of, share=HELD_OUT, seed=0) or _smallest_group(group_of)
        rest = {name: group for name, group in group_of.items() if name not in set(first)}
        chosen += _part(rest, fold) if fold else first
    if fold and not chosen:
        raise DatasetError(
            f"{dataset.root}: fold {fold} would hold out nothing, as there are too few groups of pictures. Choose a "
            "lower fold, or tell smaller groups in groups.csv."
        )
    return tuple(sorted(chosen))


def _part(group_of: Mapping[str, str], fold: int) -> tuple[str, ...]:
    """Return what a fold above 0 holds out of the cases that fold 0 does not; nothing, if groups are few."""
    groups = sorted(set(group_of.values()))
    if len(groups) < FOLDS - 1:
        return tuple(name for name in sorted(group_of) if group_of[name] in groups[fold - 1 : fold])
    return make_splits(list(group_of), group_of, folds=FOLDS - 1)[fold - 1].validation


def _groups_by_kind(dataset: InstanceDataset) -> tuple[dict[str, str], dict[str, str]]:
    """Return the groups of grey and of coloured pictures by their ids.

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
    grey, stained = (
        {name: group for name, group in group_of.items() if coloured[name] is kind} for kind in (False, True)
    )
    return grey, stained


def _smallest_group(group_of: Mapping[str, str]) -> tuple[str, ...]:
    """Return the cases of the smallest of several groups; none if there is one group only."""
    members: dict[str, list[str]] = {}
    for case in sorted(group_of):
        members.setdefault(group_of[case], []).append(case)
    smallest = min(members, key=lambda name: len(members[name]), default="")
    return tuple(members[smallest]) if len(members) > 1 else ()


def _three_colours(picture: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture
