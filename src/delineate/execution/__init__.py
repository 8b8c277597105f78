"""Running work: mapping a function over items, progress, cancellation, atomic files. Knows nothing of images."""

from delineate.execution.atomic import atomic_path, write_bytes, write_text
from delineate.execution.mapping import Backend, Outcome, map_items
from delineate.execution.progress import Cancellation, Progress, Silent, Watched

__all__ = [
    "Backend",
    "Cancellation",
    "Outcome",
    "Progress",
    "Silent",
    "Watched",
    "atomic_path",
    "map_items",
    "write_bytes",
    "write_text",
]
