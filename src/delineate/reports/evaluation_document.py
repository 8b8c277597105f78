"""The report of an evaluation as a document: which parts, in which order."""

from __future__ import annotations

from collections.abc import Sequence

from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.reports.document import Block, Document, Facts, Paragraph, Pictures, Section
from delineate.reports.evaluation_parts import case_table, groups, observers, results, rivals, sites, trust, words
from delineate.reports.metric_words import units_of
from delineate.reports.overlays import Overlay
from delineate.reports.report_data import Fact


def evaluation_document(
    evaluation: Evaluation, *, overlays: Sequence[Overlay] = (), facts: Sequence[Fact] = (), created: str = ""
) -> Document:
    """Return everything that the report of an evaluation says.

    Parameters
    ----------
    evaluation
        What was found.
    overlays
        Drawn cases, in the order of the report.
    facts
        How it was made: folders, command, versions.
    created
        Date and time as they should appear.
    """
    units = units_of(evaluation.cases, planar=evaluation.planar, calibrated=evaluation.calibrated)
    sections = (
        results.results(evaluation, units),
        results.thresholds(evaluation, units),
        _pictures(overlays),
        results.sizes(evaluation, units),
        groups.subgroups(evaluation, units),
        sites.shifts(evaluation, units),
        rivals.comparison(evaluation, units),
        observers.observers(evaluation, units),
        trust.trust(evaluation),
        results.definitions(evaluation, units),
        case_table.all_cases(evaluation, units),
        _making(evaluation, facts),
    )
    return Document(
        kicker="Evaluation" + (f" · {created}" if created else ""),
        title=evaluation.name,
        headline=words.headline(evaluation, units),
        findings=words.findings(evaluation, units),
        warnings=words.warnings(evaluation),
        sections=tuple(section for section in sections if section.blocks),
    )


def _pictures(overlays: Sequence[Overlay]) -> Section:
    if not overlays:
        return Section(title="Pictures", blocks=())
    why = Paragraph(text="Chosen by mean Dice among all cases, not by eye.")
    return Section(title="Pictures", blocks=(why, Pictures(overlays=tuple(overlays))))


def _making(evaluation: Evaluation, facts: Sequence[Fact]) -> Section:
    policies = ", ".join(dict.fromkeys(row.policy for row in evaluation.table))
    own = [Fact(label="Seed of bootstraps and permutations", value=str(evaluation.seed))]
    if policies:
        own.append(Fact(label="Policy for absent structures", value=policies))
    block: Block = Facts(lines=(*facts, *own))
    return Section(title="How it was made", blocks=(block,))
