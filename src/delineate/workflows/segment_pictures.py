"""A folder of pictures through a model of instances: label maps, tables and what QuPath reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image
from delineate.errors import DatasetError, DelineateError, Interrupted, SomeCasesFailed
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.images import read_file
from delineate.formats.instance_files import write_geojson, write_hovernet_json, write_table
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.raster import write_tiff
from delineate.geometry.grid import Grid
from delineate.reports.instance_picture import instance_picture
from delineate.workflows.segment_instances import InstanceModel


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """What was found in one picture."""

    name: str
    count: int
    by_type: tuple[tuple[str, int], ...]


def segment_pictures(
    model: InstanceModel,
    paths: Sequence[Path],
    out: Path,
    *,
    pixel_um: float | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Counted, ...]:
    """Segment pictures; per picture ``{name}.tif`` (labels), ``.geojson``, ``.csv``, ``.json`` (HoVer-Net), ``.png``.

    Parameters
    ----------
    model
        The trained model.
    paths
        Pictures, or folders of them.
    out
        Folder for the results.
    pixel_um
        Micrometres per pixel of the pictures; None: lengths are in pixels.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DatasetError
        If there is no picture, or two would be written under one name.
    SomeCasesFailed
        If pictures could not be segmented; the others are written.
    Interrupted
        If a stop was requested; finished pictures stay.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    found, failed = [], []
    pictures = _pictures(paths)
    for path in pictures:
        cancellation.check()
        try:
            found.append(_segment(model, path, out, pixel_um, progress, cancellation))
        except Interrupted:
            raise
        except DelineateError as error:
            failed.append(f"{path.name}: {error}")
    if failed:
        raise SomeCasesFailed(f"{len(failed)} of {len(pictures)} pictures could not be segmented.", failed)
    return tuple(found)


def _pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    found: list[Path] = []
    for path in paths:
        found += sorted(p for p in path.iterdir() if image_ending(p)) if path.is_dir() else [path]
    names = [image_stem(path) for path in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not found or twice:
        what = f"several are called {', '.join(twice[:5])}" if twice else "found none"
        raise DatasetError(f"Expected pictures of different names in {', '.join(map(str, paths))}; {what}.")
    return tuple(found)


def _segment(
    model: InstanceModel,
    path: Path,
    out: Path,
    pixel_um: float | None,
    progress: Progress,
    cancellation: Cancellation,
) -> Counted:
    picture = _colours(read_file(path))
    labels, table = model.segment(picture, pixel_um=pixel_um, progress=progress, cancellation=cancellation)
    name = image_stem(path)
    write_tiff(out / f"{name}.tif", Image(array=labels[None], grid=_plane(labels, pixel_um)))
    write_geojson(out / f"{name}.geojson", table)
    write_table(out / f"{name}.csv", table)
    write_hovernet_json(out / f"{name}.json", table)
    instance_picture(picture, labels, table.types, out / f"{name}.png")
    kinds = tuple((kind, int((table.types == i).sum())) for i, kind in enumerate(table.type_names, start=1))
    return Counted(name=name, count=len(table), by_type=kinds)


def _colours(image: Image) -> NDArray[Any]:
    """Return (y, x, 1 or 3): an alpha channel is left out, of two channels the first is taken."""
    array = image.array.transpose(1, 2, 0)
    return array[..., :3] if array.shape[2] >= 3 else array[..., :1]


def _plane(labels: NDArray[np.int32], pixel_um: float | None) -> Grid:
    side = 1.0 if pixel_um is None else pixel_um / 1000
    return Grid.regular((labels.shape[0], labels.shape[1]), (side, side))
