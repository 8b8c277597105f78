"""Instances as files that other programs read: QuPath's GeoJSON, a table, HoVer-Net's JSON.

Everything is written as it goes along, so that hundreds of thousands of objects need no memory of their own.
"""

from __future__ import annotations

import csv
import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from delineate.case.instances import InstanceTable
from delineate.execution.atomic import atomic_path

COLOURS = ((200, 0, 0), (0, 150, 0), (0, 90, 220), (230, 150, 0), (150, 0, 200), (0, 170, 170))
"""RGB per type, in turn."""
COLOUR_WITHOUT_TYPE, GREY = COLOURS[0], (120, 120, 120)
"""RGB of all objects where there are no types, and of an object that has none among others that have."""
_NAMESPACE = uuid.UUID("7b1de5c8-3f0c-5d0e-9a55-5a3f6d1f0c77")
"""Equal objects get equal ids."""
_IN_UM = {"area": "Area µm^2", "perimeter": "Perimeter µm", "equivalent_diameter": "Equivalent diameter µm"}
_IN_PIXELS = {"area": "Area px^2", "perimeter": "Perimeter px", "equivalent_diameter": "Equivalent diameter px"}


Append = Callable[[InstanceTable], None]
"""Writes the instances of one more part of a picture."""


@contextmanager
def geojson_writer(path: Path, *, kind: str = "Nucleus") -> Iterator[Append]:
    """Open a file of one detection per instance, as QuPath imports them; gzipped if the name ends in ``.gz``.

    Coordinates are pixels (x, y) of the picture, its upper left corner at the origin; rings are closed; ``objectType``
    stands inside ``properties``, where QuPath looks for it.

    Parameters
    ----------
    path
        ``.geojson`` or ``.geojson.gz``; it appears whole when the block ends, or not at all.
    kind
        Classification of objects without a type.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, _text(temporary) as stream:
        stream.write('{"type":"FeatureCollection","features":[')
        before = _Separator(stream)

        def append(table: InstanceTable) -> None:
            for index in range(len(table)):
                before()
                stream.write(_json(_feature(table, index, kind)))

        yield append
        stream.write("\n]}\n")


@contextmanager
def table_writer(path: Path) -> Iterator[Append]:
    """Open a table of one row per instance: number, type, place, shape, brightness.

    Places are pixels; lengths are micrometres if pixels have a size, and places are told in micrometres too.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        headed = False

        def append(table: InstanceTable) -> None:
            nonlocal headed
            if not headed:
                writer.writerow(_heading(table))
                headed = True
            for index in range(len(table)):
                writer.writerow(_row(table, index))

        yield append


@contextmanager
def hovernet_writer(path: Path, *, magnification: float | None = None) -> Iterator[Append]:
    """Open HoVer-Net's JSON: ``bbox`` as (row, column), ``centroid`` and ``contour`` as (x, y), all in pixels.

    Raises
    ------
    ResourceError
        If the file cannot be written.

    References
    ----------
    S. Graham et al., HoVer-Net, Med. Image Anal. 58 (2019); the published program's ``run_infer.py``.
    """
    with atomic_path(path) as temporary, _text(temporary) as stream:
        stream.write('{"mag":' + json.dumps(magnification) + ',"nuc":{')
        before = _Separator(stream)

        def append(table: InstanceTable) -> None:
            for index in range(len(table)):
                before()
                stream.write(json.dumps(str(int(table.columns["label"][index]))) + ":")
                stream.write(_json(_hovernet_entry(table, index)))

        yield append
        stream.write("\n}}\n")


def write_geojson(path: Path, table: InstanceTable, *, kind: str = "Nucleus") -> None:
    """Write all instances of a picture; see :func:`geojson_writer`."""
    with geojson_writer(path, kind=kind) as append:
        append(table)


def write_table(path: Path, table: InstanceTable) -> None:
    """Write all instances of a picture; see :func:`table_writer`."""
    with table_writer(path) as append:
        append(table)


def write_hovernet_json(path: Path, table: InstanceTable, *, magnification: float | None = None) -> None:
    """Write all instances of a picture; see :func:`hovernet_writer`."""
    with hovernet_writer(path, magnification=magnification) as append:
        append(table)


class _Separator:
    """A line break before the first entry, a comma and a line break before the others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._first = stream, True

    def __call__(self) -> None:
        self._stream.write("\n" if self._first else ",\n")
        self._first = False


_LENGTHS = ("perimeter", "equivalent_diameter", "major_axis", "minor_axis")


def _heading(table: InstanceTable) -> list[str]:
    unit = "um" if table.pixel_um is not None else "px"
    heading = {"area": f"area_{unit}2", **{name: f"{name}_{unit}" for name in _LENGTHS}}
    places = ["centroid_x_um", "centroid_y_um"] if table.pixel_um is not None else []
    return ["label", "type", "type_probability", *places, *(heading.get(name, name) for name in _names(table))]


def _names(table: InstanceTable) -> list[str]:
    return [name for name in table.columns if name != "label"]


def _row(table: InstanceTable, index: int) -> list[Any]:
    numbers = [f"{table.columns[name][index]:.6g}" for name in _names(table)]
    share, places = table.type_shares[index], list[str]()
    if table.pixel_um is not None:
        # from the picture's corner: the centre of the first pixel is half a pixel away from it
        centre = (table.columns[name][index] + 0.5 for name in ("centroid_x", "centroid_y"))
        places = [f"{place * table.pixel_um:.6g}" for place in centre]
    probability = "" if np.isnan(share) else f"{share:.4f}"
    return [int(table.columns["label"][index]), table.type_name(index), probability, *places, *numbers]


def _text(path: Path) -> TextIO:
    if path.name.endswith(".gz"):
        return gzip.open(path, "wt", encoding="utf-8", compresslevel=5)
    return path.open("w", encoding="utf-8")


def _feature(table: InstanceTable, index: int, kind: str) -> dict[str, Any]:
    ring = table.outlines[index][:, ::-1].astype(float).tolist()
    name = table.type_name(index) or kind
    number = int(table.types[index])
    untyped = GREY if table.type_names else COLOUR_WITHOUT_TYPE
    colour = COLOURS[(number - 1) % len(COLOURS)] if number else untyped
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
    if "confidence" in table.columns:
        measured["Confidence"] = float(table.columns["confidence"][index])
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
        "contour": _pixel_corners(table.outlines[index])[:, ::-1].tolist(),
        "type_prob": None if np.isnan(share) else round(float(share), 4),
        "type": int(table.types[index]) if table.type_names else None,
    }


def _pixel_corners(outline: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the corners (corner, 2) of an outline moved to the pixels inside them, where HoVer-Net's contours run.

    The outline has the inside on its right: below an edge to the right, above one to the left, left of one downwards,
    right of one upwards.
    """
    corners = np.rint(outline).astype(np.int64)
    leaves = np.roll(corners, -1, axis=0) - corners  # (dy, dx) of the edge that leaves each corner
    enters = np.roll(leaves, 1, axis=0)
    levelled = leaves[:, :1] == 0
    level, upright = np.where(levelled, leaves, enters), np.where(levelled, enters, leaves)
    return corners - np.stack([level[:, 1] < 0, upright[:, 0] > 0], axis=1)


def _json(entry: dict[str, Any]) -> str:
    """Return one line; ``json.dumps`` is compiled, and many times faster than ``json.dump`` to a file."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
