"""Does the model differ from people more than they differ among themselves?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.rater_study import RaterStudy, StructureRaters
from delineate.metrics.statistics import Estimate
from delineate.reports.document import Block, Cell, Column, Drawing, Group, Paragraph, Section, Table, cells
from delineate.reports.evaluation_parts.phrases import axis_of, count, limited
from delineate.reports.forest import Block as ForestBlock
from delineate.reports.forest import Mark, TextColumn, forest
from delineate.reports.heat_map import heat_map
from delineate.reports.metric_words import Scale, Units, label_of
from delineate.reports.svg import number

MAX_STRUCTURES = 6
"""Structures with figures of their own; the tables have all."""

MAX_OPEN_ROWS = 24


def observers(evaluation: Evaluation, units: Units) -> Section:
    """Return the verdict per structure, people among themselves, the model among people, and each person's skill."""
    study = evaluation.raters
    if study is None or not study.structures:
        return Section(title="Observers", blocks=())
    blocks: list[Block] = [Paragraph(text=_design(study))]
    blocks += [Paragraph(text=verdict_among_people(s), weight="verdict") for s in study.structures]
    drawn = study.structures[:MAX_STRUCTURES]
    note = limited(len(drawn), len(study.structures), "the first ones")
    if note:
        blocks.append(Paragraph(text=note, weight="note"))
    for structure in drawn:
        blocks += [_model_among(structure, study, units), _pairs(structure, study, units)]
    blocks.append(_skills(study, units))
    if study.left_out_cases:
        blocks.append(_left_out(study))
    return Section(title="Observers", blocks=tuple(blocks))


def verdict_among_people(found: StructureRaters) -> str:
    """Return the verdict on the model in words; without a model what is known beyond the agreement of two people."""
    if found.verdict is None:
        return " ".join(found.sentences[1:] or found.sentences)
    return f"{found.structure}: {found.verdict.sentence}"


def _design(study: RaterStudy) -> str:
    people = f"{len(set(study.people))} people drew the structures, some of them twice" if study.people else ""
    drew = people or f"{len(study.rater_names)} people drew the structures"
    compared = f"Each person is compared with the consensus ({study.consensus}) of the others"
    if study.model_name is None:
        return f"{drew}. {compared}."
    return (
        f"{drew}. {compared}, and the model with the same consensus; the model may be worse by at most"
        f" {study.margin:g} (margin, declared beforehand)."
    )


def _model_among(found: StructureRaters, study: RaterStudy, units: Units) -> Drawing:
    scale = units.scale(found.metric)
    of_model = (
        ("consensus of all but one", found.model_against_left_out),
        ("majority of all", found.model_against_majority),
        ("STAPLE of all", found.model_against_staple),
    )
    of_people = (
        ("mean over people", found.people_against_left_out),
        *((rater.name, rater.against_consensus) for rater in found.raters),
    )
    of_pairs = (("mean over pairs", found.between_people), ("two masks of one person", found.within_people))
    headings = (
        ("Model against ...", of_model),
        ("Person against the other people", of_people),
        ("Person against person", of_pairs),
    )
    named = [(heading, [(n, e) for n, e in estimates if e is not None]) for heading, estimates in headings]
    values = [v for _, estimates in named for _, e in estimates for v in (e.value, e.interval.low, e.interval.high)]
    who = "The model" if study.model_name else "Everybody"
    svg = forest(
        [ForestBlock(heading=h, marks=tuple(_mark(n, e, scale) for n, e in chosen)) for h, chosen in named if chosen],
        axis_of(values, scale, f"{label_of(found.metric)}, mean over cases"),
        [TextColumn(title="cases", width=60), TextColumn(title="mean (95 % interval)", width=210)],
        caption=f"{who} among {len(study.rater_names)} sets of masks: {found.structure}",
    )
    note = "Compare ‘consensus of all but one’ with the persons below: both face the same kind of reference."
    title = f"{found.structure}: {'the model among people' if study.model_name else 'people among themselves'}"
    return Drawing(title=title, svg=svg, note=note if study.model_name else "")


def _mark(name: str, estimate: Estimate, scale: Scale) -> Mark:
    return Mark(
        name=name,
        value=estimate.value * scale.factor,
        low=estimate.interval.low * scale.factor,
        high=estimate.interval.high * scale.factor,
        texts=(str(estimate.n_used), scale.estimate(estimate)),
    )


def _pairs(found: StructureRaters, study: RaterStudy, units: Units) -> Drawing:
    scale = units.scale(found.metric)
    values = np.array(found.pairwise, np.float64, copy=True)
    np.fill_diagonal(values, math.nan)
    known = values[np.isfinite(values)]
    limits = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    decimals = 2 if scale.decimals == 3 else 1
    texts = [["" if math.isnan(v) else number(v * scale.factor, decimals) for v in row] for row in values]
    svg = heat_map(
        values,
        texts,
        (study.rater_names, study.rater_names),
        limits,
        caption=f"{label_of(found.metric)} of every person with every other: {found.structure}",
    )
    note = "Mean over the cases that both drew; empty where there is none. Darker is a larger value."
    return Drawing(title=f"{found.structure}: {label_of(found.metric)} of every pair", svg=svg, note=note)


def _skills(study: RaterStudy, units: Units) -> Table:
    titles = (
        "Person",
        "Cases",
        "Against the consensus\nof the others (95 % interval)",
        "Sensitivity\n(STAPLE)",
        "Specificity\n(STAPLE)",
    )
    groups = tuple(
        Group(
            title=f"{s.structure}: {label_of(s.metric)}",
            rows=tuple(
                cells(
                    rater.name,
                    str(rater.n_cases),
                    units.scale(s.metric).estimate(rater.against_consensus),
                    number(rater.sensitivity),
                    number(rater.specificity, 4),
                )
                for rater in s.raters
            ),
        )
        for s in study.structures
    )
    columns = tuple(Column(title=title, words=i == 0) for i, title in enumerate(titles))
    table = Table(columns=columns, groups=groups, title="Skill of each person")
    return Table(columns=columns, groups=groups, title=table.title, folded=table.n_rows > MAX_OPEN_ROWS)


def _left_out(study: RaterStudy) -> Table:
    rows: Sequence[tuple[Cell, ...]] = [cells(case, why) for case, why in study.left_out_cases]
    columns = (Column(title="Case", words=True), Column(title="Why", words=True))
    title = f"{count(len(rows), 'case')} left out of the comparison with people"
    return Table(columns=columns, groups=(Group(rows=tuple(rows)),), title=title, folded=True)
