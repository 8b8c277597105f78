"""``dataset_fingerprint.json``: nnU-Net's keys, and our own facts under one key that nnU-Net does not look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.formats.nnunet.statistics_json import statistics_from_json, statistics_to_json
from delineate.planning.fingerprint import Fingerprint, StructureFacts

OWN_KEY = "delineate"
"""Holds what nnU-Net does not record: volumes and presence of the structures."""


def fingerprint_to_json(fingerprint: Fingerprint, *, own_facts: bool = True) -> dict[str, Any]:
    """Return the fingerprint as nnU-Net's dictionary; with ``own_facts`` also :data:`OWN_KEY`."""
    data: dict[str, Any] = {
        "foreground_intensity_properties_per_channel": statistics_to_json(fingerprint.intensities),
        "median_relative_size_after_cropping": fingerprint.median_relative_size_after_cropping,
        "shapes_after_crop": [list(shape) for shape in fingerprint.shapes_after_crop],
        "spacings": [list(spacing) for spacing in fingerprint.spacings_mm],
    }
    if own_facts and fingerprint.structures:
        data[OWN_KEY] = {"structures": [asdict(facts) for facts in fingerprint.structures]}
    return data


def fingerprint_from_json(data: Mapping[str, Any], *, source: str = "dataset_fingerprint.json") -> Fingerprint:
    """Return the fingerprint of a dictionary written by nnU-Net or Delineate.

    Raises
    ------
    PlanError
        If a key is missing or of the wrong kind; names file and key.
    """
    root = Node(value=data, source=source)
    own = root.get(OWN_KEY)
    structures = () if own is None else tuple(_structure(n) for n in own.child("structures").items())
    return Fingerprint(
        spacings_mm=tuple(n.numbers() for n in root.child("spacings").items()),
        shapes_after_crop=tuple(n.integers() for n in root.child("shapes_after_crop").items()),
        intensities=statistics_from_json(root.child("foreground_intensity_properties_per_channel")),
        median_relative_size_after_cropping=root.child("median_relative_size_after_cropping").number(),
        structures=structures,
    )


def _structure(node: Node) -> StructureFacts:
    return StructureFacts(
        value=node.child("value").integer(),
        name=node.child("name").text(),
        cases=node.child("cases").integer(),
        median_volume_mm3=node.child("median_volume_mm3").number(),
        smallest_volume_mm3=node.child("smallest_volume_mm3").number(),
    )


def write_fingerprint(path: Path, fingerprint: Fingerprint) -> None:
    """Write ``dataset_fingerprint.json``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_text(path, json.dumps(fingerprint_to_json(fingerprint), indent=4))


def read_fingerprint(path: Path) -> Fingerprint:
    """Read a ``dataset_fingerprint.json``.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, or incomplete.
    """
    return fingerprint_from_json(read_document(path).value, source=str(path))
