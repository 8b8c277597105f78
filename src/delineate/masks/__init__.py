"""Label arrays as shapes: outlines, components and what is kept of them. No torch, no files."""

from delineate.masks.components import label_components, largest_component, without_small_components
from delineate.masks.outlines import outlines
from delineate.masks.postprocessing import PostprocessingStep, postprocess

__all__ = [
    "PostprocessingStep",
    "label_components",
    "largest_component",
    "outlines",
    "postprocess",
    "without_small_components",
]
