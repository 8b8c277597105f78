"""A document: what a page or a PDF says, in order, before anyone decides how it looks.

Both renderings are made from the same value, so they cannot say different things. All text is plain text; whoever
renders it escapes it. The module does not know where the words come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup

from delineate.reports.overlays import Overlay
from delineate.reports.report_data import Fact

Tone = Literal["good", "bad", "unsure", "faint", "strong"]
"""Why a cell looks different; the text must say it as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """The head of a column; ``words`` are set from the left and may wrap, numbers from the right and may not."""

    title: str
    words: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows that belong together, with a title above them if it is not empty."""

    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows and columns."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    title: str = ""
    note: str = ""
    folded: bool = False
    """Whether a page shows only the title until the reader opens it."""

    @property
    def n_rows(self) -> int:
        """Rows of all groups."""
        return sum(len(group.rows) for group in self.groups)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure."""

    kind: ClassVar[str] = "drawing"
    title: str
    svg: Markup
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Paragraph:
    """Running text."""

    kind: ClassVar[str] = "paragraph"
    text: str
    weight: Literal["plain", "note", "verdict"] = "plain"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bullets:
    """Sentences of equal rank."""

    kind: ClassVar[str] = "bullets"
    items: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Terms and what they mean."""

    kind: ClassVar[str] = "terms"
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Labels and values."""

    kind: ClassVar[str] = "facts"
    lines: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """Cases with the outlines of reference and prediction."""

    kind: ClassVar[str] = "pictures"
    overlays: tuple[Overlay, ...]


Block = Table | Drawing | Paragraph | Bullets | Terms | Facts | Pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the document; one without blocks is not shown."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """Everything that is shown, from top to bottom."""

    kicker: str
    title: str
    headline: str
    findings: tuple[str, ...]
    """What a reader in a hurry takes away besides the headline."""
    warnings: tuple[str, ...]
    """What must be known before the numbers are believed."""
    sections: tuple[Section, ...]


def cells(*texts: str | Cell) -> tuple[Cell, ...]:
    """Return a row; plain text becomes a plain cell."""
    return tuple(text if isinstance(text, Cell) else Cell(text=text) for text in texts)


def columns_of(titles: Sequence[str], words: Sequence[int] = (0,)) -> tuple[Column, ...]:
    """Return columns with these titles; those at the indices ``words`` hold words, the others numbers."""
    return tuple(Column(title=title, words=i in words) for i, title in enumerate(titles))
