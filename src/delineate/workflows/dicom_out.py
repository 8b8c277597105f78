"""From a draft to the objects that hospitals exchange: marked as not reviewed, or approved, recorded and released."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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
from delineate.clinical.release import Writer, release, sha256_of
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
from delineate.clinical.rtstruct import (
    RT_STRUCTURE_SET,
    Holes,
    StructureSetSettings,
    WrittenStructureSet,
    write_draft_rtstruct,
    write_rtstruct,
)
from delineate.clinical.sending import Peer, send_released
from delineate.clinical.structured_report import write_draft_sr, write_sr
from delineate.errors import ReviewError, SomeCasesFailed, UsageError
from delineate.execution.atomic import staged_files
from delineate.workflows.dicom_draft import Loaded

Kind = Literal["rtstruct", "seg", "sr", "fhir"]
KINDS: tuple[Kind, ...] = ("rtstruct", "seg", "sr", "fhir")
"""In the order of writing: reports refer to the segmentation, bundles to all of them."""
ACTOR = "delineate"
LONGEST_LABEL = 16
"""Characters of a short string of DICOM."""


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

    def __post_init__(self) -> None:
        if not (math.isfinite(self.simplify_voxels) and self.simplify_voxels >= 0):
            raise UsageError(f"Contours are simplified by 0 or more voxels; got {self.simplify_voxels}.")
        if not 1 <= len(self.label.strip()) <= LONGEST_LABEL:
            raise UsageError(f"A label has 1 to {LONGEST_LABEL} characters; got '{self.label}'.")


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
class Exported:
    """What was written."""

    files: tuple[Path, ...]
    notices: tuple[str, ...]
    ledger_row: str
    """Number and hash of the ledger's row that records the release; empty for drafts."""


