"""A folder of segmented pictures: which files a picture has there, how they were made, and the counts of all.

``nuclei.json`` keeps the model and the settings; what was made otherwise is never mixed in silently. A picture whose
files all stand is finished, so the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from delineate.errors import UsageError
from delineate.execution import require_writable, write_text

LABELS, GEOJSON, TABLE, HOVERNET, SHOWN = ".tif", ".geojson", ".csv", ".hovernet.json", ".png"
"""Endings of the files of a picture; the last is written last."""
ENDINGS = (LABELS, GEOJSON, TABLE, HOVERNET, SHOWN)
RECORD, COUNTS = "nuclei.json", "counts.csv"
UM2_PER_MM2 = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What was found in one picture."""

    name: str
    count: int
    by_type: tuple[tuple[str, int], ...]
    pixels: int = 0
    """Of the whole picture."""
    kept: bool = False
    """It stood there already and was not segmented again."""


def open_results(out: Path, pictures: Sequence[Path], manner: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the folder of the results, or say why it cannot be that, before anything is segmented.

    Parameters
    ----------
    out
        The folder.
    pictures
        Whose results will lie in it.
    manner
        Model and settings, as JSON values; everything that the results depend on.
    overwrite
        Results that were made in another manner may be replaced.

    Raises
    ------
    UsageError
        If a picture lies in the folder, where files of its name would replace it; or results made otherwise do.
    ResourceError
        If it cannot be written.
    """
    if any(path.resolve().parent == out.resolve() for path in pictures):
        raise UsageError(
            f"{out} holds the pictures, and results of the same names would replace them. Choose another output folder."
        )
    require_writable(out)
    stood = _manner_of(out / RECORD)
    before, now = _flat(stood), _flat(manner)
    differing = [f"{key} was {before.get(key)} and is now {now[key]}" for key in now if before.get(key) != now[key]]
    if stood and differing and not overwrite:
        raise UsageError(
            f"{out} holds results that were made otherwise: {'; '.join(differing)}. Choose another output folder, or "
            "replace them with --overwrite."
        )
    write_text(out / RECORD, json.dumps(dict(manner), indent=1, ensure_ascii=False))


def counted_before(out: Path, name: str, type_names: Sequence[str]) -> Counted | None:
    """Return what the finished files of a picture say; None if they are not all there."""
    if not all((out / f"{name}{ending}").is_file() for ending in ENDINGS):
        return None
    with (out / f"{name}{TABLE}").open(newline="", encoding="utf-8") as stream:
        kinds = Counter(row["type"] for row in csv.DictReader(stream))
    with tifffile.TiffFile(out / f"{name}{LABELS}") as file:
        page = file.pages.first
        pixels = int(page.imagelength * page.imagewidth)
    by_type = tuple((kind, kinds[kind]) for kind in type_names)
    return Counted(name=name, count=kinds.total(), by_type=by_type, pixels=pixels, kept=True)


def write_counts(out: Path, pictures: Sequence[Counted], pixel_um: float | None) -> None:
    """Write ``counts.csv``: a row per picture with its objects, those of every type, and how dense they lie.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    names = list(dict.fromkeys(kind for picture in pictures for kind, _ in picture.by_type))
    dense = [] if pixel_um is None else ["area_mm2", "objects_per_mm2"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "objects", *names, *dense])
    for picture in pictures:
        kinds, density = dict(picture.by_type), list[str]()
        if pixel_um is not None:
            area = picture.pixels * pixel_um**2 / UM2_PER_MM2
            density = [f"{area:.6g}", f"{picture.count / area:.6g}"]
        writer.writerow([picture.name, picture.count, *(kinds.get(name, "") for name in names), *density])
    write_text(out / COUNTS, text.getvalue())


def _manner_of(path: Path) -> dict[str, Any]:
    """Return what a record says; nothing if there is none, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _flat(manner: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with those of the decoding beside the others."""
    plain = {key: value for key, value in manner.items() if not isinstance(value, Mapping)}
    return plain | {
        name: value for inner in manner.values() if isinstance(inner, Mapping) for name, value in inner.items()
    }
