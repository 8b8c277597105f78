"""Pictures of evaluated cases: the worst ones, the median and the best, with both outlines on the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelMap, LabelScheme, Structure
from delineate.errors import DelineateError
from delineate.formats.images import read_image
from delineate.geometry.grid import Grid
from delineate.metrics.scores import CaseScores
from delineate.reports import SOFT_TISSUE_WINDOW, Choice, Overlay, PictureSettings, choose_cases, picture_case
from delineate.workflows.measure_case import CaseToMeasure, MeasuredCase, MeasuringRules, placed_on

WORST = 3
"""Worst cases that are shown, if there are at least twice as many cases."""


def picture_cases(
    cases: Sequence[CaseToMeasure],
    measured: Sequence[MeasuredCase],
    rules: MeasuringRules,
    modality: str | None,
) -> tuple[Overlay, ...]:
    """Draw the cases that a reader wants to see; failed ones have nothing to draw.

    Where the image is not known, or lies on another grid, the outlines stand on an empty ground.
    """
    scores = {m.case_id: m.scores for m in measured if m.scores is not None and m.failure is None}
    by_id = {case.reference.case_id: (case, m) for case, m in zip(cases, measured, strict=True)}
    pictures = []
    for choice in _choices(list(scores.values())):
        case, found = by_id[choice.case_id]
        try:
            pictures.append(_picture(choice, case, found, scores[choice.case_id], rules, modality))
        except DelineateError:
            continue  # a file that was removed meanwhile; its numbers stand
    return tuple(pictures)


def _choices(scores: Sequence[CaseScores]) -> tuple[Choice, ...]:
    chosen = choose_cases(scores)
    if len(scores) < 2 * WORST:
        return chosen
    known = [s for s in scores if not np.isnan(s.mean_dice)]
    ranked = [s.case_id for s in sorted(known, key=lambda s: (s.mean_dice, s.case_id))]
    shown = {choice.case_id for choice in chosen}
    more = tuple(Choice(role="worst", case_id=case_id) for case_id in ranked[1:WORST] if case_id not in shown)
    return (*chosen[:1], *more, *chosen[1:])


def _picture(
    choice: Choice,
    case: CaseToMeasure,
    measured: MeasuredCase,
    scores: CaseScores,
    rules: MeasuringRules,
    modality: str | None,
) -> Overlay:
    truth, guess = placed_on(rules, case)
    image = _image(case, truth.grid)
    ct = modality is not None and modality.casefold() == "ct" and image is not None
    scheme, order = _consecutive(rules)
    return picture_case(
        scores,
        image or Image(array=np.zeros((1, *truth.grid.shape), np.uint8), grid=truth.grid),
        LabelMap(array=_renumbered(truth.array, order), grid=truth.grid, scheme=scheme),
        LabelMap(array=_renumbered(guess.array, order), grid=truth.grid, scheme=scheme),
        scheme,
        role=choice.role,
        settings=PictureSettings(window=SOFT_TISSUE_WINDOW if ct else None, calibrated=measured.calibrated),
    )


def _image(case: CaseToMeasure, grid: Grid) -> Image | None:
    if not case.reference.images:
        return None
    try:
        image = read_image(list(case.reference.images))
    except DelineateError:
        return None
    if image.grid.shape != grid.shape or not np.isfinite(image.array).all():
        return None
    return Image(array=image.array, grid=grid)


def _consecutive(rules: MeasuringRules) -> tuple[LabelScheme, dict[int, int]]:
    """Return the structures with the values 1, 2, 3, ... that a scheme needs, and which value became which."""
    values = sorted({value for structure in rules.structures for value in structure.values})
    order = {value: i for i, value in enumerate(values, start=1)}
    structures = tuple(Structure(name=s.name, values=tuple(order[v] for v in s.values)) for s in rules.structures)
    regions = any(len(s.values) > 1 for s in structures)
    # which region would be burnt over which does not matter for outlines
    return LabelScheme(structures=structures, region_order=(1,) * len(structures) if regions else None), order


def _renumbered(labels: NDArray[np.integer], order: dict[int, int]) -> NDArray[np.uint16]:
    result = np.zeros(labels.shape, np.uint16)
    for old, new in order.items():
        result[labels == old] = new
    return result
