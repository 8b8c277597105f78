"""What is monitored, case by case in the order in which it happened: from the ledger to series of numbers.

A row of kind ``case`` holds the statistics of an input and the output made from it, a row of kind ``edit`` what a
person changed. The module knows rows, not files and not what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from delineate.clinical.edits import ACCEPTED
from delineate.clinical.ledger import Entry, Ledger
from delineate.errors import InputError
from delineate.metrics.case_statistics import Value

CASE_KIND, EDIT_KIND = "case", "edit"
UNKNOWN_SITE = "all"
"""Site of cases for which none is told."""
FeatureKind = Literal["number", "flag", "category"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """Some features of one case."""

    case_id: str
    site: str
    values: Mapping[str, Value]
    """By feature: numbers, yes/no, categories."""
    day: str = ""
    """When the case happened, as its teller writes it; for the reader only, the order is that of the rows."""


@dataclass(kw_only=True, slots=True)
class Series:
    """One feature at one site, in the order of time."""

    site: str
    feature: str
    kind: FeatureKind
    case_ids: list[str] = field(default_factory=list)
    days: list[str] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)


def observations_of(entries: Iterable[Entry]) -> tuple[Observation, ...]:
    """Return what a ledger tells of cases and edits; a corrected row gives way to its correction, in its place."""
    latest: dict[tuple[str, str, str], Observation] = {}
    for entry in entries:
        payload = entry.payload
        if entry.kind not in (CASE_KIND, EDIT_KIND):
            continue
        site, case_id = str(payload.get("site") or UNKNOWN_SITE), str(payload["case"])
        values = payload["features"] if entry.kind == CASE_KIND else _edit_features(payload)
        latest[entry.kind, site, case_id] = Observation(
            case_id=case_id, site=site, values=values, day=str(payload.get("day") or entry.time[:10])
        )
    return tuple(latest.values())


def series_of(observations: Sequence[Observation]) -> tuple[Series, ...]:
    """Return one series per site and feature, sites and features in the order in which they appear.

    Raises
    ------
    InputError
        If a feature is a number in one case and a category in another; names all of them.
    """
    found: dict[tuple[str, str], Series] = {}
    mixed: dict[str, None] = {}
    for one in observations:
        for feature, value in one.values.items():
            kind = _kind(value)
            series = found.setdefault((one.site, feature), Series(site=one.site, feature=feature, kind=kind))
            if series.kind != kind:
                mixed[feature] = None
                continue
            series.case_ids.append(one.case_id)
            series.days.append(one.day)
            series.values.append(value)
    if mixed:
        raise InputError(
            f"A feature must be of one kind in all cases (a number, true/false, or text); mixed are {', '.join(mixed)}."
        )
    return tuple(found.values())


def record(
    ledger: Ledger, kind: str, told: Sequence[tuple[str, Mapping[str, Any]]], *, correction: str = ""
) -> tuple[str, ...]:
    """Append one row per case; cases that have such a row already are left out unless corrected.

    Parameters
    ----------
    ledger
        Where to append.
    kind
        :data:`CASE_KIND` or :data:`EDIT_KIND`.
    told
        Who tells it, and a payload with ``case`` and ``site``; one per case.
    correction
        Why rows that are there are replaced; the old ones stay in the ledger.

    Returns
    -------
    tuple of str
        Cases that were left out.

    Raises
    ------
    LedgerError
        If the ledger was altered.
    InputError
        If a payload cannot be stored.
    """
    left_out = []
    with ledger.exclusive() as writer:
        known = {_key(e.payload): e.sequence for e in writer.entries if e.kind == kind}
        for actor, payload in told:
            earlier = known.get(_key(payload))
            if earlier is not None and not correction:
                left_out.append(str(payload["case"]))
                continue
            extra = {} if earlier is None else {"corrects": earlier, "reason": correction}
            known[_key(payload)] = writer.append(kind, {**payload, **extra}, actor=actor).sequence
    return tuple(left_out)


def _key(payload: Mapping[str, Any]) -> tuple[str, str]:
    return str(payload.get("site") or UNKNOWN_SITE), str(payload["case"])


def _edit_features(payload: Mapping[str, Any]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for one in payload["structures"]:
        name = f"edit.{one['structure']}"
        found[f"{name}.accepted"] = one["outcome"] in ACCEPTED
        for key in ("edit_dice", "surface_dice", "added_path_length_mm", "volume_change_ml"):
            if one[key] is not None:
                found[f"{name}.{key}"] = float(one[key])
    found["edit.accepted"] = payload["outcome"] in ACCEPTED
    if payload.get("seconds") is not None:
        found["edit.seconds"] = float(payload["seconds"])
    return found


def _kind(value: Value) -> FeatureKind:
    if isinstance(value, bool):
        return "flag"
    return "category" if isinstance(value, str) else "number"
