"""SVG elements and numbers as text: the few strokes of which all figures are made.

Everything that is put in is escaped when the tree is written; colours are classes, so that the page's style sheet can
follow light, dark and print. The module does not know what is drawn.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree

from markupsafe import Markup

Node = ElementTree.Element


def element(tag: str, *children: Node | str | None, **attributes: str | float | None) -> Node:
    """Return an SVG element; ``class_`` is written ``class``, ``stroke_width`` ``stroke-width``; None is left out."""
    named = {k.rstrip("_").replace("_", "-"): _text(v) for k, v in attributes.items() if v is not None}
    node = ElementTree.Element(tag, named)
    for child in children:
        if isinstance(child, str):
            node.text = (node.text or "") + child
        elif child is not None:
            node.append(child)
    return node


def picture(width: float, height: float, *children: Node | None, label: str) -> Markup:
    """Return a whole picture of so many units, with a label for those who cannot see it."""
    root = element(
        "svg",
        *children,
        viewBox=f"0 0 {_text(width)} {_text(height)}",
        role="img",
        aria_label=label,
        style=f"max-width:{_text(width)}px",
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def label(text: str, x: float, y: float, *, anchor: str = "start", class_: str = "label") -> Node:
    """Return a text whose ``anchor`` (start, middle, end) is at (x, y)."""
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def hover(text: str) -> Node:
    """Return the text that a browser shows when the pointer rests on the parent."""
    return element("title", text)


def clipped(text: str, length: int) -> str:
    """Return the text, shortened to ``length`` characters with an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shortened(text: str, length: int) -> str:
    """Return the text with its middle left out beyond ``length`` characters: names often differ at their ends."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def number(value: float, decimals: int = 3, *, signed: bool = False) -> str:
    """Return a number for people: fixed decimals, a true minus sign, a dash for NaN, a lying eight for infinity."""
    if not math.isfinite(value):
        return _not_finite(value)
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−").replace(",", "\u202f")


def quantity(value: float, *, signed: bool = False) -> str:
    """Return a number with about three significant digits, for values of unknown size such as volumes."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else _not_finite(value)
    return number(value, max(0, 2 - math.floor(math.log10(abs(value)))) if abs(value) >= 1e-6 else 6, signed=signed)


def _not_finite(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
