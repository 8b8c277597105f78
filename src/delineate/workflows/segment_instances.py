"""From a picture to its instances: normalise, predict and decode in tiles, measure, write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from delineate.case.instances import InstanceTable
from delineate.execution import Cancellation, Progress
from delineate.formats.instance_package import InstancePackage, read_instance_package
from delineate.inference.instance_maps import InstancePredictor, TileInstances, stream_instances
from delineate.inference.precision import converted
from delineate.masks.contours import trace_regions
from delineate.masks.instance_shapes import measure_instances
from delineate.masks.instance_types import types_of_instances
from delineate.networks.instance_unet import MAPS, InstanceUNet
from delineate.preprocessing.pictures import Stretch, stretch_of
from delineate.training.machine import AUTO, find_machine


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceModel:
    """A trained model of instances, ready to predict."""

    package: InstancePackage
    predictor: InstancePredictor

    def segment(
        self,
        picture: NDArray[Any],
        *,
        pixel_um: float | None = None,
        tile: int = 2048,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> tuple[NDArray[np.int32], InstanceTable]:
        """Find the instances of a picture.

        Parameters
        ----------
        picture
            (y, x) or (y, x, 1 or 3), any number type.
        pixel_um
            Micrometres per pixel; lengths of the table are in micrometres then, else in pixels.
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
        Interrupted
            If a stop was requested.
        """
        shape = (picture.shape[0], picture.shape[1])
        window = _Windows(picture, stretch_of(picture))
        labels = np.zeros(shape, dtype=np.int32)
        tables: list[InstanceTable] = []
        before = 0
        for found in stream_instances(
            window.read, shape, self.predictor, tile=tile, progress=progress, cancellation=cancellation
        ):
            box = tuple(slice(o, o + size) for o, size in zip(found.origin, found.labels.shape, strict=True))
            own = found.labels > 0
            labels[box][own] = found.labels[own] + before
            tables.append(measured(found, picture[box], before, self.package.type_names, pixel_um))
            before += found.count
        return labels, _joined(tables, self.package.type_names, pixel_um)


def load_instance_model(path: Path, *, device: str = AUTO, precision: str = AUTO) -> InstanceModel:
    """Read a trained model of instances.

    Raises
    ------
    ModelError
        If the package is missing or damaged.
    """
    package = read_instance_package(path)
    machine = find_machine(device)
    number_format: Any = ("bfloat16" if machine.bfloat16 else "float32") if precision == AUTO else precision
    network = InstanceUNet(types=len(package.type_names), widths=package.widths)
    network.load_state_dict(dict(package.weights))
    last = not machine.is_gpu
    return InstanceModel(
        package=package,
        predictor=InstancePredictor(
            network=converted(network, device=machine.device, precision=number_format, channels_last=last),
            decoding=package.decoding,
            device=torch.device(machine.device),
            precision=number_format,
            channels_last=last,
        ),
    )


def measured(
    found: TileInstances, picture: NDArray[Any], before: int, type_names: tuple[str, ...], pixel_um: float | None
) -> InstanceTable:
    """Return the table of a tile's instances in coordinates of the whole picture, numbered after ``before``."""
    colours = picture[..., None] if picture.ndim == 2 else picture
    columns = dict(measure_instances(found.labels, colours, pixel=pixel_um or 1.0))
    y, x = found.origin
    for name, shift in (("label", before), ("centroid_y", y), ("min_y", y), ("max_y", y)):
        columns[name] = columns[name] + shift
    for name in ("centroid_x", "min_x", "max_x"):
        columns[name] = columns[name] + x
    types, shares = types_of_instances(found.labels, found.maps[MAPS + 1 :], found.count)
    return InstanceTable(
        columns=columns,
        outlines=tuple(_outlines(found, y, x)),
        types=types,
        type_names=type_names,
        type_shares=shares,
        pixel_um=pixel_um,
    )


def _outlines(found: TileInstances, y: int, x: int) -> Iterator[NDArray[np.float64]]:
    """Yield the outline of the largest part of every instance, without holes, the picture's corner at the origin."""
    largest: dict[int, NDArray[np.float64]] = {}
    for region in trace_regions(found.labels[None]):
        known = largest.get(region.label)
        if known is None or _extent(region.outer) > _extent(known):
            largest[region.label] = region.outer
    for label in sorted(largest):
        yield largest[label] + np.array([y + 0.5, x + 0.5])


def _extent(outline: NDArray[np.float64]) -> float:
    return float(np.prod(outline.max(axis=0) - outline.min(axis=0)))


def _joined(tables: list[InstanceTable], type_names: tuple[str, ...], pixel_um: float | None) -> InstanceTable:
    return InstanceTable(
        columns={name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns},
        outlines=tuple(outline for table in tables for outline in table.outlines),
        types=np.concatenate([table.types for table in tables]),
        type_names=type_names,
        type_shares=np.concatenate([table.type_shares for table in tables]),
        pixel_um=pixel_um,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    picture: NDArray[Any]
    stretch: Stretch

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        return self.stretch.applied(self.picture[rows, columns])
