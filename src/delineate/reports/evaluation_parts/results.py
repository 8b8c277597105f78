"""Per structure: how good, how often found, how the cases are spread, which thresholds are reached, do sizes agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from delineate.metrics.cohort import CohortRow
from delineate.metrics.evaluation import directions
from delineate.metrics.evaluation.definitions import TEXTS
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.thresholds import ThresholdVerdict
from delineate.metrics.evaluation.volume_agreement import VolumeAgreement
from delineate.metrics.statistics import RESAMPLES
from delineate.reports.axes import Axis, axis_for
from delineate.reports.bland_altman import bland_altman
from delineate.reports.distributions import Row, strip_chart
from delineate.reports.document import (
    Block,
    Cell,
    Column,
    Drawing,
    Group,
    Section,
    Table,
    Terms,
    Tone,
    cells,
    columns_of,
)
from delineate.reports.evaluation_parts.phrases import limited
from delineate.reports.metric_words import Units, direction_of, label_of, telling, worse
from delineate.reports.svg import number

MAX_TABLE_ROWS = 40
"""Structures times metrics in one table; with more, every metric gets its own, the later ones folded away."""

MAX_OPEN_STRUCTURES = 30
"""With more structures all tables are folded away and the picture of the worst comes first."""

MAX_STRIPS = 16
"""Structures in a strip plot."""

MAX_PANELS = 8
"""Structures with a Bland-Altman plot."""

MAX_PRESENCE_ROWS = 20

DOTS = "One dot per case; box: middle half of the cases; line: median; diamond and bar: mean and its 95 % interval."

POLICIES = {
    "worst value": "A structure in one map only gets the worst value (distances: the image's diagonal); one in neither"
    " map is left out and counted.",
    "nnU-Net": "A structure in one map only gets overlap 0 and no distance, so missed structures vanish from mean"
    " distances; one in neither map is left out and counted.",
    "Metrics Reloaded": "A structure in one map only gets the worst value; one in neither map counts as perfect.",
}
"""What empty masks mean, by the policy's name."""


def results(evaluation: Evaluation, units: Units) -> Section:
    """Return the tables of metrics and presence, and the strip plots."""
    if not evaluation.table:
        return Section(title="Results by structure", blocks=())
    tables, strips = _metric_tables(evaluation, units), _strips(evaluation, units)
    ordered = [*strips, *tables] if len(evaluation.table) > MAX_OPEN_STRUCTURES else [*tables, *strips]
    return Section(title="Results by structure", blocks=(*ordered, _presence(evaluation.table)))


def thresholds(evaluation: Evaluation, units: Units) -> Section:
    """Return which thresholds are reached."""
    if not evaluation.thresholds:
        return Section(title="Thresholds", blocks=())
    columns = ("What for", "Metric", "Asked for", "Mean", "95 %\ninterval", "Cases", "Result", "Source")
    rows = tuple(_verdict(verdict, units) for verdict in evaluation.thresholds)
    note = (
        "Pass: the mean and its whole interval are on the good side. Undecided: only the mean is, or no case has the"
        " structure; more cases could decide. Fail: the mean is on the wrong side."
    )
    table = Table(columns=columns_of(columns, words=(0, 1, 6, 7)), groups=(Group(rows=rows),), note=note)
    return Section(title="Thresholds", blocks=(table,))


def sizes(evaluation: Evaluation, units: Units) -> Section:
    """Return bias and limits of agreement of the sizes."""
    known = [agreement for agreement in evaluation.volumes if agreement.case_ids]
    if not known:
        return Section(title="Sizes", blocks=())
    by_concordance = sorted(known, key=lambda a: (math.isnan(a.concordance), a.concordance))
    chosen = {agreement.structure for agreement in by_concordance[:MAX_PANELS]}
    drawn = [agreement for agreement in known if agreement.structure in chosen]
    which = limited(len(drawn), len(known), "those of lowest concordance")
    note = (
        "One dot per case. Solid line: bias; dashed: limits of agreement, bias ± 1.96 standard deviations, between"
        " which 95 % of the differences lie if they are normal; bands: their 95 % intervals."
    )
    blocks = (
        _agreement_table(known, units),
        Drawing(
            title="Predicted minus reference size (Bland-Altman)",
            svg=bland_altman(drawn, units.sizes),
            note=f"{note} {which}".strip(),
        ),
    )
    return Section(title="Areas" if evaluation.planar else "Volumes", blocks=blocks)


