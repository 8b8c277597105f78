"""The report of an evaluation as a PDF: A4, page numbers, tables that break across pages.

The document of the page is handed to typst as data (JSON), never as markup, so nothing that comes from outside can
become part of the program that sets the pages. Only here is the package ``typst`` known; it carries its own fonts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from delineate.errors import ResourceError
from delineate.execution.atomic import write_bytes
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.reports.document import Block, Bullets, Document, Drawing, Facts, Paragraph, Pictures, Table, Terms
from delineate.reports.evaluation_document import evaluation_document
from delineate.reports.overlays import Overlay
from delineate.reports.report_data import Fact
from delineate.reports.svg import number

MISSING = "A PDF needs the package typst; install delineate[report], or read the HTML page, which says the same."

MAX_ROWS = 600
"""Rows of one table; some 12 pages. The page and the CSV tables have all."""

LONG_WORD = 16
"""Letters after which a word may break at its joints, so that file names fit into columns."""

FONT = "Libertinus Serif"
"""One of the fonts inside typst; the PDF then does not depend on the machine."""

PRINTED_TEXT = (
    f"svg, svg text {{ font-family: '{FONT}'; }} .tick, .axis {{ font-size: 15px; }} .name {{ font-size: 16px; }}"
    " .value { font-size: 15.5px; } svg .number { font-size: 17px; }"
)
"""Figures are printed at half of their size on a screen, and the font is narrower than those of a page."""

WIDEST_WORDS = 34
"""Letters from which on a column of words grows no further and wraps."""

ROLES = {"best": "Best case", "median": "Median case", "worst": "Worst case", "only": "The only case"}

_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_JOINTS = re.compile(r"([_/\\.:=+-])(?=\w)")


def render_evaluation_pdf(
    evaluation: Evaluation,
    path: Path,
    *,
    overlays: Sequence[Overlay] = (),
    facts: Sequence[Fact] = (),
    created: str = "",
) -> None:
    """Write the report of an evaluation as PDF; equal data give equal bytes with one version of typst.

    Parameters
    ----------
    evaluation
        What was found; parts that it does not have are left out.
    path
        File to write; it appears whole or not at all.
    overlays
        Drawn cases, in the order of the report.
    facts
        How it was made: folders, command, versions.
    created
        Date and time as they should appear; the file itself carries no date.

    Raises
    ------
    ResourceError
        If typst is not installed, the folder cannot be written or the disk is full.
    """
    document = evaluation_document(evaluation, overlays=overlays, facts=facts, created=created)
    write_bytes(path, _compiled(document))


def _compiled(document: Document) -> bytes:
    try:
        import typst
    except ImportError as error:
        raise ResourceError(MISSING) from error
    templates = resources.files("delineate.reports") / "templates"
    pdf: bytes = typst.compile(
        (templates / "evaluation.typ").read_bytes(),
        format="pdf",
        sys_inputs={"data": document_json(document)},
        ignore_system_fonts=True,
        timestamp=0,
    )
    return pdf


def document_json(document: Document) -> str:
    """Return the document as the JSON text that the typst template reads."""
    style = _figure_style()
    data = {
        "kicker": document.kicker,
        "title": document.title,
        "headline": document.headline,
        "findings": document.findings,
        "warnings": document.warnings,
        "sections": [
            {"title": section.title, "blocks": [_block(block, style) for block in section.blocks]}
            for section in document.sections
        ],
    }
    return json.dumps(_readable(data), ensure_ascii=False, allow_nan=False)


def _block(block: Block, style: str) -> dict[str, Any]:
    match block:
        case Table():
            content = _table(block)
        case Drawing():
            content = {"title": block.title, "note": block.note, **_figure(block.svg, style)}
        case Paragraph():
            content = {"text": block.text, "weight": block.weight}
        case Bullets():
            content = {"items": block.items}
        case Terms():
            content = {"pairs": block.pairs}
        case Facts():
            content = {"pairs": [(fact.label, fact.value) for fact in block.lines]}
        case Pictures():
            content = {"pictures": [_picture(overlay, style) for overlay in block.overlays]}
    return {"kind": block.kind, **content}


def _table(table: Table) -> dict[str, Any]:
    room, groups = MAX_ROWS, []
    for group in table.groups:
        rows = [[{"text": breakable(cell.text), "tone": cell.tone or ""} for cell in row] for row in group.rows[:room]]
        room -= len(rows)
        if rows:
            groups.append({"title": group.title, "note": group.note, "rows": rows})
    left_out = table.n_rows - MAX_ROWS
    note = f"{left_out} further rows are in the HTML page and in the tables beside this file." if left_out > 0 else ""
    return {
        "title": table.title,
        "note": f"{table.note} {note}".strip(),
        "columns": [
            {"title": column.title, "words": column.words, "weight": weight}
            for column, weight in zip(table.columns, _weights(table), strict=True)
        ],
        "letters": sum(_weights(table)),
        "groups": groups,
    }


def _weights(table: Table) -> list[int]:
    """Letters of the longest text of each column, within bounds: how the columns of words share the room."""
    texts = [list(column.title.split("\n")) for column in table.columns]
    for group in table.groups:
        for row in group.rows:
            for i, cell in enumerate(row):
                texts[i].append(cell.text)
    return [min(max(6, *map(len, column)), WIDEST_WORDS) for column in texts]


def _picture(overlay: Overlay, style: str) -> dict[str, Any]:
    scores = [("mean Dice", number(overlay.mean_dice))]
    numbers = [f"{i} {name}" if overlay.numbered else name for i, (name, _) in enumerate(overlay.dice, start=1)]
    scores += [(name, number(dice)) for name, (_, dice) in zip(numbers, overlay.dice, strict=True)]
    title = ROLES[overlay.role]
    return {
        "title": title,
        "case": overlay.case_id,
        "scores": scores,
        "note": overlay.shown,
        **_figure(overlay.svg, style),
    }


def _figure(svg: str, style: str) -> dict[str, Any]:
    head, rest = svg.split(">", 1)  # '>' is escaped in attributes
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    label = re.search(r'aria-label="([^"]*)"', head)
    return {
        "svg": f'{head} xmlns="http://www.w3.org/2000/svg">{style}{rest}',
        "width": float(found.group(1)) if found else 960.0,
        "height": float(found.group(2)) if found else 0.0,
        "alt": label.group(1) if label else "",
    }


def _figure_style() -> str:
    """The figures' part of the style sheet with the colours of a light page in place of its variables."""
    templates = resources.files("delineate.reports") / "templates"
    sheet = (templates / "report.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-fA-F]+);", sheet.split("@media", 1)[0]))
    rules = (templates / "figures.css").read_text(encoding="utf-8")
    for name, colour in colours.items():
        rules = rules.replace(f"var(--{name})", colour)
    return f"<style>{rules} {PRINTED_TEXT}</style>"


def breakable(text: str) -> str:
    """Return the text with invisible places to break after the joints of long words."""
    return " ".join(_JOINTS.sub("\\1\u200b", word) if len(word) > LONG_WORD else word for word in text.split(" "))


def _readable(value: Any) -> Any:
    """The same with only such text as XML and UTF-8 can hold; file names can hold other things."""
    if isinstance(value, str):
        return _NOT_XML.sub("\ufffd", value.encode("utf-8", errors="replace").decode("utf-8"))
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return value
