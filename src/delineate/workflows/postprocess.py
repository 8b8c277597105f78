"""Post-processing of label maps on their grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delineate.case import LabelMap
from delineate.masks import PostprocessingStep, postprocess


def postprocessed(labels: LabelMap, steps: Sequence[PostprocessingStep]) -> LabelMap:
    """Return the label map after a model's post-processing; without steps the map itself."""
    return replace(labels, array=postprocess(labels.array, steps)) if steps else labels