def approval_request(
    name: str, ledger: Path, *, identity: str = "", editor: str = "", four_eyes: bool = False, reason: str = ""
) -> ApprovalRequest:
    """Return who approves and where that is recorded.

    Raises
    ------
    UsageError
        If the reviewer has no name.
    """
    if not name.strip():
        raise UsageError("An approval names the person who takes responsibility; got an empty name.")
    reviewer = Reviewer(name=name, identity=identity)
    return ApprovalRequest(reviewer=reviewer, ledger=ledger, editor=editor, four_eyes=four_eyes, reason=reason)


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
    made = _Made(simplified=settings.simplify_voxels > 0)
    writers: dict[Kind, Callable[[Path], object]] = {
        "rtstruct": lambda path: made.tell(write_draft_rtstruct(path, loaded.draft, _structure_set(settings))),
        "seg": lambda path: made.keep(write_draft_seg(path, loaded.draft, _segmentation(settings))),
        "sr": lambda path: write_draft_sr(path, loaded.draft, made.segmentation()),
        "fhir": lambda path: write_bundle(
            path,
            draft_bundle(
                loaded.draft,
                measure_structures(loaded.draft),
                _files(settings, objects, path.parent),
                FhirSettings(version=settings.fhir_version),
            ),
        ),
    }
    _require_files(objects, out)
    with staged_files(out) as stage:
        for kind in (kind for kind in KINDS if kind in objects):
            writers[kind](stage / objects[kind])
    return Exported(files=_paths(objects, out), notices=(*loaded.notices, *made.notices), ledger_row="")


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
    _require_files(objects, out)
    replaced, made = _replaced(ledger, loaded.draft, out), _Made(simplified=settings.simplify_voxels > 0)
    approved = _approved(ledger, loaded.draft, approval)
    writers = _writers(loaded, objects, settings, replaced, made)
    done = release(approved, ledger, out, writers, actor=approval.reviewer.actor)
    notices = [*loaded.notices, *made.notices]
    if replaced is not None and replaced.structure_set is None and "rtstruct" in objects:
        notices.append(f"no released structure set lies in {out}, so the new one names no predecessor")
    return Exported(
        files=_paths(objects, out), notices=tuple(notices), ledger_row=f"{done.entry.sequence}:{done.entry.hash}"
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
    UsageError
        If there is no ledger.
    ResourceError
        If the peer cannot be reached.
    """
    if not ledger.is_file():
        raise UsageError(f"{ledger}: expected the ledger of the release; there is none. Check the path.")
    done = send_released(Ledger(path=ledger), series_uid, folder, Peer.read(peer), actor=actor, own_title=own_title)
    failures = [f"{one.name}: {one.words}" for one in done if not one.stored and "in its place" not in one.words]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(done)} files were not stored by {peer}.", failures)
    return tuple((one.name, one.stored, one.words) for one in done)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Replaced:
    """The released version that a draft replaces."""

    content_sha256: str
    structure_set: tuple[str, str] | None
    """SOP class and instance UID of its structure set, if that lies where the new one goes."""


def _replaced(ledger: Ledger, draft: DraftResult, out: Path) -> _Replaced | None:
    """Return what a draft replaces; None if nothing was released or it is the same content."""
    now = state_of(ledger, draft.source.series_uid)
    if now.state not in (State.RELEASED, State.RECALLED) or now.content_sha256 == draft.content_sha256:
        return None
    names = [(out / name, digest) for one in now.released for name, digest in one.items() if not name.endswith(".json")]
    found = [describe_file(path) for path, digest in names if path.is_file() and sha256_of(path) == digest]
    sets = [(one.sop_class_uid, one.sop_instance_uid) for one in found if one.sop_class_uid == RT_STRUCTURE_SET]
    return _Replaced(content_sha256=now.content_sha256, structure_set=sets[-1] if sets else None)


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


def _writers(
    loaded: Loaded, objects: Mapping[Kind, str], settings: ExportSettings, replaced: _Replaced | None, made: _Made
) -> dict[str, Writer]:
    fhir = FhirSettings(
        version=settings.fhir_version,
        outcome="amended" if replaced else "final",
        previous=replaced.content_sha256 if replaced else "",
    )
    predecessor = replaced.structure_set if replaced else None

    def bundle(path: Path, approved: ApprovedResult) -> None:
        measures = measure_structures(approved.draft)
        write_bundle(path, approved_bundle(approved, measures, _files(settings, objects, path.parent), fhir))

    writers: dict[Kind, Writer] = {
        "rtstruct": lambda path, approved: made.tell(
            write_rtstruct(path, approved, _structure_set(settings, predecessor))
        ),
        "seg": lambda path, approved: made.keep(write_seg(path, approved, _segmentation(settings))),
        "sr": lambda path, approved: write_sr(path, approved, made.segmentation()),
        "fhir": bundle,
    }
    return {objects[kind]: writers[kind] for kind in KINDS if kind in objects}


@dataclass(kw_only=True, slots=True)
class _Made:
    """The segmentation that was just written, for the report that refers to it; and what is to be told."""

    simplified: bool
    written: list[WrittenSegmentation] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def keep(self, written: WrittenSegmentation) -> WrittenSegmentation:
        self.written.append(written)
        return written

    def tell(self, written: WrittenStructureSet) -> WrittenStructureSet:
        """Note what contours lost that were simplified."""
        for one in written.structures if self.simplified else ():
            self.notices.append(
                f"{one.name}: simplified to {one.points} points; Dice with the mask is {one.dice_kept:.4f}"
            )
        return written

    def segmentation(self) -> WrittenSegmentation:
        return self.written[-1]


def _require_segmentation(objects: Mapping[Kind, str]) -> None:
    if "sr" in objects and "seg" not in objects:
        raise UsageError("A structured report refers to segments; write a segmentation with it.")
    names = list(objects.values())
    if len(set(names)) < len(names):
        raise UsageError(f"Every object needs a file of its own; got {names}.")


def _require_files(objects: Mapping[Kind, str], out: Path) -> None:
    """Refuse names under which folders lie, before anything is written."""
    folders = [path for path in _paths(objects, out) if path.is_dir()]
    if folders:
        raise UsageError(f"{folders[0]}: is a folder; an object is a file. Choose another name.")


def _structure_set(settings: ExportSettings, predecessor: tuple[str, str] | None = None) -> StructureSetSettings:
    return StructureSetSettings(
        label=settings.label,
        holes=settings.holes,
        simplify_voxels=settings.simplify_voxels,
        edited_by_person=settings.edited_by_person,
        predecessor=predecessor,
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
