"""From a picture to its instances: bring objects to their size, normalise, predict and decode in tiles, measure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from delineate.case.instances import InstanceTable
from delineate.errors import UsageError
from delineate.execution import Cancellation, Progress
from delineate.formats.instance_package import InstancePackage, read_instance_package
from delineate.formats.picture_windows import PictureSource, source_of
from delineate.inference.instance_maps import InstancePredictor, Predictor, TileInstances, stream_instances
from delineate.inference.precision import converted
from delineate.masks.contours import trace_regions
from delineate.masks.instance_shapes import measure_instances
from delineate.masks.instance_types import types_of_instances
from delineate.masks.label_rows import LabelRows
from delineate.networks.instance_unet import MAPS, InstanceUNet, fused
from delineate.preprocessing.pictures import ReadWindow, Stretch, Zoom, require_finite, sampling_step, stretch_of_sample
from delineate.training.allocator import KEPT_BYTES_PREDICTING, keep_memory, release_memory
from delineate.training.machine import AUTO, find_machine

TILE = 1024
"""Pixels per side, of the network's grid, that are decoded at a time."""
MOST_MEMORY = 5 << 28
"""Bytes of the process from which freed memory goes back to the system after every tile: kept, it breaks into pieces
and more and more is taken (measured on the first three rows of tiles of 20 000 x 20 000 pixels: 2.1 GB)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureScale:
    """What is known of the size of things in a picture."""

    pixel_um: float | None = None
    """Micrometres per pixel; lengths of tables are in micrometres then, else in pixels."""
    diameter: float | None = None
    """Typical diameter of the objects in pixels; None: as in the pictures that the model was trained on."""

    def __post_init__(self) -> None:
        for name, value in (("pixel size", self.pixel_um), ("diameter", self.diameter)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"The {name} must be above 0; got {value}.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FoundInstances:
    """The instances of one tile, on the picture's grid."""

    origin: tuple[int, int]
    """(y, x) of the window in the picture."""
    labels: NDArray[np.int32]
    """(y, x) of the window, numbered through the whole picture; other instances are left out."""
    table: InstanceTable
    rows_done: int
    """So many rows of the picture are final."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceModel:
    """A trained model of instances, ready to predict."""

    package: InstancePackage
    predictor: Predictor

    def segment(
        self,
        picture: NDArray[Any],
        *,
        scale: PictureScale | None = None,
        tile: int = TILE,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> tuple[NDArray[np.int32], InstanceTable]:
        """Find the instances of a picture in memory.

        Parameters
        ----------
        picture
            (y, x) or (y, x, 1 or 3), any number type.
        scale
            Pixel size, or size of the objects.
        tile
            Pixels per side that are decoded at a time; the instances do not depend on it.
        progress, cancellation
            Where to tell how far it is, and who may stop it.

        Returns
        -------
        tuple
            (y, x) int32, 0 background; and the table of the instances.

        Raises
        ------
        InputError
            If the picture cannot be normalised.
        UsageError
            If the picture would have to be made more than 32 times larger or smaller.
        Interrupted
            If a stop was requested.
        """
        source = source_of(picture)
        rows, tables, blocks = LabelRows(*source.shape), list[InstanceTable](), list[NDArray[np.int32]]()
        for found in self.stream(source, scale=scale, tile=tile, progress=progress, cancellation=cancellation):
            rows.put(found.origin, found.labels)
            blocks += rows.taken(found.rows_done)
            tables.append(found.table)
        return np.concatenate(blocks), _joined(tables)

    def stream(
        self,
        source: PictureSource,
        *,
        scale: PictureScale | None = None,
        tile: int = TILE,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> Generator[FoundInstances, None, None]:
        """Yield the instances of a picture of any size, tile by tile; see :meth:`segment`."""
        scale = scale or PictureScale()
        zoom = Zoom.by(source.shape, self.zoom_for(scale))
        normalised = _normalised(source, stretched=self.predictor.stretched)
        before = 0
        tiles = stream_instances(
            lambda rows, columns: zoom.read(normalised, rows, columns),
            zoom.zoomed,
            self.predictor,
            tile=tile,
            progress=progress,
            cancellation=cancellation,
        )
        for found in tiles:
            placed = _on_picture(found, zoom, source, before, self.package.type_names, scale.pixel_um)
            before += len(placed.table)
            release_memory(above=MOST_MEMORY)
            yield placed

    def zoom_for(self, scale: PictureScale) -> float:
        """Return how much larger a picture is made, so that its objects have the size that the network knows.

        By the diameter of the objects if it is told; else by the pixel size, if it is told of picture and training;
        else as the pictures of the training were made.
        """
        package = self.package
        if scale.diameter is not None:
            return package.typical_pixels / scale.diameter
        if scale.pixel_um is not None and package.pixel_um is not None:
            return package.zoom * scale.pixel_um / package.pixel_um
        return package.zoom


def load_instance_model(path: Path, *, device: str = AUTO, precision: str = AUTO, tta: bool = False) -> InstanceModel:
    """Read a trained model of instances.

    Parameters
    ----------
    path
        Of the package.
    device, precision
        Where and in which number format it computes.
    tta
        Average its maps over the eight orientations of a picture.

    Raises
    ------
    ModelError
        If the package is missing or damaged.
    """
    package = read_instance_package(path)
    machine = find_machine(device)
    keep_memory(KEPT_BYTES_PREDICTING)  # every block of maps takes the same large pieces again
    number_format: Any = ("bfloat16" if machine.bfloat16 else "float32") if precision == AUTO else precision
    network = InstanceUNet(types=len(package.type_names), widths=package.widths)
    network.load_state_dict(dict(package.weights))
    last = not machine.is_gpu
    return InstanceModel(
        package=package,
        predictor=InstancePredictor(
            network=converted(fused(network), device=machine.device, precision=number_format, channels_last=last),
            decoding=package.decoding,
            device=torch.device(machine.device),
            precision=number_format,
            channels_last=last,
            tta=tta,
        ),
    )


def _normalised(source: PictureSource, *, stretched: bool) -> ReadWindow:
    """Return how windows of the picture are read as the network wants them: 0 to 1, or 0 to 255."""
    every = sampling_step(source.shape)
    if not stretched and source.read(slice(0, 1), slice(0, 1)).dtype == np.uint8:
        stretch, scale = Stretch(low=0.0, high=255.0), 255.0
    else:
        stretch, scale = stretch_of_sample(source.sample(every)), 1.0 if stretched else 255.0

    def read(rows: slice, columns: slice) -> NDArray[np.float32]:
        values = source.read(rows, columns)
        require_finite(values)  # the sample may have passed over single pixels
        return stretch.applied(values) * np.float32(scale)

    return read


def _on_picture(
    found: TileInstances,
    zoom: Zoom,
    source: PictureSource,
    before: int,
    type_names: tuple[str, ...],
    pixel_um: float | None,
) -> FoundInstances:
    """Bring a tile's instances from the network's grid to the picture's, and measure them there."""
    types, shares = types_of_instances(found.labels, found.maps[MAPS + 1 :], found.count)
    rows, columns = zoom.nearest(0), zoom.nearest(1)
    y, x = (_inside(place, o, n) for place, o, n in zip((rows, columns), found.origin, found.labels.shape, strict=True))
    labels = found.labels[np.ix_(rows[y] - found.origin[0], columns[x] - found.origin[1])]
    kept = np.unique(labels[labels > 0])  # where the picture's grid is coarser, the smallest ones can vanish
    numbers = np.zeros(found.count + 1, dtype=np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels = numbers[labels]
    table = _measured(labels, source.read(y, x), (y.start, x.start), pixel_um)
    table = replace(table, types=types[kept - 1], type_names=type_names, type_shares=shares[kept - 1])
    sure = {} if found.confidences is None else {"confidence": found.confidences[kept - 1]}
    table = replace(table, columns={**table.columns, **sure, "label": table.columns["label"] + before})
    return FoundInstances(
        origin=(y.start, x.start),
        labels=np.where(labels > 0, labels + np.int32(before), 0).astype(np.int32),
        table=table,
        rows_done=int(np.searchsorted(rows, found.rows_done)),
    )


def _inside(places: NDArray[np.int64], origin: int, length: int) -> slice:
    """Return the rows (or columns) of the picture whose nearest one of the network's grid lies in a window."""
    return slice(int(np.searchsorted(places, origin)), int(np.searchsorted(places, origin + length)))


def _measured(
    labels: NDArray[np.int32], picture: NDArray[Any], origin: tuple[int, int], pixel_um: float | None
) -> InstanceTable:
    """Return the table of a window's instances 1, 2, ... in coordinates of the whole picture, without types."""
    columns = dict(measure_instances(labels, picture, pixel=pixel_um or 1.0))
    for axis, names in enumerate((("centroid_y", "min_y", "max_y"), ("centroid_x", "min_x", "max_x"))):
        for name in names:
            columns[name] = columns[name] + origin[axis]
    outlines = tuple(_outlines(labels, origin))
    nothing = np.zeros(len(outlines), dtype=np.int64)
    return InstanceTable(
        columns=columns,
        outlines=outlines,
        types=nothing,
        type_names=(),
        type_shares=np.full(len(outlines), np.nan),
        pixel_um=pixel_um,
    )


def _outlines(labels: NDArray[np.int32], origin: tuple[int, int]) -> Iterator[NDArray[np.float64]]:
    """Yield the outline of the largest part of every instance, without holes, the picture's corner at the origin."""
    largest: dict[int, NDArray[np.float64]] = {}
    for region in trace_regions(labels[None]):
        known = largest.get(region.label)
        if known is None or _extent(region.outer) > _extent(known):
            largest[region.label] = region.outer
    for label in sorted(largest):
        yield largest[label] + np.array([origin[0] + 0.5, origin[1] + 0.5])


def _extent(outline: NDArray[np.float64]) -> float:
    return float(np.prod(outline.max(axis=0) - outline.min(axis=0)))


def _joined(tables: list[InstanceTable]) -> InstanceTable:
    first = tables[0]
    return replace(
        first,
        columns={name: np.concatenate([table.columns[name] for table in tables]) for name in first.columns},
        outlines=tuple(outline for table in tables for outline in table.outlines),
        types=np.concatenate([table.types for table in tables]),
        type_shares=np.concatenate([table.type_shares for table in tables]),
    )
