"""Is it as good everywhere? Subgroups by the columns of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.subgroups import Group as Subgroup
from delineate.metrics.evaluation.subgroups import Subgrouping
from delineate.reports.document import Block, Cell, Drawing, Group, Paragraph, Section, Table, cells, columns_of
from delineate.reports.evaluation_parts.phrases import axis_of, count, is_significant, limited, p_text
from delineate.reports.forest import Block as ForestBlock
from delineate.reports.forest import Mark, TextColumn, forest
from delineate.reports.metric_words import Scale, Units, label_of, telling, worse

MAX_MARKS = 36
"""Rows of a forest plot."""

MAX_METRICS = 2
"""Metrics of a column that are drawn; the table has all."""

NOTE = (
    "Dot and bar: mean of the group and its 95 % interval (bootstrap by patient); dashed: mean of all cases. Gap: mean"
    " of the group minus mean of all others. p: permutation of the group's membership among patients, adjusted for the"
    " number of groups (Holm). Hollow: too few cases to conclude anything."
)


def subgroups(evaluation: Evaluation, units: Units) -> Section:
    """Return a forest plot per column and metric, and all numbers in a table per column."""
    blocks: list[Block] = [Paragraph(text=NOTE, weight="note")] if evaluation.subgroups else []
    for column in dict.fromkeys(found.column for found in evaluation.subgroups):
        chosen = [found for found in evaluation.subgroups if found.column == column]
        blocks.append(Paragraph(text=verdict_of(column, chosen, units), weight="verdict"))
        metrics = list(dict.fromkeys(found.metric for found in chosen))
        for metric in telling(metrics, MAX_METRICS):
            blocks.append(_forest([f for f in chosen if f.metric == metric], evaluation, units))
        blocks.append(_table(column, chosen, units))
    return Section(title="Subgroups", blocks=tuple(blocks))


def verdict_of(column: str, found: Sequence[Subgrouping], units: Units) -> str:
    """Return in one sentence what a column shows."""
    least = found[0].least_cases
    judged = [(s, g) for s in found for g in s.groups if g.sufficient]
    if not judged:
        return f"{column}: no group has {least} cases, so nothing can be concluded."
    gaps = [(s, g) for s, g in judged if is_significant(g.p_adjusted)]
    small = len({g.name for s in found for g in s.groups if not g.sufficient})
    rest = f" {count(small, 'group')} with fewer than {least} cases cannot be judged." if small else ""
    if not gaps:
        return f"{column}: no difference between groups that chance would not explain.{rest}"
    told = "; ".join(
        _told(s, g, units) for s, g in sorted(gaps, key=lambda pair: (not _is_worse(*pair), pair[1].p_adjusted))[:3]
    )
    more = f" {count(len(gaps) - 3, 'further difference')} in the table." if len(gaps) > 3 else ""
    return f"{column}: {told}.{more}{rest}"


def _told(found: Subgrouping, group: Subgroup, units: Units) -> str:
    scale = units.scale(found.metric)
    size = scale.with_unit(scale.text(abs(group.gap), signed=False))
    side = "worse than" if _is_worse(found, group) else "better than"
    what = f"{label_of(found.metric)} of {found.structure} in {group.name}"
    return f"{what} is {size} {side} in the rest (p {p_text(group.p_adjusted)})"


def _is_worse(found: Subgrouping, group: Subgroup) -> bool:
    return worse(found.metric, (group.mean.value, group.mean.value - group.gap)) == 0


def _forest(found: Sequence[Subgrouping], evaluation: Evaluation, units: Units) -> Drawing:
    metric, column = found[0].metric, found[0].column
    scale = units.scale(metric)
    drawn = _most_telling(found)
    means = {row.name: row.metrics[metric].mean for row in evaluation.table if metric in row.metrics}
    blocks = [
        ForestBlock(
            heading=s.structure if len(found) > 1 else "",
            marks=tuple(_mark(g, s, scale) for g in s.groups[:MAX_MARKS]),
            guide=means.get(s.structure, math.nan) * scale.factor,
        )
        for s in drawn
    ]
    values = [v for s in drawn for g in s.groups for v in (g.mean.value, g.mean.interval.low, g.mean.interval.high)]
    heads = (("cases", 54.0), ("mean (95 % interval)", 190.0), ("gap to the rest", 118.0), ("p", 62.0))
    svg = forest(
        blocks,
        axis_of([*values, *means.values()] if len(drawn) == len(found) else values, scale, f"{label_of(metric)}, mean"),
        [TextColumn(title=title, width=width) for title, width in heads],
        caption=f"{label_of(metric)} by {column}",
    )
    note = limited(len(drawn), len(found), "those with the largest gaps")
    return Drawing(title=f"{label_of(metric)} by {column}", svg=svg, note=note)


def _most_telling(found: Sequence[Subgrouping]) -> list[Subgrouping]:
    """As many structures as fit, those with the largest gap of a sufficient group, in their own order."""
    by_gap = sorted(
        found, key=lambda s: -max((abs(g.gap) for g in s.groups if g.sufficient and g.gap == g.gap), default=0)
    )
    room = MAX_MARKS
    chosen: list[str] = []
    for subgrouping in by_gap:
        room -= len(subgrouping.groups) + 1
        if chosen and room < 0:
            break
        chosen.append(subgrouping.structure)
    return [s for s in found if s.structure in chosen]


def _mark(group: Subgroup, subgrouping: Subgrouping, scale: Scale) -> Mark:
    worst = group.name == subgrouping.worst
    factor = scale.factor
    return Mark(
        name=f"{group.name} (lowest)"
        if worst and scale.unit == ""
        else f"{group.name} (worst)"
        if worst
        else group.name,
        value=group.mean.value * factor,
        low=group.mean.interval.low * factor,
        high=group.mean.interval.high * factor,
        texts=(
            str(group.n_cases),
            scale.estimate(group.mean),
            scale.text(group.gap, signed=True) if group.sufficient else f"too few (< {subgrouping.least_cases})",
            p_text(group.p_adjusted) if group.sufficient else "–",
        ),
        hollow=not group.sufficient,
    )


def _table(column: str, found: Sequence[Subgrouping], units: Units) -> Table:
    titles = (
        column,
        "Cases",
        "Patients",
        "Mean\n(95 % interval)",
        "Gap to the rest\n(95 % interval)",
        "p",
        "p\nadjusted",
        "Judgement",
    )
    groups = tuple(
        Group(rows=tuple(_row(g, s, units) for g in s.groups), title=f"{s.structure}: {label_of(s.metric)}")
        for s in found
    )
    return Table(columns=columns_of(titles, (0, 7)), groups=groups, title=f"All numbers by {column}", folded=True)


def _row(group: Subgroup, subgrouping: Subgrouping, units: Units) -> tuple[Cell, ...]:
    scale = units.scale(subgrouping.metric)
    gap = scale.text(group.gap, signed=True)
    interval = scale.interval(group.gap_interval, signed=True)
    judgement = Cell(text="")
    if not group.sufficient:
        judgement = Cell(text=f"insufficient (fewer than {subgrouping.least_cases} cases)", tone="faint")
    elif group.name == subgrouping.worst:
        judgement = Cell(text="worst group", tone="unsure")
    return cells(
        group.name,
        str(group.n_cases),
        str(group.n_patients),
        scale.estimate(group.mean),
        gap if interval == "–" else f"{gap} ({interval})",
        p_text(group.test.p_value) if group.test else "–",
        Cell(text=p_text(group.p_adjusted), tone="strong" if is_significant(group.p_adjusted) else None),
        judgement,
    )
