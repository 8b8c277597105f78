"""What a site costs that the training never saw.

The same cases are predicted by a model that knew their site and by one that did not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError
from delineate.metrics.cohort import CaseRows
from delineate.metrics.evaluation.directions import goodness
from delineate.metrics.evaluation.subgroups import NOT_RECORDED
from delineate.metrics.statistics import RESAMPLES, Estimate, bootstrap, mean_or_nan
from delineate.metrics.table import METRICS
from delineate.metrics.unpaired import gap_interval

POINTS = 100.0
"""Percentage points of a fraction of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteShift:
    """The drop of one metric of one structure from known to unseen sites."""

    structure: str
    metric: str
    known: Estimate
    """Cases predicted by models that were trained on other cases of the same site."""
    unseen: Estimate
    """Cases predicted by models that were not trained on their site."""
    drop_points: Estimate
    """100 times (known minus unseen), paired by case where both are there; in percentage points for fractions, in the
    metric's unit for others (not times 100). Positive: worse on unseen sites (signs of distances are turned)."""
    by_site: tuple[tuple[str, int, float, float], ...]
    """Site, cases, mean known, mean unseen."""
    paired: bool = True
    """Whether the drop is over pairs, the same cases known and unseen; else the two are different cases, whose means
    are compared and drawn independently."""


def measure_shift(
    known: Sequence[CaseRows],
    unseen: Sequence[CaseRows],
    site_of: Mapping[str, str],
    metrics: Sequence[str],
    *,
    seed: int,
) -> tuple[SiteShift, ...]:
    """Compare cases predicted by models that knew their site with cases predicted by models that did not.

    Where cases are in both, the drop is the mean over these cases of how much worse the unseen prediction is; a case
    that is in one only counts for that one's mean and not for the drop. Without any common case the drop is the
    difference of the two means. An error with a sign (of volumes) is worse the larger it is, whatever its sign.

    The intervals draw patients, not sites: they speak about these sites, not about sites in general.

    Parameters
    ----------
    known, unseen
        Tables of the cases, all with the same structures and metrics.
    site_of
        Site per case id; cases that are not in it are ``not recorded``.
    metrics
        Names that the rows have.
    seed
        Of every bootstrap.

    Returns
    -------
    tuple
        Per structure and metric; nothing if either side has no case.

    Raises
    ------
    InputError
        If the tables do not fit together, a case is listed twice on one side, or a metric is not in the rows.
    """
    if not known or not unseen:
        return ()
    sides = (_by_id(known), _by_id(unseen))
    _require_one_form([*known, *unseen], metrics)
    return tuple(
        _shift(index, metric, *sides, site_of, seed) for index in range(len(known[0].rows)) for metric in metrics
    )


def _by_id(cases: Sequence[CaseRows]) -> dict[str, CaseRows]:
    found = {case.case_id: case for case in cases}
    if len(found) < len(cases):
        raise InputError(f"Every case may be known once and unseen once; {len(cases) - len(found)} are repeated.")
    return found


def _require_one_form(cases: Sequence[CaseRows], metrics: Sequence[str]) -> None:
    forms = {tuple((row.name, row.policy) for row in case.rows) for case in cases}
    if len(forms) > 1:
        raise InputError(f"All cases need the same structures and policy; found {len(forms)} different tables.")
    missing = [metric for metric in metrics if any(metric not in row.values for case in cases for row in case.rows)]
    if missing:
        raise InputError(f"The cases have no values of {', '.join(missing)}.")


def _shift(
    index: int,
    metric: str,
    known: Mapping[str, CaseRows],
    unseen: Mapping[str, CaseRows],
    site_of: Mapping[str, str],
    seed: int,
) -> SiteShift:
    sides = [{i: case.rows[index].values[metric] for i, case in side.items()} for side in (known, unseen)]
    owner = {i: case.patient_id for side in (unseen, known) for i, case in side.items()}
    both = [case_id for case_id in known if case_id in unseen]
    return SiteShift(
        structure=next(iter(known.values())).rows[index].name,
        metric=metric,
        known=_mean(sides[0], owner, seed),
        unseen=_mean(sides[1], owner, seed),
        drop_points=_paired_drop(sides, both, owner, metric, seed) if both else _drop(sides, owner, metric, seed),
        by_site=_by_site(sides, site_of),
        paired=bool(both),
    )


def _mean(values: Mapping[str, float], owner: Mapping[str, str], seed: int) -> Estimate:
    return bootstrap([*values.values()], [owner[i] for i in values], seed=seed)


def _paired_drop(
    sides: Sequence[Mapping[str, float]], both: Sequence[str], owner: Mapping[str, str], metric: str, seed: int
) -> Estimate:
    worse = _loss(sides[1], both, metric) - _loss(sides[0], both, metric)
    return bootstrap(worse * _factor(metric), [owner[i] for i in both], seed=seed)


def _drop(sides: Sequence[Mapping[str, float]], owner: Mapping[str, str], metric: str, seed: int) -> Estimate:
    known, unseen = (_loss(side, [*side], metric) * _factor(metric) for side in sides)
    owners = [[owner[i] for i in side] for side in sides]
    used = [i for side in sides for i, value in side.items() if not math.isnan(value)]
    return Estimate(
        value=mean_or_nan(unseen) - mean_or_nan(known),
        interval=gap_interval(unseen, known, owners[1], owners[0], seed=seed),
        statistic="mean",
        n_used=len(used),
        n_excluded=len(sides[0]) + len(sides[1]) - len(used),
        n_patients=len({owner[i] for i in used}),
        seed=seed,
        resamples=RESAMPLES,
    )


def _loss(values: Mapping[str, float], case_ids: Sequence[str], metric: str) -> NDArray[np.float64]:
    """Return (case,) numbers that are larger for worse values, in the metric's unit."""
    return np.array([-goodness(values[i], metric) for i in case_ids], np.float64)


def _factor(metric: str) -> float:
    return POINTS if METRICS[metric].unit == "1" else 1.0


def _by_site(
    sides: Sequence[Mapping[str, float]], site_of: Mapping[str, str]
) -> tuple[tuple[str, int, float, float], ...]:
    """Return the rows by site in order of names; those without one last."""
    sites: dict[str, list[str]] = {}
    for case_id in dict.fromkeys([*sides[0], *sides[1]]):
        sites.setdefault(site_of.get(case_id, NOT_RECORDED), []).append(case_id)
    known, unseen = sides
    return tuple(
        (site, len(ids), _mean_of(known, ids), _mean_of(unseen, ids))
        for site, ids in sorted(sites.items(), key=lambda item: (item[0] == NOT_RECORDED, item[0]))
    )


def _mean_of(values: Mapping[str, float], case_ids: Sequence[str]) -> float:
    return mean_or_nan([values[i] for i in case_ids if i in values])
