"""Learning curves, from the records that training leaves behind.

A history is a list of records (dictionaries), one per validation or log line. All keys are optional in each record; a
missing, null or NaN value is a gap. Read are

``step``              optimiser steps so far
``seconds``           wall-clock seconds of training so far; if every record has it, curves run over minutes
``loss``              training loss, the mean since the last record
``validation_loss``   loss on validation patches
``dice``              Dice on validation patches: a mapping from structure to value, or a list in declared order
``learning_rate``     of the optimiser

The module does not know how a network is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from delineate.metrics.statistics import mean_or_nan
from delineate.reports.axes import Axis, Frame, axis_for
from delineate.reports.svg import Node, clipped, element, hover, label, picture

WIDTH = 960.0
HEIGHT = 250.0
LEFT = 56.0
LEGEND = 190.0
COLOURS = 7
"""Line colours in the style sheet; further lines repeat them with dashes."""
MAX_LINES = 14
MAX_POINTS = 1500
"""Points per line; longer histories are thinned evenly."""

Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """The records of one training run; ``name`` is the fold, as the legend shows it."""

    name: str
    records: tuple[Record, ...]
    structures: tuple[str, ...] = ()
    """Names for the entries of ``dice`` where that is a list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve; NaN is a gap."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    guide: bool = False
    """Whether it is something to compare with, drawn grey and dashed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A drawn picture with its title and what a reader should know of it."""

    title: str
    svg: Markup
    note: str = ""


def learning_curves(histories: Sequence[History]) -> tuple[Figure, ...]:
    """Draw loss, validation Dice and learning rate; pictures without any value are left out.

    One history shows training and validation loss and the Dice of every structure; several show one line per history,
    the Dice then being the mean over structures.
    """
    over_time = bool(histories) and all(_is_number(r.get("seconds")) for h in histories for r in h.records)
    x_name = "minutes of training" if over_time else "optimiser steps"
    drawn = [
        ("Loss", _loss_lines(histories, over_time), None, ""),
        ("Dice on validation patches", _dice_lines(histories, over_time), Axis(low=0, high=1), PATCH_NOTE),
        ("Learning rate", _lines(histories, over_time, lambda r, _: r.get("learning_rate"), "learning rate"), None, ""),
    ]
    return tuple(
        Figure(title=title, svg=line_chart(lines, x_name, y, caption=title), note=note)
        for title, lines, y, note in drawn
        if lines
    )


PATCH_NOTE = (
    "Measured during training on random patches of the validation cases; rougher than, and not the same as, the Dice of"
    " whole cases in the tables."
)


def line_chart(lines: Sequence[Line], x_name: str, y: Axis | None = None, *, caption: str) -> Markup:
    """Draw curves under common axes with a legend; at most 14, the rest is left out and said so in the legend.

    Parameters
    ----------
    lines
        Curves to draw.
    x_name
        Name and unit of the abscissa.
    y
        Axis of the ordinate; fitted to the values if None.
    caption
        What the picture shows, for those who cannot see it.
    """
    x_axis = axis_for((v for line in lines for v in line.x), x_name, log=False, from_zero=True)
    y_axis = y or axis_for(v for line in lines for v in line.y)
    frame = Frame(x=x_axis, y=y_axis, left=LEFT, top=14, width=WIDTH - LEFT - LEGEND - 20, height=HEIGHT)
    shown = lines[:MAX_LINES]
    parts = [_curve(line, frame, i) for i, line in enumerate(shown)]
    legend = [_legend(line, i) for i, line in enumerate(shown)] if len(lines) > 1 else []
    if len(lines) > MAX_LINES:
        legend.append(
            label(f"and {len(lines) - MAX_LINES} more", WIDTH - LEGEND + 26, 24 + 18 * MAX_LINES, class_="tick")
        )
    return picture(WIDTH, 14 + max(HEIGHT + 44, 18.0 * len(legend)), frame.draw(), *parts, *legend, label=caption)


def _curve(line: Line, frame: Frame, index: int) -> Node:
    step = max(1, math.ceil(len(line.x) / MAX_POINTS))
    commands, pen_down = [], False
    for x, y in zip(line.x[::step], line.y[::step], strict=True):
        if math.isfinite(x) and math.isfinite(y):
            px, py = frame.place(x, y)
            commands.append(f"{'L' if pen_down else 'M'}{px:.1f} {py:.1f}")
        pen_down = math.isfinite(x) and math.isfinite(y)
    isolated = len(commands) == 1
    if isolated:  # a single point would be an invisible path
        commands.append(commands[0].replace("M", "L"))
    return element("path", hover(line.name), d="".join(commands), class_=f"line {_line_class(line, index)}")


def _legend(line: Line, index: int) -> Node:
    y, x = 24 + 18.0 * index, WIDTH - LEGEND
    name = label(clipped(line.name, 24), x + 26, y + 4, class_="tick")
    name.append(hover(line.name))
    return element("g", element("line", x1=x, x2=x + 20, y1=y, y2=y, class_=f"line {_line_class(line, index)}"), name)


def _line_class(line: Line, index: int) -> str:
    if line.guide:
        return "guide dashed"
    return f"c{index % COLOURS}" + (" dashed" if index >= COLOURS else "")


def _loss_lines(histories: Sequence[History], over_time: bool) -> tuple[Line, ...]:
    training = _lines(histories, over_time, lambda r, _: r.get("loss"), "training")
    validation = _lines(histories, over_time, lambda r, _: r.get("validation_loss"), "validation")
    return training + validation if len(histories) == 1 else training


def _dice_lines(histories: Sequence[History], over_time: bool) -> tuple[Line, ...]:
    if len(histories) != 1:
        return _lines(histories, over_time, lambda r, h: mean_or_nan(list(_dice_of(r, h).values())), "mean")
    names = dict.fromkeys(name for r in histories[0].records for name in _dice_of(r, histories[0]))
    return tuple(
        line
        for name in names
        for line in _lines(histories, over_time, lambda r, h, name=name: _dice_of(r, h).get(name), name)  # type: ignore[misc]
    )


def _dice_of(record: Record, history: History) -> dict[str, float]:
    found = record.get("dice")
    if isinstance(found, Mapping):
        return {str(k): float(v) for k, v in found.items() if _is_number(v)}
    if isinstance(found, Sequence) and not isinstance(found, str):
        names = [*history.structures, *(f"structure {i + 1}" for i in range(len(history.structures), len(found)))]
        return {name: float(v) for name, v in zip(names, found, strict=False) if _is_number(v)}
    return {}


def _lines(
    histories: Sequence[History], over_time: bool, value: Callable[[Record, History], Any], name: str
) -> tuple[Line, ...]:
    lines = []
    for history in histories:
        points = [(_abscissa(r, i, over_time), value(r, history)) for i, r in enumerate(history.records)]
        y = tuple(float(v) if _is_number(v) else math.nan for _, v in points)
        if any(math.isfinite(v) for v in y):
            lines.append(Line(name=name if len(histories) == 1 else history.name, x=tuple(x for x, _ in points), y=y))
    return tuple(lines)


def _abscissa(record: Record, index: int, over_time: bool) -> float:
    if over_time:
        return float(record["seconds"]) / 60
    step = record.get("step")
    return float(step) if step is not None and _is_number(step) else float(index + 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
