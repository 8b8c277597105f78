"""Instances as files that other programs read: QuPath's GeoJSON, a table, HoVer-Net's JSON.

Everything is written as it goes along, so that hundreds of thousands of objects need no memory of their own.
"""

from __future__ import annotations

import csv
import gzip
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from delineate.case.instances import InstanceTable
from delineate.execution.atomic import atomic_path

COLOURS = ((200, 0, 0), (0, 150, 0), (0, 90, 220), (230, 150, 0), (150, 0, 200), (0, 170, 170), (120, 120, 120))
"""RGB per type, in turn; the first also for objects without a type."""
_NAMESPACE = uuid.UUID("7b1de5c8-3f0c-5d0e-9a55-5a3f6d1f0c77")
"""Equal objects get equal ids."""
_IN_UM = {"area": "Area µm^2", "perimeter": "Perimeter µm", "equivalent_diameter": "Equivalent diameter µm"}
_IN_PIXELS = {"area": "Area px^2", "perimeter": "Perimeter px", "equivalent_diameter": "Equivalent diameter px"}


def write_geojson(path: Path, table: InstanceTable, *, kind: str = "Nucleus") -> None:
    """Write one detection per instance, as QuPath imports them; gzipped if the name ends in ``.gz``.

    Coordinates are pixels (x, y) of the picture, its upper left corner at the origin; rings are closed; ``objectType``
    stands inside ``properties``, where QuPath looks for it.

    Parameters
    ----------
    path
        ``.geojson`` or ``.geojson.gz``.
    table
        The instances.
    kind
        Classification of objects without a type.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, _text(temporary) as stream:
        stream.write('{"type":"FeatureCollection","features":[')
        for index in range(len(table)):
            stream.write(",\n" if index else "\n")
            json.dump(_feature(table, index, kind), stream, ensure_ascii=False, separators=(",", ":"))
        stream.write("\n]}\n")


def write_table(path: Path, table: InstanceTable) -> None:
    """Write one row per instance: number, type, place, shape, brightness; lengths in micrometres if pixels have a size.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    unit = "um" if table.pixel_um is not None else "px"
    lengths = ("perimeter", "equivalent_diameter", "major_axis", "minor_axis")
    heading = {"area": f"area_{unit}2", **{name: f"{name}_{unit}" for name in lengths}}
    names = [name for name in table.columns if name != "label"]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["label", "type", "type_probability", *(heading.get(name, name) for name in names)])
        for index in range(len(table)):
            numbers = [f"{table.columns[name][index]:.6g}" for name in names]
            share = table.type_shares[index]
            probability = "" if np.isnan(share) else f"{share:.4f}"
            writer.writerow([int(table.columns["label"][index]), table.type_name(index), probability, *numbers])


def write_hovernet_json(path: Path, table: InstanceTable, *, magnification: float | None = None) -> None:
    """Write HoVer-Net's JSON: ``bbox`` as (row, column), ``centroid`` and ``contour`` as (x, y), all in this picture's
    pixels.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, _text(temporary) as stream:
        stream.write('{"mag":' + json.dumps(magnification) + ',"nuc":{')
        for index in range(len(table)):
            stream.write((",\n" if index else "\n") + json.dumps(str(int(table.columns["label"][index]))) + ":")
            json.dump(_hovernet_entry(table, index), stream, separators=(",", ":"))
        stream.write("\n}}\n")


def _text(path: Path) -> TextIO:
    if path.name.endswith(".gz"):
        return gzip.open(path, "wt", encoding="utf-8", compresslevel=5)
    return path.open("w", encoding="utf-8")


def _feature(table: InstanceTable, index: int, kind: str) -> dict[str, Any]:
    ring = [[float(x), float(y)] for y, x in table.outlines[index]]
    name = table.type_name(index) or kind
    colour = COLOURS[max(int(table.types[index]) - 1, 0) % len(COLOURS)]
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, json.dumps(ring))),
        "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        "properties": {
            "objectType": "detection",
            "isLocked": False,
            "classification": {"name": name, "color": list(colour)},
            "measurements": _measurements(table, index),
        },
    }


def _measurements(table: InstanceTable, index: int) -> dict[str, float]:
    names = _IN_PIXELS if table.pixel_um is None else _IN_UM
    measured = {shown: float(table.columns[name][index]) for name, shown in names.items()}
    measured |= {name.capitalize(): float(table.columns[name][index]) for name in ("eccentricity", "solidity")}
    if not np.isnan(table.type_shares[index]):
        measured["Type probability"] = float(table.type_shares[index])
    return {name: round(value, 4) for name, value in measured.items()}


def _hovernet_entry(table: InstanceTable, index: int) -> dict[str, Any]:
    columns = table.columns
    share = table.type_shares[index]
    return {
        "bbox": [
            [int(columns["min_y"][index]), int(columns["min_x"][index])],
            [int(columns["max_y"][index]), int(columns["max_x"][index])],
        ],
        "centroid": [round(float(columns["centroid_x"][index]), 3), round(float(columns["centroid_y"][index]), 3)],
        "contour": [[int(x), int(y)] for y, x in _pixel_corners(table, index)],
        "type_prob": None if np.isnan(share) else round(float(share), 4),
        "type": int(table.types[index]) if table.type_names else None,
    }


def _pixel_corners(table: InstanceTable, index: int) -> Iterator[tuple[int, int]]:
    """Yield outline corners moved to the pixels inside them, where HoVer-Net's contours run."""
    outline = table.outlines[index]
    y0, x0 = table.columns["min_y"][index], table.columns["min_x"][index]
    y1, x1 = table.columns["max_y"][index] - 1, table.columns["max_x"][index] - 1
    cy, cx = table.columns["centroid_y"][index], table.columns["centroid_x"][index]
    for y, x in outline:
        inner_y = np.clip(np.floor(y - (0.5 if y > cy + 0.5 else 0.0)), y0, y1)
        inner_x = np.clip(np.floor(x - (0.5 if x > cx + 0.5 else 0.0)), x0, x1)
        yield int(inner_y), int(inner_x)
