"""Protocols and studies to test with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delineate.clinical.protocol import template
from delineate.clinical.study import PROTOCOL_FILE, Study


def protocol_content(**changes: Any) -> dict[str, Any]:
    content = json.loads(template())
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        if value is None:
            part.pop(last, None)
        else:
            part[last] = value
    return content


def locked_study(root: Path, **changes: Any) -> Study:
    root.mkdir(parents=True, exist_ok=True)
    (root / PROTOCOL_FILE).write_text(json.dumps(protocol_content(**changes)))
    study = Study(root=root)
    study.lock(actor="lead")
    return study


def edit_payload(outcomes: Mapping[str, str], dice: float = 0.9) -> dict[str, Any]:
    """An edit record's payload with the given outcomes by structure."""
    order: Sequence[str] = ("unchanged", "minor", "major", "rejected")
    return {
        "outcome": max(outcomes.values(), key=order.index),
        "structures": [
            {
                "structure": name,
                "outcome": outcome,
                "changed_voxels": 5,
                "edit_dice": dice,
                "surface_dice": dice,
                "added_path_length_mm": 10.0,
                "draft_ml": 1.0,
                "approved_ml": 1.1,
                "volume_change_ml": 0.1,
            }
            for name, outcome in outcomes.items()
        ],
        "tolerance_mm": 1.0,
        "thresholds": {},
        "seconds": None,
    }
