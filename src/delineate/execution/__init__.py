"""Running work: mapping a function over items, progress, cancellation, atomic files. Knows nothing of images."""

from delineate.execution.atomic import (
    atomic_path,
    remove_abandoned,
    remove_leftovers,
    require_writable,
    staging_folder,
    write_bytes,
    write_text,
)
from delineate.execution.cluster import Cluster, open_cluster
from delineate.execution.mapping import Backend, map_items
from delineate.execution.outcome import Outcome
from delineate.execution.progress import Cancellation, Progress, Silent, Watched

__all__ = [
    "Backend",
    "Cancellation",
    "Cluster",
    "Outcome",
    "Progress",
    "Silent",
    "Watched",
    "atomic_path",
    "map_items",
    "open_cluster",
    "remove_abandoned",
    "remove_leftovers",
    "require_writable",
    "staging_folder",
    "write_bytes",
    "write_text",
]
