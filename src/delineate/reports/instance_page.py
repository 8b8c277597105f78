"""The page of a training on instances: what was decided, what was found, where it fails."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from scipy import ndimage

from delineate.execution.atomic import write_bytes
from delineate.metrics.instance_scores import InstanceScores, ScoredPicture, TypeScores
from delineate.metrics.statistics import Interval
from delineate.reports.curves import Line, line_chart
from delineate.reports.document import (
    Block,
    Bullets,
    Document,
    Drawing,
    Facts,
    Group,
    Section,
    Table,
    cells,
    columns_of,
)
from delineate.reports.evaluation_page import document_html
from delineate.reports.pixels import png, to_bytes, window_of
from delineate.reports.report_data import Fact
from delineate.reports.svg import element, number, picture

SHOWN_SIDE = 720
"""Pixels of the longest side of a picture on the page."""
FOUND, REFERENCE = np.array([255, 214, 0], dtype=np.uint8), np.array([0, 214, 255], dtype=np.uint8)
"""Colours of the rims of what was found and of what is there; white where both run."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceFindings:
    """What the page says."""

    title: str
    groups: tuple[InstanceScores, ...]
    types: tuple[TypeScores, ...]
    type_means: tuple[float, float]
    """mPQ+ and PanNuke's mPQ; NaN without types."""
    pictures: tuple[ScoredPicture, ...]
    drawings: tuple[Drawing, ...]
    decisions: tuple[str, ...]
    facts: tuple[Fact, ...]
    curve: tuple[tuple[float, float, float], ...]
    """(minutes, PQ, AP50) on crops of held-out pictures while training."""
    warnings: tuple[str, ...] = ()


