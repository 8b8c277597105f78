"""Is it better than other models on the same cases?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.model_comparison import PairedRow
from delineate.metrics.ranking import RankStability
from delineate.reports.document import Block, Bullets, Cell, Column, Drawing, Group, Paragraph, Section, Table, cells
from delineate.reports.evaluation_parts.phrases import axis_of, is_significant, limited, p_text, share_text
from delineate.reports.forest import Block as ForestBlock
from delineate.reports.forest import Mark, TextColumn, forest
from delineate.reports.heat_map import heat_map
from delineate.reports.metric_words import Scale, Units, direction_of, label_of, telling
from delineate.reports.svg import number

MAX_MARKS = 30
MAX_METRICS = 2
"""Metrics that are drawn; the table has all."""

MAX_OPEN_ROWS = 24

NOTE = (
    "Paired over the same cases. Dot and bar: mean difference and its 95 % interval (bootstrap by patient). p:"
    " permutation of the two models within patients, adjusted over the rows of the metric (Holm)."
)


def comparison(evaluation: Evaluation, units: Units) -> Section:
    """Return what it means in sentences, differences to each other model, and the ranks."""
    found = evaluation.comparison
    if found is None:
        return Section(title="Other models", blocks=())
    blocks: list[Block] = [Bullets(items=found.sentences)] if found.sentences else []
    blocks.append(Paragraph(text=NOTE, weight="note"))
    for name, rows in found.rows:
        metrics = list(dict.fromkeys(row.metric for row in rows))
        for metric in telling(metrics, MAX_METRICS):
            blocks.append(_forest(name, [row for row in rows if row.metric == metric], units))
        if rows:
            blocks.append(_table((found.names[0], name), rows, units))
    blocks += [_ranks(metric, ranks) for metric, ranks in found.ranks]
    return Section(title="Other models", blocks=tuple(blocks))


def _forest(other: str, rows: Sequence[PairedRow], units: Units) -> Drawing:
    metric = rows[0].metric
    scale = units.scale(metric)
    drawn = sorted(rows, key=lambda row: -abs(row.difference.value) if row.difference.n_used else 0.0)[:MAX_MARKS]
    marks = tuple(_mark(row, scale) for row in rows if row in drawn)
    values = [
        v for row in drawn for v in (row.difference.value, row.difference.interval.low, row.difference.interval.high)
    ]
    heads = (("this", 70.0), ("other", 70.0), ("difference (95 % interval)", 210.0), ("p", 62.0))
    svg = forest(
        [ForestBlock(heading="", marks=marks, guide=0.0)],
        axis_of([*values, 0.0, -1e-3], scale, f"difference in {label_of(metric)}, this − other"),
        [TextColumn(title=title, width=width) for title, width in heads],
        caption=f"Difference in {label_of(metric)} to {other}",
    )
    note = f"For {label_of(metric)} {direction_of(metric)}. {limited(len(marks), len(rows), 'the most different')}"
    return Drawing(title=f"{label_of(metric)} against {other}", svg=svg, note=note.strip())


def _mark(row: PairedRow, scale: Scale) -> Mark:
    return Mark(
        name=row.structure,
        value=row.difference.value * scale.factor,
        low=row.difference.interval.low * scale.factor,
        high=row.difference.interval.high * scale.factor,
        texts=(
            scale.text(row.first.value),
            scale.text(row.second.value),
            scale.estimate(row.difference, signed=True),
            p_text(row.p_adjusted),
        ),
    )


def _table(names: tuple[str, str], rows: Sequence[PairedRow], units: Units) -> Table:
    titles = (
        "Structure",
        *names,
        "Difference\n(95 % interval)",
        "Pairs",
        "p\nexchange",
        "p\nWilcoxon",
        "p adjusted\n(Holm)",
    )
    metrics = dict.fromkeys(row.metric for row in rows)
    groups = tuple(
        Group(title=label_of(m), rows=tuple(_row(row, units.scale(m)) for row in rows if row.metric == m))
        for m in metrics
    )
    columns = tuple(Column(title=title, words=i == 0) for i, title in enumerate(titles))
    return Table(
        columns=columns, groups=groups, title=f"All numbers against {names[1]}", folded=len(rows) > MAX_OPEN_ROWS
    )


def _row(row: PairedRow, scale: Scale) -> tuple[Cell, ...]:
    return cells(
        row.structure,
        scale.text(row.first.value),
        scale.text(row.second.value),
        scale.estimate(row.difference, signed=True),
        str(row.difference.n_used),
        p_text(row.permutation.p_value),
        p_text(row.wilcoxon.p_value),
        Cell(text=p_text(row.p_adjusted), tone="strong" if is_significant(row.p_adjusted) else None),
    )


def _ranks(metric: str, ranks: RankStability) -> Drawing:
    n = len(ranks.methods)
    order = sorted(range(n), key=lambda i: (ranks.ranks[i], i))
    shares = ranks.distribution[order]
    texts = [[share_text(float(share)) for share in row] for row in shares]
    names = [
        f"{number(float(ranks.ranks[i]), 0 if float(ranks.ranks[i]).is_integer() else 1)}. {ranks.methods[i]}"
        for i in order
    ]
    svg = heat_map(
        shares,
        texts,
        (names, [f"rank {i + 1}" for i in range(n)]),
        (0.0, 1.0),
        caption=f"How often each model has each rank by {label_of(metric)}",
    )
    tau = (
        ""
        if math.isnan(ranks.kendall_tau)
        else f" Mean Kendall tau of the samples with this ranking: {number(ranks.kendall_tau, 2)}."
    )
    note = (
        f"Ranking by the mean {label_of(metric)} over structures of each case, on {ranks.n_used} cases; the cells say"
        f" in how many of {ranks.resamples} bootstrap samples of the patients the model has that rank.{tau}"
    )
    return Drawing(title=f"Ranks by {label_of(metric)}", svg=svg, note=note)
