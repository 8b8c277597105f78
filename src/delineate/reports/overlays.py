"""Overlay pictures: an image with the outlines of reference and prediction.

A picture is an SVG of its own: the pixels as a small PNG inside it, the outlines as lines above, so that it stays
sharp in print and a reader can switch each outline on and off. Volumes are shown in three orthogonal planes at one
scale in millimetres. The module knows arrays and grids; it does not know how the case was chosen or segmented.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from delineate.case.image import Image, LabelMap
from delineate.case.labels import LabelScheme, Structure
from delineate.errors import GeometryError
from delineate.masks.outlines import outlines
from delineate.metrics.scores import CaseScores
from delineate.reports import pixels
from delineate.reports.selection import Role
from delineate.reports.svg import Node, element, label, picture
from delineate.reports.views import Box, Hanging, View, box_around, hanging_of, largest_section, views_through

SOFT_TISSUE_WINDOW = (-160.0, 240.0)
"""Hounsfield units shown from black to white: level 40, width 400, the usual abdominal CT window."""

MARGIN_SHARE = 0.35
MARGIN_MM = 15.0
"""What is shown around the structures on every side: a share of their extent, and at least so many mm."""

WIDTH = 1000.0
MAX_HEIGHT = 520.0
GAP = 14.0
HEADER = 22.0
MAX_PIXELS = 1400
"""Longest side of an embedded picture; larger planes are averaged down."""
MAX_NUMBERED = 12
"""Structures that get a number in the picture."""

Lines = tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSettings:
    """How to show an image."""

    window: tuple[float, float] | None = None
    """Intensities shown as black and white; None: percentiles 0.5 and 99.5 of what is shown."""
    channel: int = 0
    colour: bool | None = None
    """Show three channels as red, green and blue; None: for planes of exactly three channels."""
    anatomical: bool = True
    """Whether a volume's grid tells directions in a patient; pictures of other things get no letters."""
    calibrated: bool = True
    """Whether the spacing is a real size, so that a scale bar means something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlay:
    """A drawn case, ready for the page; it holds no arrays."""

    role: Role
    case_id: str
    svg: Markup
    shown: str
    """Which slice, and why."""
    mean_dice: float
    dice: tuple[tuple[str, float], ...]
    """Of each structure, in the order of the numbers in the picture."""
    numbered: bool
    """Whether the structures have numbers in the picture."""


def picture_case(
    scores: CaseScores,
    image: Image,
    reference: LabelMap,
    prediction: LabelMap,
    scheme: LabelScheme,
    *,
    role: Role,
    settings: PictureSettings | None = None,
) -> Overlay:
    """Draw one case with both outlines.

    The planes go through the largest reference area of the structure with the lowest Dice; if the reference does not
    have it, through its largest predicted area.

    Parameters
    ----------
    scores
        Of this case; its Dice values choose the slice and go into the caption.
    image
        ``(channel, z, y, x)`` or ``(channel, y, x)``.
    reference, prediction
        Label maps on the image's grid.
    scheme
        Which values belong to which structure.
    role
        What the case stands for.
    settings
        How to show the image.

    Raises
    ------
    GeometryError
        If a label map does not have the image's shape, or the image has no such channel.
    """
    settings = settings or PictureSettings()
    _validate(scores.case_id, image, (reference, prediction), settings.channel)
    hanging = hanging_of(image.grid)
    truth, guess = hanging.hang(reference.array), hanging.hang(prediction.array)
    worst = _worst_structure(scores, scheme)
    views = _views(truth, guess, worst, scheme, hanging, settings)
    numbered = 1 < len(scheme.structures) <= MAX_NUMBERED
    panels = [_panel(view, image, hanging, (truth, guess), scheme, settings) for view in views]
    return Overlay(
        role=role,
        case_id=scores.case_id,
        svg=_side_by_side(panels, numbered=numbered, scale_bar=settings.calibrated, case_id=scores.case_id),
        shown=_shown(worst, scheme, len(views), image.grid.dims),
        mean_dice=scores.mean_dice,
        dice=tuple((s.name, s.dice) for s in scores.per_structure),
        numbered=numbered,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Panel:
    """One plane: pixels as PNG, and outlines per structure as (row, column) in mm."""

    view: View
    png: bytes
    height_mm: float
    width_mm: float
    reference: tuple[Lines, ...]
    prediction: tuple[Lines, ...]


def _validate(case_id: str, image: Image, labels: Sequence[LabelMap], channel: int) -> None:
    for found in labels:
        if found.array.shape != image.grid.shape:
            raise GeometryError(
                f"Case {case_id}: a label map must have the image's shape {image.grid.shape}; got {found.array.shape}."
            )
    if not 0 <= channel < image.channels:
        raise GeometryError(f"Case {case_id}: the image has {image.channels} channel(s); asked for was {channel}.")


def _worst_structure(scores: CaseScores, scheme: LabelScheme) -> Structure:
    worst = scores.worst_structure
    return next((s for s in scheme.structures if worst and s.name == worst.name), scheme.structures[0])


def _mask(labels: NDArray[Any], structure: Structure) -> NDArray[np.bool_]:
    mask = np.zeros(labels.shape, dtype=bool)
    for value in structure.values:
        mask |= labels == value
    return mask


def _views(
    truth: NDArray[Any],
    guess: NDArray[Any],
    worst: Structure,
    scheme: LabelScheme,
    hanging: Hanging,
    settings: PictureSettings,
) -> tuple[View, ...]:
    drawn = np.zeros(truth.shape, dtype=bool)
    for value in scheme.values:
        drawn |= (truth == value) | (guess == value)
    box = box_around(drawn, hanging.spacing_mm, share=MARGIN_SHARE, least_mm=MARGIN_MM)
    candidates = (_mask(truth, worst), _mask(guess, worst), drawn, np.ones_like(drawn))
    point = largest_section(next(mask for mask in candidates if mask.any()))
    anatomical = settings.anatomical and bool(hanging.order)
    return views_through(point, cast(Box, box), hanging.spacing_mm, anatomical=anatomical)


def _panel(
    view: View,
    image: Image,
    hanging: Hanging,
    labels: tuple[NDArray[Any], NDArray[Any]],
    scheme: LabelScheme,
    settings: PictureSettings,
) -> _Panel:
    shown = _pixels(view, image, hanging, settings)
    truth, guess = (view.cut(array) for array in labels)
    return _Panel(
        view=view,
        png=pixels.png(shown, MAX_PIXELS),
        height_mm=truth.shape[0] * view.spacing_mm[0],
        width_mm=truth.shape[1] * view.spacing_mm[1],
        reference=tuple(_outlines_mm(_mask(truth, s), view) for s in scheme.structures),
        prediction=tuple(_outlines_mm(_mask(guess, s), view) for s in scheme.structures),
    )


def _pixels(view: View, image: Image, hanging: Hanging, settings: PictureSettings) -> NDArray[np.uint8]:
    planar_rgb = image.channels == 3 and image.grid.dims == 2
    if settings.colour if settings.colour is not None else planar_rgb:
        planes = np.stack([view.cut(hanging.hang(channel)) for channel in image.array[:3]], axis=-1)
        whole_range = image.array.dtype == np.uint8 and settings.window is None
        return pixels.to_bytes(planes, (0.0, 255.0) if whole_range else settings.window or pixels.window_of(planes))
    hung = hanging.hang(image.array[settings.channel])
    window = settings.window or pixels.window_of(hung[view.box])
    return pixels.to_bytes(view.cut(hung), window)


def _outlines_mm(mask: NDArray[np.bool_], view: View) -> Lines:
    """Outlines in mm from the corner of the first pixel, whose centre lies half a pixel inside."""
    return tuple((line + 0.5) * view.spacing_mm for line in outlines(mask))


def _shown(worst: Structure, scheme: LabelScheme, n_views: int, dims: int) -> str:
    if dims == 2:
        return "The part of the image that holds the structures."
    planes = "Planes" if n_views > 1 else "Plane"
    which = f"{worst.name}, the structure with the lowest Dice here" if len(scheme.structures) > 1 else worst.name
    return f"{planes} through the largest section of {which}."


def _side_by_side(panels: Sequence[_Panel], *, numbered: bool, scale_bar: bool, case_id: str) -> Markup:
    room = WIDTH - GAP * (len(panels) - 1)
    scale = min(room / sum(p.width_mm for p in panels), MAX_HEIGHT / max(p.height_mm for p in panels))
    header = HEADER if any(p.view.name for p in panels) else 0.0
    group, left = element("g"), 0.0
    for panel in panels:
        group.append(_drawn(panel, left, header, scale, numbered=numbered))
        left += panel.width_mm * scale + GAP
    height = header + max(p.height_mm for p in panels) * scale
    if scale_bar:
        group.append(_scale_bar(panels[0], header, scale))
    return picture(left - GAP, height, group, label=f"Case {case_id} with the outlines of reference and prediction")


def _drawn(panel: _Panel, left: float, top: float, scale: float, *, numbered: bool) -> Node:
    width, height = panel.width_mm * scale, panel.height_mm * scale
    encoded = base64.b64encode(panel.png).decode("ascii")
    group = element(
        "svg",
        element(
            "image", href=f"data:image/png;base64,{encoded}", width=width, height=height, preserveAspectRatio="none"
        ),
        element("g", *_halos(panel.reference, scale), class_="reference"),
        element("g", *_halos(panel.prediction, scale), class_="prediction"),
        element("g", *_strokes(panel.reference, scale), class_="reference"),
        element("g", *_strokes(panel.prediction, scale), class_="prediction"),
        *(_numbers(panel, scale) if numbered else ()),
        *_letters(panel.view, width, height),
        x=left,
        y=top,
        width=width,
        height=height,
    )
    name = label(panel.view.name, left, top - 7, class_="name") if panel.view.name else None
    return element("g", name, group)


def _halos(structures: Sequence[Lines], scale: float) -> list[Node]:
    return [element("path", d=_path(lines, scale), class_="halo") for lines in structures if lines]


def _strokes(structures: Sequence[Lines], scale: float) -> list[Node]:
    return [element("path", d=_path(lines, scale), class_="outline") for lines in structures if lines]


def _path(lines: Lines, scale: float) -> str:
    return "".join(_closed(np.round(line * scale, 1)) for line in lines)


def _closed(points: NDArray[np.float64]) -> str:
    moved = np.any(np.diff(points, axis=0) != 0, axis=1)
    kept = points[np.concatenate([[True], moved])]
    return "M" + "L".join(f"{column:g} {row:g}" for row, column in kept) + "Z"


def _numbers(panel: _Panel, scale: float) -> list[Node]:
    """The number of each structure, above the top of its largest outline in the picture."""
    texts = []
    for number, lines in enumerate((r or p for r, p in zip(panel.reference, panel.prediction, strict=True)), start=1):
        if lines:
            longest = max(lines, key=lambda line: len(line)) * scale
            row, column = (float(v) for v in longest[np.argmin(longest[:, 0])])
            texts.append(label(str(number), column, max(12.0, row - 5), anchor="middle", class_="number"))
    return texts


def _letters(view: View, width: float, height: float) -> list[Node]:
    if view.letters is None:
        return []
    top, bottom, left, right = view.letters
    return [
        label(top, width / 2, 16, anchor="middle", class_="number"),
        label(bottom, width / 2, height - 7, anchor="middle", class_="number"),
        label(left, 7, height / 2 + 4, class_="number"),
        label(right, width - 7, height / 2 + 4, anchor="end", class_="number"),
    ]


def _scale_bar(panel: _Panel, top: float, scale: float) -> Node:
    """A bar of a round length, about a quarter of the first plane, in its lower left corner."""
    rough = panel.width_mm / 4
    power = 10.0 ** math.floor(math.log10(rough))
    length = max(f * power for f in (1.0, 2.0, 5.0) if f * power <= rough)
    y = top + panel.height_mm * scale - 12
    text = f"{length:g} mm" if length < 100 else f"{length / 10:g} cm"
    return element(
        "g",
        element("line", x1=12, x2=12 + length * scale, y1=y, y2=y, class_="bar-halo"),
        element("line", x1=12, x2=12 + length * scale, y1=y, y2=y, class_="bar"),
        label(text, 12, y - 7, class_="number"),
    )
