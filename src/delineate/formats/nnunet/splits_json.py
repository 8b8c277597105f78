"""``splits_final.json``: the folds of a cross-validation as nnU-Net reads and writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.planning.splits import Split


def splits_to_json(splits: Sequence[Split]) -> list[dict[str, list[str]]]:
    """Return ``[{"train": [...], "val": [...]}, ...]``, one entry per fold."""
    return [{"train": list(split.train), "val": list(split.validation)} for split in splits]


def splits_from_json(data: Any, *, source: str = "splits_final.json") -> tuple[Split, ...]:
    """Return the folds of a parsed splits file.

    Raises
    ------
    PlanError
        If the form is wrong or a fold has no case on one side; names file and fold.
    """
    return tuple(_split(node) for node in Node(value=data, source=source).items())


def _split(node: Node) -> Split:
    train = tuple(n.text() for n in node.child("train").items())
    validation = tuple(n.text() for n in node.child("val").items())
    if not train or not validation:
        raise node.wrong(
            f"this fold has {len(train)} cases to train and {len(validation)} to validate; it needs at least one each"
        )
    return Split(train=train, validation=validation)


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write ``splits_final.json``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_text(path, json.dumps(splits_to_json(splits), indent=4))


def read_splits(path: Path) -> tuple[Split, ...]:
    """Read a ``splits_final.json``.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, or a fold has no case on one side.
    """
    return splits_from_json(read_document(path).value, source=str(path))