def render_instances(findings: InstanceFindings, path: Path) -> None:
    """Write the page as one self-contained HTML file.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    write_bytes(path, document_html(instance_document(findings)).encode("utf-8", errors="replace"))


def instance_document(findings: InstanceFindings) -> Document:
    """Return the words, tables and pictures of the page."""
    return Document(
        kicker="Instances",
        title=findings.title,
        headline=_headline(findings.groups),
        findings=tuple(_sentence(group) for group in findings.groups),
        warnings=findings.warnings,
        sections=(
            Section(title="Scores of held-out pictures", blocks=_tables(findings)),
            Section(title="Worst, median and best pictures", blocks=findings.drawings),
            Section(title="What was decided", blocks=(Bullets(items=findings.decisions), *_curve(findings))),
            Section(title="Every held-out picture", blocks=_every_picture(findings.pictures)),
            Section(title="How it was made", blocks=(Facts(lines=findings.facts),)),
        ),
    )


def chosen_pictures(pictures: Sequence[ScoredPicture]) -> tuple[tuple[str, ScoredPicture], ...]:
    """Return the worst, the median and the best picture of every group by panoptic quality, each once."""
    chosen: list[tuple[str, ScoredPicture]] = []
    for group in dict.fromkeys(one.group for one in pictures):
        mine = sorted((p for p in pictures if p.group == group and p.quality == p.quality), key=lambda p: p.quality)
        places = {0: "worst", len(mine) // 2: "median", len(mine) - 1: "best"} if len(mine) > 2 else {}
        places = places or dict.fromkeys(range(len(mine)), "picture")
        chosen += [(role, mine[place]) for place, role in places.items()]
    return tuple(chosen)


def draw_instances(
    role: str, scored: ScoredPicture, shown: NDArray[Any], found: NDArray[Any], reference: NDArray[Any]
) -> Drawing:
    """Draw a picture (y, x, 1 or 3) with the rims of what was found (yellow) and of what is there (blue)."""
    pixels = to_bytes(shown, window_of(shown))
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    factor = max(1, SHOWN_SIDE // max(found.shape))
    step = max(1, -(-max(found.shape) // (2 * SHOWN_SIDE)))
    pixels, found, reference = (_magnified(part[::step, ::step], factor) for part in (pixels, found, reference))
    pixels = pixels.copy()
    own, there = _rim(found), _rim(reference)
    pixels[own], pixels[there], pixels[own & there] = FOUND, REFERENCE, 255
    height, width = found.shape
    data = base64.b64encode(png(np.ascontiguousarray(pixels), max(height, width))).decode("ascii")
    image = element("image", href=f"data:image/png;base64,{data}", width=float(width), height=float(height))
    shown_width = SHOWN_SIDE * width / max(height, width)
    counted, known = scored.counts
    return Drawing(
        title=f"{scored.group}: {role} ({scored.case_id})",
        svg=_scaled(picture(width, height, image, label=f"Picture {scored.case_id} with outlines"), shown_width),
        note=f"PQ {number(scored.quality)}; {counted} found, {known} in the reference. Yellow: found; blue: reference; "
        "white: both.",
    )


def _scaled(svg: Markup, width: float) -> Markup:
    return Markup('<div style="max-width:{}px">{}</div>').format(round(width), svg)


def _magnified(values: NDArray[Any], factor: int) -> NDArray[Any]:
    large: NDArray[Any] = values.repeat(factor, axis=0).repeat(factor, axis=1)
    return large


def _rim(labels: NDArray[Any]) -> NDArray[np.bool_]:
    inner = ndimage.minimum_filter(labels, 3, mode="nearest") == ndimage.maximum_filter(labels, 3, mode="nearest")
    rim: NDArray[np.bool_] = (labels > 0) & ~inner
    return rim


def _headline(groups: Sequence[InstanceScores]) -> str:
    if not groups:
        return "No picture was held out, so nothing is known about the quality of this model."
    pictures, there = sum(group.n_pictures for group in groups), sum(group.n_instances for group in groups)
    quality = np.nanmean([group.pq for group in groups]) if any(g.pq == g.pq for g in groups) else float("nan")
    several = f" (mean of {len(groups)} groups)" if len(groups) > 1 else ""
    return (
        f"Panoptic quality {number(float(quality), 2)} on {_counted(pictures, 'picture')} with "
        f"{_counted(there, 'object')} that were not trained on{several}."
    )


def _counted(number_of: int, what: str) -> str:
    return f"{number_of} {what}{'' if number_of == 1 else 's'}"


def _sentence(group: InstanceScores) -> str:
    return (
        f"{group.group}: {_counted(group.n_found, 'object')} found where {group.n_instances} are; at an IoU of 0.5, "
        f"AP {number(group.ap50)} as the mean over {_counted(group.n_pictures, 'picture')}."
    )


def _tables(findings: InstanceFindings) -> tuple[Block, ...]:
    found = tuple(
        cells(
            group.group,
            str(group.n_pictures),
            str(group.n_instances),
            str(group.n_found),
            number(group.r2),
            number(group.ap50),
            _ends(group.ap50_interval),
            number(group.ap50_pooled),
            number(group.ap_mean),
        )
        for group in findings.groups
    )
    drawn = tuple(
        cells(group.group, *map(number, (group.pq, group.dq, group.sq, group.aji_plus, group.dice)))
        for group in findings.groups
    )
    counts = "Group,Pictures,Objects,Found,R² of counts,AP@0.5,95 % interval,AP@0.5 pooled,AP 0.5–0.95"
    tables = (
        Table(
            columns=columns_of(counts.split(",")),
            groups=(Group(rows=found),),
            note="AP = TP / (TP + FP + FN), mean over pictures unless pooled.",
        ),
        Table(
            columns=columns_of("Group,PQ,DQ,SQ,AJI+,Dice".split(",")),
            groups=(Group(rows=drawn),),
            note="PQ, DQ and SQ are pooled over pictures, AJI+ and Dice are means over them. The decoding was "
            "chosen on these pictures.",
        ),
    )
    return (*tables, *_type_table(findings)) if findings.groups else ()


def _ends(interval: Interval) -> str:
    """Return both ends, or one dash if there are too few pictures for an interval."""
    return number(interval.low) if math.isnan(interval.low) else f"{number(interval.low)} – {number(interval.high)}"


def _type_table(findings: InstanceFindings) -> tuple[Block, ...]:
    if not findings.types:
        return ()
    rows = tuple(
        cells(one.name, str(one.n_instances), str(one.n_found), number(one.pq), number(one.f1), number(one.r2))
        for one in findings.types
    )
    plus, plain = findings.type_means
    return (
        Table(
            title="Types",
            columns=columns_of("Type,Objects,Found,PQ,F1,R² of counts".split(",")),
            groups=(Group(rows=rows),),
            note=f"A match needs an IoU above 0.5 and the type; counts are pooled over pictures. mPQ+ {number(plus)} "
            f"(CoNIC), mPQ {number(plain)} (PanNuke, mean over pictures).",
        ),
    )


def _every_picture(pictures: Sequence[ScoredPicture]) -> tuple[Block, ...]:
    ordered = sorted(pictures, key=lambda p: (p.group, p.quality if p.quality == p.quality else 2.0, p.case_id))
    rows = tuple(
        cells(p.group, p.case_id, str(p.counts[1]), str(p.counts[0]), number(p.quality), number(p.dice))
        for p in ordered
    )
    if not rows:
        return ()
    titles = "Group,Picture,Objects,Found,PQ,Dice".split(",")
    return (
        Table(
            title=_counted(len(rows), "picture"),
            columns=columns_of(titles, (0, 1)),
            groups=(Group(rows=rows),),
            folded=True,
        ),
    )


def _curve(findings: InstanceFindings) -> tuple[Block, ...]:
    if len(findings.curve) < 2:
        return ()
    minutes, quality, precision = (tuple(column) for column in zip(*findings.curve, strict=True))
    lines = (Line(name="PQ", x=minutes, y=quality), Line(name="AP@0.5", x=minutes, y=precision))
    return (
        Drawing(
            title="Quality while training",
            svg=line_chart(lines, "minutes of training", caption="Quality while training"),
            note="On crops of held-out pictures, before the decoding was chosen; rougher than the tables.",
        ),
    )
