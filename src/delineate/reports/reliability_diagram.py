"""Reliability diagrams: how often what was said with some probability was true."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from delineate.metrics.calibration import Reliability
from delineate.reports.axes import Axis, Frame
from delineate.reports.svg import Node, element, hover, label, number, picture

PANEL = 270.0
LEFT = 58.0
GAP = 60.0
TOP = 48.0


def reliability_diagram(curves: Sequence[tuple[str, Reliability]]) -> Markup:
    """Draw a panel per curve, with the line of perfect calibration.

    Parameters
    ----------
    curves
        Title and curve.
    """
    panels = [_panel(i, title, curve) for i, (title, curve) in enumerate(curves)]
    width = len(panels) * (LEFT + PANEL + GAP) - GAP + 12
    return picture(width, TOP + PANEL + 48, *panels, label="Stated probability against how often it was true")


def _panel(index: int, title: str, curve: Reliability) -> Node:
    frame = Frame(
        x=Axis(low=0, high=1, text="stated probability"),
        y=Axis(low=0, high=1, text="share that was true"),
        left=LEFT + index * (LEFT + PANEL + GAP),
        top=TOP,
        width=PANEL,
        height=PANEL,
    )
    heading = label(f"{title}: ECE {number(curve.error)}", frame.left, TOP - 28, class_="name")
    (x1, y1), (x2, y2) = frame.place(0, 0), frame.place(1, 1)
    ideal = element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="agreement")
    used = [i for i, count in enumerate(curve.counts) if count and not math.isnan(float(curve.accuracy[i]))]
    bars = [_bar(frame, curve, i) for i in used]
    points = [frame.place(float(curve.confidence[i]), float(curve.accuracy[i])) for i in used]
    path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    line = element("path", d=path, class_="line c0") if len(points) > 1 else None
    dots = [element("circle", cx=x, cy=y, r=3.6, class_="point") for x, y in points]
    return element("g", *bars, frame.draw(), heading, ideal, line, *dots)


def _bar(frame: Frame, curve: Reliability, index: int) -> Node:
    accuracy = float(curve.accuracy[index])
    left, top = frame.place(float(curve.edges[index]), accuracy)
    right, bottom = frame.place(float(curve.edges[index + 1]), 0)
    said = f"said {number(float(curve.confidence[index]))}, true {number(accuracy)}, {int(curve.counts[index])} voxels"
    width = max(1.0, right - left - 1)
    return element("rect", hover(said), x=left + 0.5, y=top, width=width, height=max(0.5, bottom - top), class_="box")
