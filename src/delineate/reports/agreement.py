"""Agreement of volumes: predicted against reference, one small picture per structure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from markupsafe import Markup

from delineate.metrics.scores import CaseScores, StructureScores
from delineate.reports.axes import Frame, axis_for
from delineate.reports.svg import Node, clipped, element, hover, label, picture, quantity

SizeUnit = Literal["ml", "mm³", "mm²", "px"]

UNITS_PER_ML: dict[SizeUnit, float] = {"ml": 1.0, "mm³": 1000.0, "mm²": 1000.0, "px": 1000.0}
"""Of planes, the scores' volumes are areas (a pixel without a size counts as 1 mm^2), so a thousandth is an ml."""

MAX_PANELS = 12
COLUMNS = 3
PANEL = 236.0
GAP = 78.0


def size_unit(scores: Sequence[CaseScores], *, planar: bool, calibrated: bool = True) -> SizeUnit:
    """Return the unit in which the sizes of these structures read best.

    Parameters
    ----------
    scores
        One entry per case.
    planar
        Whether the images are planes, whose sizes are areas.
    calibrated
        Whether the files say how large a pixel is.
    """
    if planar:
        return "mm²" if calibrated else "px"
    sizes = [s.reference_ml for case in scores for s in case.per_structure if s.reference_ml > 0]
    return "mm³" if sizes and max(sizes) < 0.1 else "ml"


def volume_agreement(scores: Sequence[CaseScores], unit: SizeUnit) -> Markup:
    """Draw predicted against reference size for up to 12 structures, with the line of agreement.

    Cases in which a structure is in neither label map are not drawn. Axes are logarithmic if the sizes of a structure
    differ more than fifty-fold.
    """
    names = [s.name for s in scores[0].per_structure] if scores else []
    drawn = [n for n in names if any(_any_volume(case.structure(n)) for case in scores)][:MAX_PANELS]
    rows = math.ceil(len(drawn) / COLUMNS)
    panels = [_panel(i, name, scores, unit) for i, name in enumerate(drawn)]
    width = min(COLUMNS, len(drawn)) * (PANEL + GAP) + 4
    return picture(width, rows * (PANEL + 84), *panels, label="Predicted against reference size per structure")


def _any_volume(scores: StructureScores) -> bool:
    return scores.overlap.reference > 0 or scores.overlap.predicted > 0


def _panel(index: int, name: str, scores: Sequence[CaseScores], unit: SizeUnit) -> Node:
    factor = UNITS_PER_ML[unit]
    points = [
        (case.case_id, s.reference_ml * factor, s.predicted_ml * factor)
        for case in scores
        if _any_volume(s := case.structure(name))
    ]
    axis = axis_for([v for _, *pair in points for v in pair])
    frame = Frame(
        x=axis,
        y=axis,
        left=GAP - 10 + (index % COLUMNS) * (PANEL + GAP),
        top=34 + (index // COLUMNS) * (PANEL + 84),
        width=PANEL,
        height=PANEL,
    )
    title = label(clipped(name, 30), frame.left, frame.top - 14, class_="name")
    below = label(f"reference, {unit}", frame.left + PANEL, frame.top + PANEL + 33, anchor="end", class_="axis")
    beside = label(f"predicted, {unit}", 0, 0, anchor="end", class_="axis")
    beside.set("transform", f"translate({frame.left - 50:.2f} {frame.top:.2f}) rotate(-90)")
    dots = (_point(frame, unit, *point) for point in points)
    return element("g", frame.draw(), title, below, beside, _diagonal(frame), *dots)


def _diagonal(frame: Frame) -> Node:
    return element(
        "line",
        x1=frame.left,
        y1=frame.top + frame.height,
        x2=frame.left + frame.width,
        y2=frame.top,
        class_="agreement",
    )


def _point(frame: Frame, unit: SizeUnit, case_id: str, reference: float, predicted: float) -> Node:
    x, y = frame.place(reference, predicted)
    text = hover(f"{case_id}: reference {quantity(reference)}, predicted {quantity(predicted)} {unit}")
    return element("circle", text, cx=x, cy=y, r=3.2, class_="dot")
