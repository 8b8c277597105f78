"""Running work: mapping a function over items, progress, cancellation, atomic files. Knows nothing of images."""

from delineate.execution.atomic import atomic_path, write_bytes, write_text
from delineate.execution.mapping import Backend, Outcome, map_items
from delineate.execution.progress import Cancellation, Progress, Silent

__all__ = [
    "Backend",
    "Cancellation",
    "Outcome",
    "Progress",
    "Silent",
    "atomic_path",
    "map_items",
    "write_bytes",
    "write_text",
]
