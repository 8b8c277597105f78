"""From a label map to the objects that hospitals exchange: as drafts, or approved, recorded and released."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from delineate import __version__
from delineate.case import LabelMap, Provenance, Result, Structure
from delineate.clinical.coding import code_structures
from delineate.clinical.dicom_seg import (
    SegKind,
    SegmentationSettings,
    WrittenSegmentation,
    write_draft_seg,
    write_seg,
)
from delineate.clinical.fhir import (
    DicomFile,
    FhirSettings,
    Version,
    approved_bundle,
    describe_file,
    draft_bundle,
    write_bundle,
)
from delineate.clinical.ledger import Ledger
from delineate.clinical.measurements import measure_structures
from delineate.clinical.release import Writer, release
from delineate.clinical.results import ApprovedResult, DraftResult
from delineate.clinical.review import (
    Reviewer,
    ReviewPolicy,
    State,
    amend,
    approval_on_record,
    approve,
    record_edit,
    record_inference,
    request_review,
    state_of,
)
from delineate.clinical.rtstruct import Holes, StructureSetSettings, write_draft_rtstruct, write_rtstruct
from delineate.clinical.sending import Peer, send_released
from delineate.clinical.structured_report import write_draft_sr, write_sr
from delineate.errors import GeometryError, InputError, ReviewError, SomeCasesFailed, UsageError
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.dicom.source_series import SourceSeries
from delineate.formats.images import read_labels
from delineate.formats.magic import image_ending, image_stem
from delineate.formats.nnunet.dataset_json import scheme_from_json
from delineate.geometry.grid import Grid

Kind = Literal["rtstruct", "seg", "sr", "fhir"]
KINDS: tuple[Kind, ...] = ("rtstruct", "seg", "sr", "fhir")
"""In the order of writing: reports refer to the segmentation, bundles to all of them."""
NOT_STATED = "not stated"
ON_VOXELS = 0.05
"""Voxels; label maps whose voxels lie farther than this from the images' are refused."""
ACTOR = "delineate"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportSettings:
    """How objects are written."""

    holes: Holes = "keyhole"
    simplify_voxels: float = 0.0
    seg_kind: SegKind = "binary"
    keep_empty_frames: bool = False
    edited_by_person: bool = False
    label: str = "DELINEATE"
    fhir_version: Version = "R4B"
    objects: tuple[Path, ...] = ()
    """DICOM files that were written before and that the bundle shall name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovalRequest:
    """Who approves, and where that is recorded."""

    reviewer: Reviewer
    ledger: Path
    editor: str = ""
    """Who changed the mask, as the ledger names people; empty: nobody, as far as is known."""
    four_eyes: bool = False
    reason: str = ""
    """Why something that was released is replaced."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """A draft that was read from files."""

    draft: DraftResult
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written."""

    files: tuple[Path, ...]
    notices: tuple[str, ...]
    ledger_row: str
    """Number and hash of the ledger's row that records the release; empty for drafts."""


def load_draft(
    labels: Path,
    images: Path,
    *,
    structures: Sequence[Structure] = (),
    series_uid: str | None = None,
    part: str | None = None,
    model: str = NOT_STATED,
) -> Loaded:
    """Return a label map and the series that it was drawn on as a draft.

    Parameters
    ----------
    labels
        An image of label values; on the series' voxels, with any order and direction of axes. Or a folder of masks,
        one image per structure named after it, which may overlap.
    images
        The folder of the DICOM series.
    structures
        What the values mean; none: as said beside the label map (``dataset.json``, ``structures.csv``), or unnamed.
    series_uid, part
        Which series and which volume of it, if there are several.
    model
        What made the label map, for the objects.

    Raises
    ------
    ImageReadError
        If the label map or the series cannot be read.
    GeometryError
        If the label map does not lie on the voxels of the series.
    InputError
        If there is nothing to write.
    """
    volume = read_dicom(images, series_uid=series_uid, part=part)
    masks: tuple[Structure, ...] = ()
    if labels.is_dir():
        if structures:
            raise UsageError("Masks in a folder are named by their files; leave --structure and --structures out.")
        found, masks = _merged_masks(labels, volume.source.grid)
        named = tuple(structure for structure in masks if structure.values)
    else:
        found = on_grid(read_labels(labels), volume.source.grid, str(labels))
        named = tuple(structures) or structures_beside(labels)
    values = [int(v) for v in np.unique(found.array) if v > 0]
    notices = _findings(volume)
    if any(not structure.values for structure in masks):
        notices.append(f"empty masks were left out: {sorted({s.name for s in masks} - {s.name for s in named})}.")
    unnamed = sorted(set(values) - {v for s in named for v in s.values})
    if unnamed:
        notices.append(f"values without a name: {unnamed}; name them with --structure NAME=VALUE.")
        named = (*named, *(Structure(name=f"label {value}", values=(value,)) for value in unnamed))
    if not named:
        raise InputError(f"{labels}: holds no structure and none is named; there is nothing to write.")
    result = Result(
        case_id=labels.name, labels=found, provenance=Provenance(software=f"delineate {__version__}", model=model)
    )
    return draft_of(result, volume.source, named, notices)


