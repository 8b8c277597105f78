"""Label arrays as shapes: outlines, components and what is kept of them, skin. No torch, no files."""

from delineate.masks.cleanup import drop_small_pieces, keep_largest_piece
from delineate.masks.components import label_components, largest_component, without_small_components
from delineate.masks.outlines import outlines
from delineate.masks.postprocessing import PostprocessingStep, postprocess
from delineate.masks.skin import skin_of

__all__ = [
    "PostprocessingStep",
    "drop_small_pieces",
    "keep_largest_piece",
    "label_components",
    "largest_component",
    "outlines",
    "postprocess",
    "skin_of",
    "without_small_components",
]
