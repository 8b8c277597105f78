"""A folder of pictures through a model of instances: label maps, tables and what QuPath reads, written as it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate import __version__
from delineate.errors import DatasetError, DelineateError, Interrupted, SomeCasesFailed
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.instance_files import Append, geojson_writer, hovernet_writer, table_writer
from delineate.formats.label_tiff import write_label_tiff
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.picture_windows import PictureSource, open_picture
from delineate.masks.label_rows import LabelRows
from delineate.reports.instance_picture import LONGEST_SIDE, instance_picture
from delineate.training.allocator import release_memory
from delineate.workflows.picture_results import (
    GEOJSON,
    HOVERNET,
    LABELS,
    SHOWN,
    TABLE,
    Counted,
    counted_before,
    open_results,
    write_counts,
)
from delineate.workflows.segment_instances import TILE, FoundInstances, InstanceModel, PictureScale


def segment_pictures(  # noqa: PLR0913 - one keyword per choice of the command line
    model: InstanceModel,
    paths: Sequence[Path],
    out: Path,
    *,
    scale: PictureScale | None = None,
    channel: int | None = None,
    tile: int = TILE,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Counted, ...]:
    """Segment pictures; per picture ``{name}.tif`` (labels), ``.geojson``, ``.csv``, ``.hovernet.json`` and ``.png``.

    ``counts.csv`` holds a row per picture, ``nuclei.json`` the model and the settings. Memory does not grow with the
    height of a picture if it is a tiled or stripped TIFF, and hardly with its width.

    Parameters
    ----------
    model
        From :func:`delineate.workflows.segment_instances.load_instance_model`.
    paths
        Pictures, or folders of them.
    out
        Folder for the results; pictures whose results stand there, made alike, are kept.
    scale
        Pixel size of the pictures, or size of their objects.
    channel
        Number, from 1, of the channel to look at; None: grey or colours as they are.
    tile
        Pixels per side that are decoded at a time.
    overwrite
        Segment again what stands in ``out``, also what was made otherwise.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DatasetError
        If there is no picture, or two would be written under one name.
    UsageError
        If ``out`` holds the pictures, or results that were made otherwise.
    SomeCasesFailed
        If pictures could not be segmented; the others are written.
    Interrupted
        If a stop was requested; finished pictures stay.
    """
    scale, progress, cancellation = scale or PictureScale(), progress or Silent(), cancellation or Cancellation()
    found, failed = list[Counted](), list[str]()
    pictures = _pictures(paths)
    open_results(out, pictures, _manner(model, scale, channel), overwrite=overwrite)
    for path in pictures:
        cancellation.check()
        try:
            counted = None if overwrite else counted_before(out, image_stem(path), model.package.type_names)
            if counted is None:
                with open_picture(path, channel=channel) as source:
                    tiles = model.stream(source, scale=scale, tile=tile, progress=progress, cancellation=cancellation)
                    with closing(tiles):  # ends the thread that reads, before the file is closed
                        counted = _written(tiles, source, out, image_stem(path), scale)
            found.append(counted)
        except Interrupted:
            raise
        except DelineateError as error:
            failed.append(f"{path.name}: {error}")
    write_counts(out, found, scale.pixel_um)
    if failed:
        raise SomeCasesFailed(
            f"{len(failed)} of {len(pictures)} pictures could not be segmented; {len(found)} are in {out}.", failed
        )
    return tuple(found)


def _manner(model: InstanceModel, scale: PictureScale, channel: int | None) -> dict[str, Any]:
    """Return everything that results depend on besides the picture, as JSON values."""
    package = model.package
    return {
        "software": f"delineate {__version__}",
        "model": package.identity,
        "decoding": model.predictor.decoding.settings,
        "tta": model.predictor.tta,
        "types": list(package.type_names),
        "pixel_um": scale.pixel_um,
        "diameter": scale.diameter,
        "channel": channel,
    }


def _pictures(paths: Sequence[Path]) -> tuple[Path, ...]:
    found: list[Path] = []
    for path in paths:
        found += _visible(path) if path.is_dir() else [path]
    names = [image_stem(path) for path in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if not found:
        raise DatasetError(f"Expected pictures in {', '.join(map(str, paths))}; found none.")
    if twice:
        raise DatasetError(
            f"Expected pictures of different names in {', '.join(map(str, paths))}; several are called "
            f"{', '.join(twice[:5])}. Rename them, or segment them into different folders."
        )
    return tuple(found)


def _visible(folder: Path) -> list[Path]:
    """Return the pictures in a folder, not below it; hidden ones (``._x.png`` of macOS archives) are left out."""
    return sorted(path for path in folder.iterdir() if image_ending(path) and not path.name.startswith("."))


def _written(
    tiles: Iterator[FoundInstances], source: PictureSource, out: Path, name: str, scale: PictureScale
) -> Counted:
    """Write everything of a picture while its tiles come; the files appear together at the end."""
    with ExitStack() as stack:
        writers: list[Append] = [
            stack.enter_context(geojson_writer(out / f"{name}{GEOJSON}")),
            stack.enter_context(table_writer(out / f"{name}{TABLE}")),
            stack.enter_context(hovernet_writer(out / f"{name}{HOVERNET}")),
        ]
        overview = _Overview(source)
        rows = _rows(tiles, source, writers, overview)
        write_label_tiff(out / f"{name}{LABELS}", source.shape, rows, pixel_um=scale.pixel_um)
    release_memory()  # what the network's windows kept is not needed to draw
    overview.write(out / f"{name}{SHOWN}")
    kinds = tuple((kind, int((overview.types == i).sum())) for i, kind in enumerate(overview.type_names, start=1))
    return Counted(name=name, count=len(overview.types), by_type=kinds, pixels=source.shape[0] * source.shape[1])


def _rows(
    tiles: Iterator[FoundInstances], source: PictureSource, writers: Sequence[Append], overview: _Overview
) -> Iterator[NDArray[np.int32]]:
    """Yield finished rows of the label map, after their instances went to the writers."""
    rows = LabelRows(*source.shape)
    for found in tiles:
        for append in writers:
            append(found.table)
        overview.note(found)
        rows.put(found.origin, found.labels)
        for block in rows.taken(found.rows_done):
            overview.show(block)
            yield block


class _Overview:
    """A picture and its labels, made small enough to look at; and the types of all instances."""

    def __init__(self, source: PictureSource) -> None:
        self._source, self._step, self._row = source, max(1, -(-max(source.shape) // LONGEST_SIDE)), 0
        self._pictures: list[NDArray[Any]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._types: list[NDArray[np.int64]] = []
        self.type_names: tuple[str, ...] = ()

    @property
    def types(self) -> NDArray[np.int64]:
        """(instance,) of every instance so far, in the order of their numbers."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *self._types])

    def note(self, found: FoundInstances) -> None:
        self._types.append(found.table.types)
        self.type_names = found.table.type_names

    def show(self, block: NDArray[np.int32]) -> None:
        first, self._row = -self._row % self._step, self._row + len(block)
        if first < len(block):
            top = self._row - len(block)
            picture = self._source.read(slice(top, self._row), slice(0, self._source.shape[1]))
            self._pictures.append(picture[first :: self._step, :: self._step].copy())
            self._labels.append(block[first :: self._step, :: self._step].copy())

    def write(self, path: Path) -> None:
        instance_picture(np.concatenate(self._pictures), np.concatenate(self._labels), self.types, path)