def _merged_masks(folder: Path, grid: Grid) -> tuple[LabelMap, tuple[Structure, ...]]:
    """Return masks that may overlap as one label map: every combination of masks that occurs is a value of its own."""
    files = [path for path in visible_images(folder) if image_ending(path)]
    if not files:
        raise InputError(f"{folder}: expected a label map, or a folder with one mask per structure; found no image.")
    combination = np.zeros(grid.shape, dtype=np.int64)
    combinations: list[tuple[int, ...]] = [()]
    for number, file in enumerate(files):
        mask = on_grid(read_labels(file), grid, str(file)).array > 0
        combination[mask] += len(combinations)
        present, combination = np.unique(combination, return_inverse=True)
        combination = combination.reshape(grid.shape)
        both = [*combinations, *((*one, number) for one in combinations)]
        combinations = [both[int(value)] for value in present]
        if 0 not in present:  # masks that fill the whole image leave no background
            combinations, combination = [(), *combinations], combination + 1
    structures = tuple(
        Structure(name=image_stem(file), values=tuple(v for v, one in enumerate(combinations) if number in one))
        for number, file in enumerate(files)
    )
    return LabelMap(array=combination.astype(np.uint16), grid=grid), structures


def draft_of(
    result: Result, source: SourceSeries, structures: Sequence[Structure], notices: Sequence[str] = ()
) -> Loaded:
    """Return a result on a series as a draft with coded structures."""
    coding = code_structures(structures, series_uid=source.series_uid)
    draft = DraftResult(result=result, source=source, structures=coding.structures)
    return Loaded(draft=draft, notices=(*notices, *coding.notices))


def _findings(volume: DicomVolume) -> list[str]:
    return [f"{finding.code}: {finding.words}" for finding in volume.report.findings]


def structures_beside(labels: Path) -> tuple[Structure, ...]:
    """Return the structures that a file beside a label map names; none if there is no such file.

    Raises
    ------
    InputError
        If the file cannot be understood.
    """
    for name in ("dataset.json", "structures.csv"):
        for folder in (labels.parent, labels.parent.parent):
            if (folder / name).is_file():
                return read_structures(folder / name)
    return ()


