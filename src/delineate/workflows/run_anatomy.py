"""The whole of ``delineate anatomy``: from a scan's file to a folder with its structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UsageError
from delineate.execution import Cancellation, Progress, require_writable
from delineate.formats.images import read_image
from delineate.formats.nnunet.model_zip import install_model_zip
from delineate.formats.totalsegmentator import find_models
from delineate.metrics import Implausibility, StructureStatistics
from delineate.planning.anatomy import Licence, VariantName, facts_of, models_needed, task_named, tasks
from delineate.workflows.segment_anatomy import Anatomy, AnatomyRequest, segment_anatomy
from delineate.workflows.write_anatomy import (
    check_anatomy,
    measure_anatomy,
    write_measurements,
    write_preview,
    write_provenance,
    write_segmentation,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnatomySettings:
    """What the command takes."""

    task: str
    fast: bool = False
    """The variant at 3 mm."""
    fastest: bool = False
    """The variant at 6 mm."""
    structures: Sequence[str] = ()
    """Empty: all of the task."""
    places: Sequence[Path]
    """Where weights may lie, the first one first."""
    licence_confirmed: bool = False
    """The user says that he may use weights that need a licence number."""
    separate: bool = False
    """One file per structure instead of one for all."""
    preview: bool = True
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnatomyOutcome:
    """What was made."""

    anatomy: Anatomy
    segmentation: Path
    """The label map, or the folder of masks."""
    statistics: dict[str, StructureStatistics]
    findings: tuple[Implausibility, ...]
    licence: Licence


def run_anatomy(
    scan: Path,
    out: Path,
    settings: AnatomySettings,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> AnatomyOutcome:
    """Segment a scan and write everything that is known of its structures.

    Parameters
    ----------
    scan
        An image file, or a folder with one DICOM series.
    out
        The folder that is written.
    settings
        The choices.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If task, variant or structures are unknown, a licence that the task needs is not confirmed, or the scan lies in
        the folder that is written.
    ModelError
        If weights are missing, incomplete or damaged.
    InputError
        If the scan cannot be used.
    ResourceError
        If the device does not exist, or the folder cannot be written.
    Interrupted
        If a stop was requested.
    """
    request = _request(settings)
    _check_licence(request.task.licence, settings)
    needed = models_needed(request.task, request.variant, request.structures)
    weights = find_models(needed, settings.places, request.task.licence)
    image = read_image(scan)
    _require_output(out, scan)
    anatomy = segment_anatomy(image, request, weights, progress=progress, cancellation=cancellation)
    findings = check_anatomy(anatomy, request)
    statistics = measure_anatomy(anatomy, image, request)
    segmentation = write_segmentation(out, anatomy, image, request, separate=settings.separate)
    write_measurements(out, statistics, findings)
    if settings.preview:
        write_preview(out / "preview.png", anatomy, request)
    write_provenance(out / "provenance.json", anatomy, request)
    return AnatomyOutcome(
        anatomy=anatomy,
        segmentation=segmentation,
        statistics=statistics,
        findings=findings,
        licence=request.task.licence,
    )


def install(zips: Sequence[Path], results: Path) -> tuple[Path, ...]:
    """Unpack downloaded zips of weights; returns the folders of the trained models.

    Raises
    ------
    ModelError
        If a zip is damaged, unsafe, or holds no weights.
    UsageError
        If its model is installed already.
    ResourceError
        If the folder cannot be written.
    """
    return tuple(folder for path in zips for folder in install_model_zip(path, results))


def list_tasks() -> list[tuple[str, str, str, int, str]]:
    """Return name, modality, licence, number of structures, and variants of every task."""
    return [
        (task.name, task.modality.upper(), task.licence.kind, len(task.classes), ", ".join(task.variants))
        for task in tasks().values()
    ]


def list_structures(task: str) -> list[tuple[int, str, str, str]]:
    """Return value, name, TG-263 name and SNOMED CT code of every structure of a task.

    Raises
    ------
    UsageError
        If there is no task of that name.
    """
    rows = []
    for value, name in enumerate(task_named(task).classes, start=1):
        facts = facts_of(name)
        rows.append((value, name, facts.tg263 or "", facts.kind.value if facts.kind else ""))
    return rows


def _request(settings: AnatomySettings) -> AnatomyRequest:
    if settings.fast and settings.fastest:
        raise UsageError("Choose --fast (3 mm) or --fastest (6 mm), not both.")
    variant: VariantName = "fastest" if settings.fastest else "fast" if settings.fast else "normal"
    return AnatomyRequest(
        task=task_named(settings.task),
        variant=variant,
        structures=tuple(settings.structures),
        device=settings.device,
        precision=settings.precision,
    )


def _require_output(out: Path, scan: Path) -> None:
    if out.resolve() in (scan.resolve(), scan.resolve().parent):
        raise UsageError(f"{out} holds the scan; what is written needs a folder of its own. Choose another --out.")
    require_writable(out)


def _check_licence(licence: Licence, settings: AnatomySettings) -> None:
    if licence.kind == "key" and not settings.licence_confirmed:
        raise UsageError(
            f"The task '{settings.task}' needs a licence. {licence.text} If you have one and put the weights on this "
            "disk yourself, say so with --i-have-a-licence."
        )
