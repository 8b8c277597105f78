"""The report of an evaluation as a page: one HTML file that needs neither network nor scripts, and prints well."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from delineate.execution.atomic import write_bytes
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.reports.document import Document
from delineate.reports.evaluation_document import evaluation_document
from delineate.reports.overlays import Overlay
from delineate.reports.report_data import Fact
from delineate.reports.svg import number

TEMPLATE = "evaluation.html.j2"


def render_evaluation(
    evaluation: Evaluation,
    path: Path,
    *,
    overlays: Sequence[Overlay] = (),
    facts: Sequence[Fact] = (),
    created: str = "",
) -> None:
    """Write the report of an evaluation as one self-contained HTML file; equal data give equal bytes.

    Parameters
    ----------
    evaluation
        What was found; parts that it does not have are left out.
    path
        File to write; it appears whole or not at all.
    overlays
        Drawn cases, in the order of the page.
    facts
        How it was made: folders, command, versions.
    created
        Date and time as they should appear; passed in, so that equal data give an equal page.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    text = evaluation_html(evaluation, overlays=overlays, facts=facts, created=created)
    # names of files can hold bytes that are no text; they must not cost the reader the report
    write_bytes(path, text.encode("utf-8", errors="replace"))


def evaluation_html(
    evaluation: Evaluation, *, overlays: Sequence[Overlay] = (), facts: Sequence[Fact] = (), created: str = ""
) -> str:
    """Return the report of an evaluation as HTML text; see :func:`render_evaluation`."""
    return document_html(evaluation_document(evaluation, overlays=overlays, facts=facts, created=created))


def document_html(document: Document) -> str:
    """Return any document as HTML text."""
    environment = Environment(
        loader=PackageLoader("delineate.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template(TEMPLATE).render(document=document)