REFERENCE = "The masks of the reference folder. A score beyond the agreement of experts means nothing."


def definitions(evaluation: Evaluation, units: Units) -> Section:
    """Return what the metrics and the statistics mean."""
    policies = dict.fromkeys(row.policy for row in evaluation.table)
    pairs = [
        (_title(metric, units), f"{_definition(evaluation, metric)}; {direction_of(metric)}.")
        for metric in evaluation.metrics
    ]
    pairs += [
        *([("Reference", REFERENCE)] if evaluation.cases else []),
        *((f"Absent structures ({name})", POLICIES.get(name, name)) for name in policies),
        (
            "95 % interval",
            "Percentile bootstrap of the mean: whole patients, with all their cases, are drawn with replacement"
            f" {RESAMPLES} times (seed {evaluation.seed}). It says how far the mean could be off for patients like"
            " these; it is not the range of single results, and it does not cover other scanners or populations.",
        ),
        ("Use", "A mask may guide treatment only after a qualified person approved it."),
    ]
    return Section(title="What the numbers mean", blocks=(Terms(pairs=tuple(pairs)),))


def _title(metric: str, units: Units) -> str:
    unit = units.scale(metric).unit
    return f"{label_of(metric)}, {unit}" if unit else label_of(metric)


def _definition(evaluation: Evaluation, metric: str) -> str:
    text = TEXTS[metric].words
    if metric not in ("nsd", "nsd_voxels", "added_path_length"):
        return text
    tolerances = dict.fromkeys(row.tolerance_mm for case in evaluation.cases for row in case.rows)
    unit = "mm" if evaluation.calibrated else "px"
    if len(tolerances) == 1:
        return f"{text} (tolerance {next(iter(tolerances)):g} {unit})"
    each = {row.name: row.tolerance_mm for case in evaluation.cases for row in case.rows}
    return f"{text} (tolerance " + ", ".join(f"{name} {value:g} {unit}" for name, value in each.items()) + ")"


def _metric_tables(evaluation: Evaluation, units: Units) -> list[Block]:
    groups = [_metric_group(evaluation, metric, units) for metric in evaluation.metrics]
    if len(evaluation.table) == 1:
        return [_one_structure(groups, evaluation.table[0].name)]
    columns = _metric_columns("Structure")
    if len(evaluation.table) * len(groups) <= MAX_TABLE_ROWS:
        return [Table(columns=columns, groups=tuple(groups))]
    return [
        Table(
            columns=columns,
            groups=(Group(rows=group.rows),),
            title=f"{group.title}: all {len(evaluation.table)} structures",
            note=group.note,
            folded=i > 0 or len(evaluation.table) > MAX_OPEN_STRUCTURES,
        )
        for i, group in enumerate(groups)
    ]


def _one_structure(groups: Sequence[Group], name: str) -> Table:
    """One row per metric, whose definitions then stand in a part of their own only."""
    rows = tuple((Cell(text=group.title), *group.rows[0][1:]) for group in groups)
    return Table(columns=_metric_columns("Metric"), groups=(Group(rows=rows),), title=name)


def _metric_columns(first: str) -> tuple[Column, ...]:
    quality = ("Mean", "95 %\ninterval", "Median", "Middle half\nof the cases", "Worst", "in case")
    return columns_of((first, *quality, "Cases\nused", "left\nout"), words=(0, 6))


def _metric_group(evaluation: Evaluation, metric: str, units: Units) -> Group:
    rows = tuple(_metric_row(evaluation, i, metric, units) for i in range(len(evaluation.table)))
    return Group(
        rows=rows, title=_title(metric, units), note=f"{_definition(evaluation, metric)}; {direction_of(metric)}"
    )


def _metric_row(evaluation: Evaluation, index: int, metric: str, units: Units) -> tuple[Cell, ...]:
    row, scale = evaluation.table[index], units.scale(metric)
    found = row.metrics[metric]
    values = [case.rows[index].values[metric] for case in evaluation.cases]
    worst = worse(metric, values)
    return cells(
        row.name,
        Cell(text=scale.text(found.mean), tone="strong"),
        scale.interval(found.interval),
        scale.text(found.median),
        f"{scale.text(found.first_quartile)} to {scale.text(found.third_quartile)}" if found.n_used else "–",
        "–" if worst is None else scale.text(values[worst]),
        "–" if worst is None else evaluation.cases[worst].case_id,
        str(found.n_used),
        str(found.n_excluded),
    )


