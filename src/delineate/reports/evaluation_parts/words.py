"""The evaluation in sentences: the headline, what to take away, and what must be known first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from delineate.metrics.cohort import CohortRow
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.statistics import bootstrap_mean, mean_or_nan
from delineate.reports.evaluation_parts.groups import verdict_of
from delineate.reports.evaluation_parts.observers import verdict_among_people
from delineate.reports.evaluation_parts.phrases import MAX_NAMED, count, named
from delineate.reports.evaluation_parts.sites import drop_text
from delineate.reports.findings import FEW_PATIENTS, LOW_DICE
from delineate.reports.metric_words import Scale, Units, label_of, worse
from delineate.reports.svg import number

MAX_SENTENCES = 6
"""Structures that are warned of one by one."""


def headline(evaluation: Evaluation, units: Units) -> str:
    """Return how good, on how many cases and patients, and whether predictions failed."""
    if not evaluation.cases or not evaluation.metrics:
        study = evaluation.raters
        return "No case was evaluated." if study is None else study.structures[0].sentences[0]
    metric = evaluation.metrics[0]
    scale = units.scale(metric)
    means = [mean_or_nan([row.values[metric] for row in case.rows]) for case in evaluation.cases]
    patients = [case.patient_id for case in evaluation.cases]
    mean = mean_or_nan(means)
    n_cases = f"{count(len(means), 'case')} of {count(len(set(patients)), 'patient')}"
    if math.isnan(mean):
        return f"None of {n_cases} has any of the structures."
    interval = bootstrap_mean(means, patients, np.random.default_rng(evaluation.seed))
    within = "" if math.isnan(interval.low) else f" (95 % interval {scale.interval(interval)})"
    failures = _failures(evaluation, means, scale)
    return f"Mean {label_of(metric)} {scale.with_unit(scale.text(mean))}{within} over {n_cases}. {failures}"


def _failures(evaluation: Evaluation, means: Sequence[float], scale: Scale) -> str:
    if not evaluation.failed:
        return "No prediction failed."
    failed = {case.case_id for case in evaluation.failed}
    rest = [mean for mean, case in zip(means, evaluation.cases, strict=True) if case.case_id not in failed]
    without = mean_or_nan(rest)
    told = "" if math.isnan(without) else f"; without them it is {scale.text(without)} over {count(len(rest), 'case')}"
    return f"{count(len(failed), 'prediction')} failed and counted as worst{told}."


def findings(evaluation: Evaluation, units: Units) -> tuple[str, ...]:
    """Return what a reader in a hurry takes away besides the headline."""
    found = _structures(evaluation, units) + _thresholds(evaluation)
    for column in dict.fromkeys(s.column for s in evaluation.subgroups):
        chosen = [s for s in evaluation.subgroups if s.column == column and s.metric == evaluation.subgroups[0].metric]
        found += [f"By {verdict_of(column, chosen, units)}"] if chosen else []
    if evaluation.shifts:
        shift = evaluation.shifts[0]
        found.append(
            f"On unseen sites {label_of(shift.metric)} of {shift.structure} drops by {drop_text(shift, units)}."
        )
    if evaluation.comparison is not None:
        found += list(evaluation.comparison.sentences)
    if evaluation.raters is not None:
        shown = evaluation.raters.structures[:MAX_NAMED]
        found += [verdict_among_people(s) for s in shown]
    return tuple(found + _trust(evaluation))


def warnings(evaluation: Evaluation) -> tuple[str, ...]:
    """Return what must be known before the numbers are believed: the data's notices first."""
    found = [*evaluation.notices, *(evaluation.raters.notices if evaluation.raters is not None else ())]
    found += [f"Prediction {f.case_id} failed: {f.reason}" for f in evaluation.failed[:MAX_NAMED]]
    if len(evaluation.failed) > MAX_NAMED:
        found.append(
            f"{len(evaluation.failed) - MAX_NAMED} further predictions failed; they are marked in the last table."
        )
    if evaluation.resampled:
        found.append(
            f"{count(len(evaluation.resampled), 'prediction')} lay on another grid and"
            f" {'was' if len(evaluation.resampled) == 1 else 'were'} resampled to the reference's (nearest voxel):"
            f" {named(evaluation.resampled)}."
        )
    if evaluation.without_reference:
        n = len(evaluation.without_reference)
        found.append(
            f"{count(n, 'prediction')} without a reference: {named(evaluation.without_reference)}; not counted."
        )
    found += _few_patients(evaluation)
    if not evaluation.calibrated and not any("pixel" in notice for notice in evaluation.notices):
        found.append("The size of a pixel is not known: distances are in pixels, areas in square pixels.")
    per_structure = [w for row in evaluation.table for w in _structure_warnings(row)]
    found += per_structure[:MAX_SENTENCES]
    if len(per_structure) > MAX_SENTENCES:
        found.append(f"{len(per_structure) - MAX_SENTENCES} further notes of this kind follow from the tables below.")
    return tuple(found)


