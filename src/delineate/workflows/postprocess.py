"""Post-processing of label maps on their grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from delineate.case import LabelMap
from delineate.formats.nnunet.postprocessing_json import read_postprocessing
from delineate.masks import PostprocessingStep, postprocess


def postprocessed(labels: LabelMap, steps: Sequence[PostprocessingStep]) -> LabelMap:
    """Return the label map after a model's post-processing; without steps the map itself."""
    return replace(labels, array=postprocess(labels.array, steps)) if steps else labels


def read_steps(path: Path) -> tuple[PostprocessingStep, ...]:
    """Read the steps of a ``postprocessing.json``, nnU-Net's or ours.

    Raises
    ------
    PlanError
        If the file is missing, of another form, or asks for another function.
    """
    return read_postprocessing(path)