def _presence(table: Sequence[CohortRow]) -> Table:
    rows = tuple(
        cells(
            row.name,
            str(row.presence.true_positive),
            _counted(row.presence.false_negative),
            _counted(row.presence.false_positive),
            str(row.presence.true_negative),
        )
        for row in table
    )
    return Table(
        columns=columns_of(("Structure", "Found", "Missed", "Invented", "In neither map")),
        groups=(Group(rows=rows),),
        title="Is it there at all? Cases by presence",
        note="Found: in both maps. Missed: only in the reference. Invented: only in the prediction.",
        folded=len(rows) > MAX_PRESENCE_ROWS,
    )


def _counted(n: int) -> Cell:
    tone: Tone | None = "bad" if n else None
    return Cell(text=str(n), tone=tone)


def _strips(evaluation: Evaluation, units: Units) -> list[Block]:
    if not evaluation.cases:
        return []
    return [
        _strip(evaluation, metric, units, folded=i > (0 if len(evaluation.table) > MAX_OPEN_STRUCTURES else 1))
        for i, metric in enumerate(telling(evaluation.metrics))
    ]


def _strip(evaluation: Evaluation, metric: str, units: Units, *, folded: bool) -> Drawing:
    table, scale = evaluation.table, units.scale(metric)
    means = [row.metrics[metric].mean for row in table]
    by_mean = sorted(range(len(table)), key=lambda i: (math.isnan(means[i]), directions.goodness(means[i], metric), i))
    drawn = by_mean[:MAX_STRIPS] if len(by_mean) > MAX_STRIPS else range(len(table))
    ids = tuple(case.case_id for case in evaluation.cases)
    rows = [
        Row(
            name=table[i].name,
            case_ids=ids,
            values=tuple(case.rows[i].values[metric] * scale.factor for case in evaluation.cases),
            spread=table[i].metrics[metric].scaled(scale.factor),
        )
        for i in drawn
    ]
    axis = _strip_axis(rows, _title(metric, units), fraction=not scale.unit)
    note = f"{DOTS} {limited(len(drawn), len(table), 'those with the worst means')}".strip()
    chart = strip_chart(rows, axis, caption=f"{label_of(metric)} of every case", decimals=scale.decimals or 2)
    return Drawing(title=f"{label_of(metric)} of every case", svg=chart, note=note, folded=folded)


def _strip_axis(rows: Sequence[Row], text: str, *, fraction: bool) -> Axis:
    values = [v for row in rows for v in row.values if math.isfinite(v)]
    if fraction and values and min(values) >= 0:
        return Axis(low=max(0.0, math.floor(10 * min(values) - 0.2) / 10), high=1.0, text=text)
    return axis_for(values, text, from_zero=True)


def _verdict(verdict: ThresholdVerdict, units: Units) -> tuple[Cell, ...]:
    threshold = verdict.threshold
    scale = units.scale(threshold.metric)
    tones: dict[str, Tone] = {"pass": "good", "fail": "bad", "undecided": "unsure"}
    sign = "≥" if directions.direction_of(threshold.metric) == "higher" else "≤"
    return cells(
        threshold.task,
        _title(threshold.metric, units),
        f"{sign} {scale.text(threshold.value)}",
        Cell(text=scale.text(verdict.mean), tone="strong"),
        scale.interval(verdict.interval),
        str(verdict.n_used),
        Cell(text=verdict.verdict, tone=tones[verdict.verdict]),
        threshold.source,
    )


def _agreement_table(agreements: Sequence[VolumeAgreement], units: Units) -> Table:
    scale = units.sizes
    columns = (
        "Structure",
        "Cases",
        f"Bias, {scale.unit}\n(95 % interval)",
        "Lower limit\n(95 % interval)",
        "Upper limit\n(95 % interval)",
        "Concordance\n(Lin)",
    )
    rows = tuple(
        cells(
            agreement.structure,
            str(len(agreement.case_ids)),
            scale.estimate(agreement.bias_ml, signed=True),
            *(
                f"{scale.text(limit, signed=True)} ({scale.interval(interval, signed=True)})"
                for limit, interval in zip(agreement.limits_ml, agreement.limits_intervals, strict=True)
            ),
            number(agreement.concordance),
        )
        for agreement in agreements
    )
    return Table(
        columns=columns_of(columns),
        groups=(Group(rows=rows),),
        note="Predicted minus reference; cases in which neither map has the structure are left out.",
        folded=len(rows) > MAX_PRESENCE_ROWS,
        title="Bias and limits of agreement",
    )
