"""Label arrays as shapes: outlines and components so far. No torch, no files."""

from delineate.masks.components import label_components, largest_component, without_small_components
from delineate.masks.outlines import outlines

__all__ = ["label_components", "largest_component", "outlines", "without_small_components"]
