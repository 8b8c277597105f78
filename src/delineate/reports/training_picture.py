"""One picture of how a training went: the loss above, the Dice of validation below."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

from PIL import Image as Pillow
from PIL import ImageDraw

WIDTH, HEIGHT, MARGIN = 800, 320, 40
"""Pixels of one of the two panels, and of the frame around its curve."""
INK, CURVE, PAPER = (60, 60, 60), (30, 100, 200), (255, 255, 255)


def training_picture(losses: Sequence[float], dice: Sequence[float]) -> bytes:
    """Return a PNG with one point per validation.

    Parameters
    ----------
    losses, dice
        Training loss and smoothed Dice in the order of time; values that are not finite are gaps.
    """
    picture = Pillow.new("RGB", (WIDTH, 2 * HEIGHT), PAPER)
    pen = ImageDraw.Draw(picture)
    _panel(pen, 0, "training loss", losses)
    _panel(pen, HEIGHT, "Dice of validation patches, smoothed", dice)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _panel(pen: ImageDraw.ImageDraw, top: int, title: str, values: Sequence[float]) -> None:
    left, right, upper, lower = MARGIN, WIDTH - MARGIN, top + MARGIN, top + HEIGHT - MARGIN
    pen.rectangle((left, upper, right, lower), outline=INK)
    known = [(i, value) for i, value in enumerate(values) if math.isfinite(value)]
    if not known:
        pen.text((left, top + MARGIN // 3), f"{title}: not recorded", fill=INK)
        return
    low, high = min(v for _, v in known), max(v for _, v in known)
    pen.text((left, top + MARGIN // 3), f"{title}: {low:.4g} to {high:.4g}, {len(values)} validations", fill=INK)
    across, up = max(1, len(values) - 1), (high - low) or 1.0
    points = [(left + (right - left) * i / across, lower - (lower - upper) * (v - low) / up) for i, v in known]
    pen.line(points if len(points) > 1 else [*points, *points], fill=CURVE, width=2)
