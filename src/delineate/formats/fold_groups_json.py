"""``fold_groups.json``: which group (site, scanner) each fold holds out; stands beside ``splits_final.json``.

nnU-Net's splits file has no place for it and stays as nnU-Net reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import read_document
from delineate.planning.splits import FoldGroups

STRATEGY = "leave one group out"


def write_fold_groups(path: Path, groups: FoldGroups) -> None:
    """Write the groups of the folds, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    content = {
        "strategy": STRATEGY,
        "column": groups.column,
        "folds": {str(fold): name for fold, name in enumerate(groups.names)},
        "not_recorded": list(groups.not_recorded),
    }
    write_text(path, json.dumps(content, indent=2))


def read_fold_groups(path: Path) -> FoldGroups:
    """Read a file of :func:`write_fold_groups`.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, or not of this form.
    """
    root = read_document(path)
    folds = root.child("folds")
    return FoldGroups(
        column=root.child("column").text(),
        names=tuple(folds.child(str(fold)).text() for fold in range(len(folds.keys()))),
        not_recorded=tuple(node.text() for node in root.child("not_recorded").items()),
    )
