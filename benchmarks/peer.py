"""What all benchmarks share: the peer's environment and the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

PEER_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
"""glibc keeps memory instead of giving it back to the kernel: what `training.allocator` does for ours."""

COLUMNS = ("operation", "peer", "peer_seconds", "ours_seconds", "ratio", "max_difference", "note")


def show(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a Markdown table."""
    print("| " + " | ".join(name.replace("_", " ") for name in COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(_text(row.get(name)) for name in COLUMNS) + " |", flush=True)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