def read_structures(path: Path) -> tuple[Structure, ...]:
    """Return the structures of a ``dataset.json``, or of a table with the columns ``value`` and ``name``.

    Raises
    ------
    InputError
        If the file cannot be understood.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            return scheme_from_json(json.loads(text), source=str(path)).structures
        rows = list(csv.DictReader(text.splitlines()))
        return tuple(Structure(name=row.get("name") or row["structure"], values=(int(row["value"]),)) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a dataset.json with `labels`, or a table with the columns value and name ({error})."
        ) from error


def structure_of(words: str) -> Structure:
    """Return the structure of ``NAME=VALUE``, or of ``NAME=VALUE,VALUE`` for a region.

    Raises
    ------
    UsageError
        If it is not of that form.
    """
    name, _, values = words.rpartition("=")
    try:
        numbers = tuple(int(value) for value in values.split(","))
    except ValueError:
        numbers = ()
    if not name.strip() or not numbers or min(numbers) < 1:
        raise UsageError(f"A structure is NAME=VALUE, with a value from 1 on; got '{words}'.")
    return Structure(name=name.strip(), values=numbers)


def approval_request(
    name: str, ledger: Path, *, identity: str = "", editor: str = "", four_eyes: bool = False, reason: str = ""
) -> ApprovalRequest:
    """Return who approves and where that is recorded."""
    reviewer = Reviewer(name=name, identity=identity)
    return ApprovalRequest(reviewer=reviewer, ledger=ledger, editor=editor, four_eyes=four_eyes, reason=reason)


def on_grid(labels: LabelMap, grid: Grid, name: str) -> LabelMap:
    """Return a label map with its axes in the order and direction of a grid; no voxel is moved or interpolated.

    Raises
    ------
    GeometryError
        If its voxels are not those of the grid.
    """
    if labels.grid.shape == grid.shape and labels.grid.matches(grid):
        return LabelMap(array=labels.array, grid=grid, scheme=labels.scheme)
    if labels.grid.dims != grid.dims:
        raise GeometryError(f"{name}: expected a label map of {grid.dims} axes; got {labels.grid.dims}.")
    between = np.linalg.inv(labels.grid.affine) @ grid.affine  # index of the grid -> index of the label map
    turn = np.round(between[:3, :3])
    order = [int(np.abs(turn[:, axis]).argmax()) for axis in range(3)]
    corners = np.array([[z, y, x, 1.0] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    corners[:, :3] *= np.array(grid.shape) - 1
    exact = np.eye(4)
    exact[:3, :3] = turn
    exact[:3, 3] = [labels.grid.shape[axis] - 1 if turn[axis].sum() < 0 else 0 for axis in range(3)]
    apart = float(np.abs((between - exact) @ corners.T).max())
    fits = sorted(order) == [0, 1, 2] and tuple(labels.array.shape[axis] for axis in order) == grid.shape
    if not fits or apart > ON_VOXELS:
        found = "; ".join(labels.grid.differences(grid)) or "other voxels"
        raise GeometryError(
            f"{name}: does not lie on the voxels of the series ({found}). Export needs a label map of that series."
        )
    turned = labels.array.transpose(order)
    flips = tuple(axis for axis in range(3) if turn[order[axis], axis] < 0)
    return LabelMap(array=np.ascontiguousarray(np.flip(turned, flips)), grid=grid, scheme=labels.scheme)


def export_drafts(
    loaded: Loaded, objects: Mapping[Kind, str], out: Path, settings: ExportSettings | None = None
) -> Exported:
    """Write objects of a draft; each says that nobody reviewed it.

    Parameters
    ----------
    loaded
        The draft.
    objects
        File name in ``out`` by kind. A report needs a segmentation beside it.
    out
        Folder.
    settings
        How they are written.

    Raises
    ------
    UsageError
        If a report is wanted without a segmentation, or the kind of segmentation cannot hold the result.
    ResourceError
        If a file cannot be written.
    """
    settings = settings or ExportSettings()
    _require_segmentation(objects)
    made = _Made()
    writers: dict[Kind, Callable[[Path], object]] = {
        "rtstruct": lambda path: write_draft_rtstruct(path, loaded.draft, _structure_set(settings)),
        "seg": lambda path: made.keep(write_draft_seg(path, loaded.draft, _segmentation(settings))),
        "sr": lambda path: write_draft_sr(path, loaded.draft, made.segmentation()),
        "fhir": lambda path: write_bundle(
            path,
            draft_bundle(
                loaded.draft,
                measure_structures(loaded.draft),
                _files(settings, objects, out),
                FhirSettings(version=settings.fhir_version),
            ),
        ),
    }
    for kind in (kind for kind in KINDS if kind in objects):
        writers[kind](out / objects[kind])
    return Exported(files=_paths(objects, out), notices=loaded.notices, ledger_row="")


def export_approved(
    loaded: Loaded,
    approval: ApprovalRequest,
    objects: Mapping[Kind, str],
    out: Path,
    settings: ExportSettings | None = None,
) -> Exported:
    """Record a person's approval of a draft and release objects of it; all is told in the ledger.

    A draft that the ledger holds as approved by the same person is released again without a second signature; a draft
    that differs from a released one is an amendment and needs a reason.

    Raises
    ------
    ReviewError
        If the review does not allow it.
    LedgerError
        If the ledger was altered.
    UsageError
        If a report is wanted without a segmentation, or the kind of segmentation cannot hold the result.
    ResourceError
        If a file cannot be written.
    """
    settings = settings or ExportSettings()
    _require_segmentation(objects)
    ledger = Ledger(path=approval.ledger)
    replaced = _replaced(ledger, loaded.draft)
    approved = _approved(ledger, loaded.draft, approval)
    done = release(approved, ledger, out, _writers(loaded, objects, settings, replaced), actor=approval.reviewer.actor)
    return Exported(
        files=_paths(objects, out), notices=loaded.notices, ledger_row=f"{done.entry.sequence}:{done.entry.hash}"
    )


def send(
    ledger: Path, series_uid: str, folder: Path, peer: str, *, actor: str, own_title: str
) -> tuple[tuple[str, bool, str], ...]:
    """Send the files of a study's last release; return name, whether it was stored, and words of each.

    Raises
    ------
    SomeCasesFailed
        If a file was not stored and nothing went in its place.
    ReviewError
        If nothing is released, or a file is not what was released.
    ResourceError
        If the peer cannot be reached.
    """
    done = send_released(Ledger(path=ledger), series_uid, folder, Peer.read(peer), actor=actor, own_title=own_title)
    failures = [f"{one.name}: {one.words}" for one in done if not one.stored and "in its place" not in one.words]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(done)} files were not stored by {peer}.", failures)
    return tuple((one.name, one.stored, one.words) for one in done)


def _replaced(ledger: Ledger, draft: DraftResult) -> str:
    """Return the content hash of the released version that a draft replaces; empty if there is none."""
    now = state_of(ledger, draft.source.series_uid)
    replaces = now.state in (State.RELEASED, State.RECALLED) and now.content_sha256 != draft.content_sha256
    return now.content_sha256 if replaces else ""


def _approved(ledger: Ledger, draft: DraftResult, approval: ApprovalRequest) -> ApprovedResult:
    """Bring a draft to review as far as the ledger does not know it, and approve it."""
    series, reviewer = draft.source.series_uid, approval.reviewer
    now = state_of(ledger, series)
    same = now.content_sha256 == draft.content_sha256
    if now.state in (State.APPROVED, State.RELEASED) and same:
        if now.approval is not None and now.approval.reviewer_id != reviewer.actor:
            raise ReviewError("The ledger holds this content as approved by another person; release it in that name.")
        return approval_on_record(ledger, draft)
    editor = approval.editor or reviewer.actor
    if now.state in (State.NEW, State.RECEIVED) and not approval.editor:
        record_inference(ledger, draft, actor=ACTOR)
        request_review(ledger, draft, actor=ACTOR)
    elif now.state is State.INFERRED and same:
        request_review(ledger, draft, actor=ACTOR)
    elif now.state in (State.RELEASED, State.RECALLED):
        amend(ledger, draft, editor=editor, reason=approval.reason)
    elif not same or now.state is State.REJECTED:
        record_edit(ledger, draft, editor=editor, reason=approval.reason)
    return approve(draft, reviewer, ledger, policy=ReviewPolicy(four_eyes=approval.four_eyes))


def _writers(loaded: Loaded, objects: Mapping[Kind, str], settings: ExportSettings, replaced: str) -> dict[str, Writer]:
    made = _Made()
    fhir = FhirSettings(version=settings.fhir_version, outcome="amended" if replaced else "final", previous=replaced)

    def bundle(path: Path, approved: ApprovedResult) -> None:
        measures = measure_structures(approved.draft)
        write_bundle(path, approved_bundle(approved, measures, _files(settings, objects, path.parent), fhir))

    writers: dict[Kind, Writer] = {
        "rtstruct": lambda path, approved: write_rtstruct(path, approved, _structure_set(settings)),
        "seg": lambda path, approved: made.keep(write_seg(path, approved, _segmentation(settings))),
        "sr": lambda path, approved: write_sr(path, approved, made.segmentation()),
        "fhir": bundle,
    }
    return {objects[kind]: writers[kind] for kind in KINDS if kind in objects}


@dataclass(kw_only=True, slots=True)
class _Made:
    """The segmentation that was just written, for the report that refers to it."""

    written: list[WrittenSegmentation] = field(default_factory=list)

    def keep(self, written: WrittenSegmentation) -> WrittenSegmentation:
        self.written.append(written)
        return written

    def segmentation(self) -> WrittenSegmentation:
        return self.written[-1]


def _require_segmentation(objects: Mapping[Kind, str]) -> None:
    if "sr" in objects and "seg" not in objects:
        raise UsageError("A structured report refers to segments; write a segmentation with it.")
    names = list(objects.values())
    if len(set(names)) < len(names):
        raise UsageError(f"Every object needs a file of its own; got {names}.")


def _structure_set(settings: ExportSettings) -> StructureSetSettings:
    return StructureSetSettings(
        label=settings.label,
        holes=settings.holes,
        simplify_voxels=settings.simplify_voxels,
        edited_by_person=settings.edited_by_person,
    )


def _segmentation(settings: ExportSettings) -> SegmentationSettings:
    return SegmentationSettings(
        kind=settings.seg_kind,
        omit_empty_frames=not settings.keep_empty_frames,
        edited_by_person=settings.edited_by_person,
        content_label=settings.label.upper(),
    )


def _files(settings: ExportSettings, objects: Mapping[Kind, str], folder: Path) -> tuple[DicomFile, ...]:
    written = [folder / objects[kind] for kind in KINDS if kind in objects and kind != "fhir"]
    return tuple(describe_file(path) for path in (*settings.objects, *written))


def _paths(objects: Mapping[Kind, str], out: Path) -> tuple[Path, ...]:
    return tuple(out / objects[kind] for kind in KINDS if kind in objects)
