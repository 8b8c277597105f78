"""A quick look at a dataset in nnU-Net's folders: one PNG per case with its labels in colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from numpy.typing import NDArray

from delineate.errors import SomeCasesFailed, UsageError
from delineate.execution import Watched, map_items, require_writable, write_bytes
from delineate.formats.datasets import open_dataset
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.planning.budget import standard_configuration
from delineate.reports.plane_overlay import fullest_plane, plane_overlay
from delineate.workflows.nnunet_workspace import open_prepared

Volumes = tuple[NDArray[Any], NDArray[Any]]
"""Image ``(channel, z, y, x)`` and labels ``(z, y, x)``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OverlayOrder:
    """What the user asked for."""

    place: NnunetDataset
    out: Path
    channel: int = 0
    intensity: float = 0.6
    raw: bool = False
    """Show the raw data, not the prepared cases."""
    plans_name: str = "nnUNetPlans"
    configuration: str | None = None
    """Whose prepared cases; None: 3d_fullres if the plans have it, else 2d."""
    workers: int = 1

    def __post_init__(self) -> None:
        if self.channel < 0 or self.intensity < 0:
            raise UsageError(
                f"-channel_idx and -overlay_intensity are not negative; got {self.channel} and {self.intensity:g}."
            )


def plot_overlays(order: OverlayOrder, **watched: Unpack[Watched]) -> tuple[Path, ...]:
    """Write ``{case_id}.png`` for every training case; the plane that shows most of the structures.

    Raises
    ------
    UsageError
        If folders or plans are missing or no case is prepared.
    DatasetError
        If the raw dataset has faults.
    ResourceError
        If the output folder cannot be written.
    SomeCasesFailed
        If cases could not be drawn; names each with its reason.
    Interrupted
        If a stop was requested; finished pictures stay.
    """
    names, read = _raw_cases(order) if order.raw else _prepared_cases(order)
    require_writable(order.out)

    def draw(case_id: str) -> Path:
        image, labels = read(case_id)
        if order.channel >= len(image):
            raise UsageError(f"-channel_idx {order.channel}: the case has the channels 0 to {len(image) - 1}.")
        plane = fullest_plane(labels)
        picture = plane_overlay(image[order.channel, plane], labels[plane], intensity=order.intensity)
        write_bytes(order.out / f"{case_id}.png", picture)
        return order.out / f"{case_id}.png"

    outcomes = map_items(draw, names, what="draw", workers=order.workers, backend="threads", **watched)
    if failures := [f"{o.item}: {o.error}" for o in outcomes if o.error is not None]:
        raise SomeCasesFailed(f"{len(failures)} of {len(names)} cases could not be drawn.", failures)
    return tuple(o.value for o in outcomes if o.value is not None)


def _raw_cases(order: OverlayOrder) -> tuple[list[str], Callable[[str], Volumes]]:
    dataset = open_dataset(order.place.raw)
    cases = {case.case_id: case for case in dataset.training}

    def read(case_id: str) -> Volumes:
        case = dataset.load(cases[case_id])
        labels = case.labels.array if case.labels is not None else case.image.array[0] * 0
        image = case.image.array
        return (image, labels) if labels.ndim == 3 else (image[:, None], labels[None])

    return list(cases), read


def _prepared_cases(order: OverlayOrder) -> tuple[list[str], Callable[[str], Volumes]]:
    plan = read_plan(order.place.plan(order.plans_name))
    name = order.configuration
    configuration = standard_configuration(plan) if name is None else plan.configuration(name)
    _, store = open_prepared(order.place, plan, configuration)

    def read(case_id: str) -> Volumes:
        stored = store.open(case_id)
        return stored.array[...], stored.labels[...]

    return list(store.case_ids()), read
