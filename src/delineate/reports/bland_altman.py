"""Bland-Altman plots: the difference of two sizes against their mean, one panel per structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from delineate.metrics.evaluation.volume_agreement import VolumeAgreement
from delineate.metrics.statistics import Interval
from delineate.reports.axes import Axis, Frame, axis_for
from delineate.reports.metric_words import Scale
from delineate.reports.svg import Node, element, hover, label, picture, shortened

COLUMNS = 2
PANEL_WIDTH = 372.0
PANEL_HEIGHT = 190.0
LEFT = 62.0
GAP = 46.0
STEP = PANEL_HEIGHT + 92.0


def bland_altman(agreements: Sequence[VolumeAgreement], scale: Scale) -> Markup:
    """Draw a panel per structure: a dot per case, bias and limits as lines, their intervals as bands.

    Parameters
    ----------
    agreements
        Each with at least one case.
    scale
        How sizes are written.
    """
    panels = [_panel(i, agreement, scale) for i, agreement in enumerate(agreements)]
    width = min(COLUMNS, len(panels)) * (LEFT + PANEL_WIDTH + GAP)
    height = math.ceil(len(panels) / COLUMNS) * STEP
    return picture(width, height, *panels, label="Predicted minus reference size against their mean, per structure")


def _panel(index: int, agreement: VolumeAgreement, scale: Scale) -> Node:
    factor = scale.factor
    pairs = [(p * factor, r * factor) for p, r in zip(agreement.predicted_ml, agreement.reference_ml, strict=True)]
    frame = Frame(
        x=axis_for(((p + r) / 2 for p, r in pairs), f"mean of both, {scale.unit}"),
        y=_difference_axis(pairs, agreement, factor, scale.unit),
        left=LEFT + (index % COLUMNS) * (LEFT + PANEL_WIDTH + GAP),
        top=44 + (index // COLUMNS) * STEP,
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
    )
    title = label(shortened(agreement.structure, 46), frame.left, frame.top - 26, class_="name")
    title.append(hover(agreement.structure))
    zero = _line(frame, 0.0, "zero") if frame.y.low < 0 < frame.y.high else None
    group = element("g", frame.draw(), title, zero)
    lower, upper = agreement.limits_ml
    group.extend(_level(frame, upper * factor, agreement.limits_intervals[1], scale, "limit"))
    group.extend(_level(frame, lower * factor, agreement.limits_intervals[0], scale, "limit"))
    group.extend(_level(frame, agreement.bias_ml.value * factor, agreement.bias_ml.interval, scale, "bias"))
    group.extend(_dot(frame, scale, *case) for case in zip(agreement.case_ids, pairs, strict=True))
    return group


def _difference_axis(
    pairs: Sequence[tuple[float, float]], agreement: VolumeAgreement, factor: float, unit: str
) -> Axis:
    intervals = (agreement.bias_ml.interval, *agreement.limits_intervals)
    ends = [end * factor for interval in intervals for end in (interval.low, interval.high)]
    values = [*(p - r for p, r in pairs), *(limit * factor for limit in agreement.limits_ml), *ends, 0.0]
    return axis_for(values, f"predicted − reference, {unit}", log=False)


def _line(frame: Frame, value: float, style: str) -> Node:
    left, y = frame.place(frame.x.low, value)
    return element("line", x1=left, x2=left + frame.width, y1=y, y2=y, class_=style)


def _level(frame: Frame, value: float, interval: Interval, scale: Scale, style: str) -> list[Node]:
    if math.isnan(value):
        return []
    nodes = [_line(frame, value, f"{style}-line")]
    if not math.isnan(interval.low):
        left, bottom = frame.place(frame.x.low, interval.low * scale.factor)
        top = frame.place(frame.x.low, interval.high * scale.factor)[1]
        band = element("rect", x=left, y=top, width=frame.width, height=max(0.5, bottom - top), class_=f"{style}-band")
        nodes.insert(0, band)
    x, y = frame.place(frame.x.high, value)
    nodes.append(label(scale.text(value / scale.factor, signed=True), x + 6, y + 4, class_="tick"))
    return nodes


def _dot(frame: Frame, scale: Scale, case_id: str, pair: tuple[float, float]) -> Node:
    x, y = frame.place(sum(pair) / 2, pair[0] - pair[1])
    predicted, reference = (scale.text(value / scale.factor) for value in pair)
    text = hover(f"{case_id}: predicted {predicted}, reference {reference} {scale.unit}")
    return element("circle", text, cx=x, cy=y, r=3.2, class_="dot")
