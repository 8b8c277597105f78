"""Does the model know when it is wrong? Shifts, failures, and what its probabilities mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.trust_study import FailureDetection, ShiftDetection, TrustStudy
from delineate.reports.axes import Axis
from delineate.reports.curves import Line, line_chart
from delineate.reports.document import Block, Cell, Column, Drawing, Group, Section, Table, cells
from delineate.reports.metric_words import Scale
from delineate.reports.reliability_diagram import reliability_diagram
from delineate.reports.svg import number

FRACTION = Scale(unit="")


def trust(evaluation: Evaluation) -> Section:
    """Return how well scores find shifted and failed cases, and the calibration."""
    study = evaluation.trust
    if study is None:
        return Section(title="Trust", blocks=())
    blocks: list[Block] = [_shift_table(study.shifts)] if study.shifts else []
    for population in dict.fromkeys(found.population for found in study.failures):
        blocks.append(_risk_curves(population, [f for f in study.failures if f.population == population]))
    if study.failures:
        blocks.append(_failure_table(study.failures))
    blocks += _calibration(study)
    return Section(title="Does it know when it is wrong?", blocks=tuple(blocks))


def _shift_table(found: Sequence[ShiftDetection]) -> Table:
    scores = list(dict.fromkeys(f.score for f in found))
    by_place = {(f.shift, f.score): f for f in found}
    rows = []
    for shift in dict.fromkeys(f.shift for f in found):
        first = next(f for f in found if f.shift == shift)
        row = [by_place.get((shift, score)) for score in scores]
        rows.append(cells(shift, f"{first.n_ordinary} / {first.n_shifted}", *(_auroc(f) for f in row)))
    columns = (
        Column(title="Shift", words=True),
        Column(title="Cases\nordinary / shifted"),
        *(Column(title=score) for score in scores),
    )
    note = (
        "AUROC with its 95 % interval: the chance that a shifted case gets a larger score than an ordinary one; 0.5 is"
        " guessing, 1 always right."
    )
    return Table(
        columns=columns, groups=(Group(rows=tuple(rows)),), title="Telling shifted from ordinary cases", note=note
    )


def _auroc(found: ShiftDetection | None) -> Cell:
    if found is None:
        return Cell(text="–")
    interval = FRACTION.interval(found.interval)
    return Cell(text=number(found.auroc) if interval == "–" else f"{number(found.auroc)} ({interval})")


def _risk_curves(population: str, found: Sequence[FailureDetection]) -> Drawing:
    widest = max(found, key=lambda f: len(f.coverage))
    coverage = tuple(float(c) for c in widest.coverage)
    lines = [_line(f.score, f.coverage, f.risk) for f in found]
    lines.append(_line("knows the truth", widest.coverage, ideal_risk(widest.coverage, widest.risk), guide=True))
    lines.append(
        Line(name="knows nothing", x=(0.0, *coverage), y=(widest.aurc_random,) * (1 + len(coverage)), guide=True)
    )
    top = max((v for line in lines for v in line.y if v == v), default=1.0)
    svg = line_chart(
        lines,
        "share of cases kept, the most trusted first",
        Axis(low=0, high=top * 1.05 or 1.0),
        caption="Risk and coverage",
    )
    note = (
        "Mean risk (1 − Dice) of the cases that are kept if the least trusted are sent to a person first. A useful"
        " score runs near the lower dashed line (the order of a score that knows the truth), a useless one along"
        " the upper."
    )
    return Drawing(title=f"Risk and coverage, {population} cases", svg=svg, note=note)


def ideal_risk(coverage: NDArray[np.float64], risk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the risk-coverage curve of the same cases in the best order.

    Parameters
    ----------
    coverage, risk
        (n,) share of cases kept and their mean risk, as in
        :class:`~delineate.metrics.evaluation.trust_study.FailureDetection`.
    """
    steps = np.diff(coverage, prepend=0.0)
    totals = np.diff(coverage * risk, prepend=0.0)
    each = np.divide(totals, steps, out=np.zeros_like(totals), where=steps > 0)
    order = np.argsort(each, kind="stable")
    kept = np.cumsum(steps[order])
    best = np.cumsum((each * steps)[order])
    ideal = np.divide(best, kept, out=np.zeros_like(best), where=kept > 0)
    return np.asarray(np.interp(coverage, kept, ideal))


def _line(name: str, x: NDArray[np.float64], y: NDArray[np.float64], *, guide: bool = False) -> Line:
    return Line(name=name, x=tuple(float(v) for v in x), y=tuple(float(v) for v in y), guide=guide)


def _failure_table(found: Sequence[FailureDetection]) -> Table:
    titles = ("Score", "Cases", "AURC", "ideal", "random", "AUROC of\nfailures", "Rank correlation\nwith risk")
    groups = []
    for population in dict.fromkeys(f.population for f in found):
        chosen = [f for f in found if f.population == population]
        rows = tuple(
            cells(
                f.score,
                str(f.n_cases),
                Cell(text=number(f.aurc), tone="strong"),
                number(f.aurc_ideal),
                number(f.aurc_random),
                number(f.failure_auroc),
                number(f.spearman, 2),
            )
            for f in chosen
        )
        below = chosen[0].failure_below
        groups.append(Group(rows=rows, title=f"{population} cases", note=f"failure: Dice below {below:g}"))
    note = "AURC: area under the curve of risk and coverage, lower is better; ideal and random are its ends."
    columns = tuple(Column(title=title, words=i == 0) for i, title in enumerate(titles))
    return Table(columns=columns, groups=tuple(groups), title="Finding failures", note=note)


def _calibration(study: TrustStudy) -> list[Block]:
    named = (("As predicted", study.reliability_before), (_scaled(study.temperature), study.reliability_after))
    curves = [(title, curve) for title, curve in named if curve is not None and curve.counts.sum()]
    if not curves:
        return []
    note = (
        "Of all voxels that were given a probability, how many belong. On the dashed line, what is said is true as"
        " often as it says. ECE: mean distance from the line."
    )
    columns = tuple(
        Column(title=t, words=i == 0) for i, t in enumerate(("Probabilities", "ECE", "Largest error", "Voxels"))
    )
    rows = tuple(
        cells(title, number(curve.error), number(curve.largest_error), number(float(curve.counts.sum()), 0))
        for title, curve in curves
    )
    table = Table(columns=columns, groups=(Group(rows=rows),))
    return [Drawing(title="What its probabilities mean", svg=reliability_diagram(curves), note=note), table]


def _scaled(temperature: float | None) -> str:
    return "After scaling" if temperature is None else f"Temperature {temperature:.2f}"
