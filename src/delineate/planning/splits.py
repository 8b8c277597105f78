"""Splits: which cases train and which validate in each fold. No case list is read or written here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from delineate.errors import PlanError
from delineate.metrics.evaluation.subgroups import NOT_RECORDED

FOLDS = 5
"""Folds of a cross-validation (nnU-Net)."""
SPLIT_SEED = 12345
"""Seed of the shuffle (nnU-Net ``generate_crossval_split``)."""

TRAINING_SHARE = 0.8
"""Part of the cases that trains in a fold beyond the splits file (nnU-Net)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """The case ids of one fold.

    Raises
    ------
    PlanError
        If either side is empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.train or not self.validation:
            raise PlanError(
                f"A fold needs at least one case to train and one to validate; got {len(self.train)} and "
                f"{len(self.validation)}. Use fewer folds, or fold 'all' to train and validate on every case."
            )


def make_splits(
    case_ids: Sequence[str], patient_of: Mapping[str, str] | None = None, folds: int = FOLDS
) -> tuple[Split, ...]:
    """Divide the cases into folds; cases of one patient stay together.

    When every case is its own patient the result equals nnU-Net's: ``KFold(folds, shuffle=True, random_state=12345)``
    over the sorted ids. Else patients are dealt out, those with most cases first, each to the fold that has the
    fewest cases so far.

    Parameters
    ----------
    case_ids
        In any order, without repetitions.
    patient_of
        Patient per case id; a case that is not named is its own patient. None: every case is.
    folds
        At least 2.

    Raises
    ------
    PlanError
        If ids repeat, or there are fewer patients than folds.
    """
    ids = _unique(case_ids)
    patients = _cases_of_patients(ids, patient_of or {})
    _check_count(len(patients), len(ids), folds)
    single = len(patients) == len(ids)
    held_out = _shuffled_folds(ids, folds) if single else _balanced_folds(patients, folds)
    return tuple(_split(ids, fold) for fold in held_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldGroups:
    """Which group each fold of a leave-one-group-out cross-validation holds out."""

    column: str
    """What the groups are: ``site``."""
    names: tuple[str, ...]
    """Of the groups, one per fold in order of the folds."""
    not_recorded: tuple[str, ...] = ()
    """Case ids without a group; they are a fold of their own and train in all others, whose group they may be of."""

    @property
    def words(self) -> str:
        """Which fold holds out what, for a reader: ``0: Milan; 1: UCL``."""
        return "; ".join(f"{fold}: {name}" for fold, name in enumerate(self.names))


def leave_one_group_out(
    case_ids: Sequence[str], group_of: Mapping[str, str], patient_of: Mapping[str, str] | None = None
) -> dict[str, Split]:
    """Return one fold per group: it validates exactly the cases of the group and trains on all others.

    Parameters
    ----------
    case_ids
        In any order, without repetitions.
    group_of
        Group (site, scanner) per case id; cases that are not named or named "" form the group ``not recorded``.
    patient_of
        Patient per case id; a case that is not named is its own patient. None: every case is.

    Returns
    -------
    dict
        Split by group; groups in order of their names, ``not recorded`` last.

    Raises
    ------
    PlanError
        If ids repeat, there are fewer than two groups, or a patient is in several groups; names all such patients.
    """
    ids = _unique(case_ids)
    groups: dict[str, set[str]] = defaultdict(set)
    for case_id in ids:
        groups[group_of.get(case_id) or NOT_RECORDED].add(case_id)
    if len(groups) < 2:
        only = f"all {len(ids)} cases belong to '{next(iter(groups))}'" if groups else "there is no case"
        raise PlanError(f"Leaving one group out needs at least 2 groups; {only}.")
    _require_whole_patients(ids, groups, patient_of or {})
    order = sorted(groups, key=lambda name: (name == NOT_RECORDED, name))
    return {name: _split(ids, groups[name]) for name in order}


def every_case(case_ids: Sequence[str]) -> Split:
    """Return fold ``all``: every case trains, and every case validates (so the validation proves nothing).

    Raises
    ------
    PlanError
        If there is no case.
    """
    ids = tuple(sorted(case_ids))
    return Split(train=ids, validation=ids)


def random_split(case_ids: Sequence[str], fold: int) -> Split:
    """Return nnU-Net's split for a fold that the splits file does not have: four fifths train, drawn with its number.

    Raises
    ------
    PlanError
        If there are too few cases.

    References
    ----------
    nnU-Net 2.8.1, ``nnUNetTrainer.do_split``.
    """
    ids = sorted(case_ids)
    generator = np.random.RandomState(SPLIT_SEED + fold)  # the legacy stream is nnU-Net's
    drawn = generator.choice(len(ids), int(len(ids) * TRAINING_SHARE), replace=False)
    kept = set(drawn.tolist())
    return Split(
        train=tuple(ids[i] for i in drawn), validation=tuple(name for i, name in enumerate(ids) if i not in kept)
    )


def choose_split(splits: Sequence[Split], fold: int | Literal["all"], case_ids: Sequence[str]) -> Split:
    """Return the split of a fold, checked against the cases that there are.

    Parameters
    ----------
    splits
        Made by :func:`make_splits` or read from a file.
    fold
        Counted from 0, or ``"all"``.
    case_ids
        The cases of the dataset; a split may leave some out but not name others.

    Raises
    ------
    PlanError
        If the fold does not exist, or names cases that do not.
    """
    if fold == "all":
        return every_case(case_ids)
    if not 0 <= fold < len(splits):
        raise PlanError(f"Fold {fold} does not exist; there are folds 0 to {len(splits) - 1}, and 'all'.")
    split = splits[fold]
    unknown = sorted({*split.train, *split.validation} - set(case_ids))
    if unknown:
        raise PlanError(
            f"Fold {fold} of the splits file names {len(unknown)} cases that the dataset does not have "
            f"({', '.join(unknown[:5])}). Delete the splits file to make new splits."
        )
    return split


def _unique(case_ids: Sequence[str]) -> list[str]:
    ids = sorted(case_ids)
    if len(set(ids)) != len(ids):
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        raise PlanError(f"Case ids must be unique; repeated are: {', '.join(repeated[:5])}.")
    return ids


def _require_whole_patients(ids: Sequence[str], groups: Mapping[str, set[str]], patient_of: Mapping[str, str]) -> None:
    torn = []
    for cases in _cases_of_patients(ids, patient_of).values():
        found = {name: sorted(members.intersection(cases)) for name, members in groups.items()}
        parts = [f"{name} ({', '.join(members)})" for name, members in sorted(found.items()) if members]
        if len(parts) > 1:
            torn.append(f"{patient_of[cases[0]]} in {' and '.join(parts)}")
    if torn:
        raise PlanError(
            f"Leaving one group out needs every patient in one group only; {len(torn)} patient(s) are in several: "
            f"{'; '.join(torn)}. Leave cases of these patients out, or split by another column."
        )


def _cases_of_patients(ids: Sequence[str], patient_of: Mapping[str, str]) -> dict[str, list[str]]:
    # a case without a declared patient gets a key that no declared name can have
    cases: dict[str, list[str]] = defaultdict(list)
    for case_id in ids:
        cases[patient_of[case_id] if case_id in patient_of else f"\0{case_id}"].append(case_id)
    return cases


def _check_count(patients: int, cases: int, folds: int) -> None:
    if folds < 2:
        raise PlanError(
            f"A cross-validation needs at least 2 folds; got {folds}. Use fold 'all' to train on every case."
        )
    if patients < folds:
        remedy = f"Use at most {patients} folds" if patients >= 2 else "Add cases of other patients"
        raise PlanError(
            f"{folds} folds need at least {folds} patients; there are {patients} ({cases} cases). {remedy}, or fold "
            "'all' to train and validate on every case."
        )


def _shuffled_folds(ids: Sequence[str], folds: int) -> list[set[str]]:
    order = np.arange(len(ids))
    np.random.RandomState(SPLIT_SEED).shuffle(order)  # the legacy stream is nnU-Net's
    return [{ids[i] for i in part} for part in np.array_split(order, folds)]


def _balanced_folds(patients: Mapping[str, Sequence[str]], folds: int) -> list[set[str]]:
    names = sorted(patients)
    np.random.RandomState(SPLIT_SEED).shuffle(names)  # one seed for both kinds of split
    held_out: list[set[str]] = [set() for _ in range(folds)]
    for name in sorted(names, key=lambda patient: -len(patients[patient])):
        min(held_out, key=len).update(patients[name])
    return held_out


def _split(ids: Sequence[str], held_out: set[str]) -> Split:
    return Split(train=tuple(i for i in ids if i not in held_out), validation=tuple(i for i in ids if i in held_out))


def hold_out_groups(group_of: Mapping[str, str], *, share: float, seed: int) -> tuple[str, ...]:
    """Choose whole groups of cases to hold out, about a share of all cases.

    Groups come in a shuffled order; one that would make the held-out part larger than the share by more than a fifth
    of it is passed over.

    Parameters
    ----------
    group_of
        Group per case id.
    share
        Of the cases, above 0 and below 1.
    seed
        Of the order.

    Returns
    -------
    tuple of str
        Case ids, sorted; empty if every group is too large.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for case_id in sorted(group_of):
        members[group_of[case_id]].append(case_id)
    wanted, held_out = share * len(group_of), list[str]()
    for name in np.random.default_rng(seed).permutation(sorted(members)):
        if len(held_out) < wanted and len(held_out) + len(members[name]) <= 1.2 * wanted:
            held_out += members[name]
    return tuple(sorted(held_out))