def _structures(evaluation: Evaluation, units: Units) -> list[str]:
    if len(evaluation.table) < 2 or not evaluation.metrics:
        return []
    metric = evaluation.metrics[0]
    scale = units.scale(metric)
    means = [row.metrics[metric].mean for row in evaluation.table]
    worst = worse(metric, means)
    if worst is None:
        return []
    name, value = evaluation.table[worst].name, scale.with_unit(scale.text(means[worst]))
    return [f"Of {len(means)} structures {name} has the worst mean {label_of(metric)} ({value})."]


def _thresholds(evaluation: Evaluation) -> list[str]:
    if not evaluation.thresholds:
        return []
    total = len(evaluation.thresholds)
    by_verdict = {
        v: [f"{t.threshold.task} ({label_of(t.threshold.metric)})" for t in evaluation.thresholds if t.verdict == v]
        for v in ("fail", "undecided")
    }
    told = "".join(f" {verdict.capitalize()}: {named(tasks, '; ')}." for verdict, tasks in by_verdict.items() if tasks)
    passed = sum(t.verdict == "pass" for t in evaluation.thresholds)
    return [f"Thresholds reached with certainty: {passed} of {total}.{told}"]


def _trust(evaluation: Evaluation) -> list[str]:
    study = evaluation.trust
    if study is None or not study.failures:
        return []
    known = [f for f in study.failures if not math.isnan(f.aurc)]
    if not known:
        return []
    best = min(known, key=lambda f: (f.population != "all", f.aurc))
    return [
        f"The score that orders cases best by how wrong the model is: {best.score} (AURC {number(best.aurc)}; ideal"
        f" {number(best.aurc_ideal)}, random {number(best.aurc_random)})."
    ]


def _few_patients(evaluation: Evaluation) -> list[str]:
    n = len({case.patient_id for case in evaluation.cases})
    if not 0 < n < FEW_PATIENTS:
        return []
    return [f"The numbers rest on {count(n, 'patient')} only; the intervals are then too narrow or missing."]


def _structure_warnings(row: CohortRow) -> list[str]:
    present = row.presence
    n_with = present.true_positive + present.false_negative
    n_without = present.false_positive + present.true_negative
    found = []
    if n_with == 0:
        found.append(f"{row.name}: in no reference; nothing can be said about finding it.")
    if present.false_negative:
        found.append(f"{row.name}: missed altogether in {present.false_negative} of {n_with} cases that have it.")
    if present.false_positive:
        found.append(f"{row.name}: invented in {present.false_positive} of {n_without} cases whose reference lacks it.")
    if "dice" in row.metrics and row.metrics["dice"].mean < LOW_DICE:
        found.append(f"{row.name}: mean Dice {number(row.metrics['dice'].mean)}; most masks would have to be redrawn.")
    return found
