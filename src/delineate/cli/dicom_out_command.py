"""Objects of DICOM and FHIR from the command line: ``delineate dicom to-...`` and ``delineate predict --dicom``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.cli.commands import Session
    from delineate.workflows.dicom_out import ApprovalRequest, Exported, ExportSettings

ACTIONS = {
    "to-rtstruct": "write a label map as an RT Structure Set",
    "to-seg": "write a label map as a DICOM Segmentation",
    "to-sr": "write its measurements as a structured report, with the segmentation that it refers to",
    "to-fhir": "write it as a FHIR transaction",
}
"""What this module adds to ``delineate dicom``."""


def declare_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the actions that write to the parser of ``delineate dicom``."""
    for name, words in ACTIONS.items():
        parser = actions.add_parser(name, help=words, description=words)
        parser.add_argument("labels", type=Path, metavar="LABELS", help="label map: NIfTI, NRRD, MHA, ...")
        parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="the DICOM series")
        parser.add_argument("--series", metavar="UID", help="which series, if there are several")
        parser.add_argument("--part", metavar="NAME", help="which volume of a 4-D series, as `inspect` names it")
        parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE")
        parser.add_argument(
            "--structure", action="append", default=[], metavar="NAME=VALUE", help="what a value means; repeat"
        )
        parser.add_argument(
            "--structures",
            type=Path,
            metavar="FILE",
            help="dataset.json, or a table with value and name; default: beside the label map",
        )
        parser.add_argument("--model", default="not stated", metavar="NAME", help="what made the label map")
        parser.add_argument(
            "--edited-by", default="", metavar="ID", help="the person who changed what the model drew, if one did"
        )
        _approval_options(parser)
        _object_options(parser, name)


def _approval_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("approval", "without these, what is written is a draft and says so")
    group.add_argument("--approved-by", metavar="NAME", help="who takes responsibility: Family^Given, or plain words")
    group.add_argument("--reviewer-id", default="", metavar="ID", help="of that person at the site")
    group.add_argument("--ledger", type=Path, metavar="FILE", help="where the approval and the release are recorded")
    group.add_argument("--four-eyes", action="store_true", help="who edited the mask may not approve it")
    group.add_argument("--reason", default="", metavar="TEXT", help="why what was released or rejected is replaced")


def _object_options(parser: argparse.ArgumentParser, action: str) -> None:
    if action == "to-rtstruct":
        parser.add_argument("--label", default="DELINEATE", help="structure set label, at most 16 characters")
        parser.add_argument("--holes", default="keyhole", choices=("keyhole", "xor"), help="default keyhole")
        parser.add_argument(
            "--simplify", type=float, default=0.0, metavar="VOXELS", help="leave out vertices nearer than this; default 0"
        )
    elif action == "to-fhir":
        parser.add_argument("--fhir-version", default="R4B", choices=("R4B", "R5"))
        parser.add_argument(
            "--object", type=Path, action="append", default=[], metavar="FILE", help="a DICOM file to name; repeat"
        )
    else:
        _segmentation_options(parser)


def _segmentation_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep-empty-frames", action="store_true", help="segmentations with a frame for every plane of the series"
    )
    parser.add_argument("--seg-kind", default="binary", choices=("binary", "labelmap", "fractional"))


def run_action(session: Session) -> int:
    """Run one of :data:`ACTIONS`."""
    from delineate.workflows.dicom_out import export_approved, export_drafts, load_draft

    options = session.options
    loaded = load_draft(
        options.labels,
        options.images,
        structures=_structures(options),
        series_uid=options.series,
        part=options.part,
        model=options.model,
    )
    kind = options.action.removeprefix("to-")
    objects = {kind: options.out.name}
    if kind == "sr":
        objects["seg"] = f"{options.out.stem}_seg.dcm"
    approval, settings = _approval(options), _settings(options)
    folder = options.out.parent
    if approval is None:
        exported = export_drafts(loaded, objects, folder, settings)
    else:
        exported = export_approved(loaded, approval, objects, folder, settings)
    _tell(exported)
    return 0


def _structures(options: argparse.Namespace) -> Any:
    from delineate.workflows.dicom_out import read_structures, structure_of

    if options.structure and options.structures is not None:
        raise UsageError("Name structures with --structure or --structures, not both.")
    if options.structures is not None:
        return read_structures(options.structures)
    return tuple(structure_of(words) for words in options.structure)


def _approval(options: argparse.Namespace) -> ApprovalRequest | None:
    from delineate.workflows.dicom_out import approval_request

    if options.approved_by is None and options.ledger is None:
        return None
    if options.approved_by is None or options.ledger is None:
        raise UsageError("An approval needs both --approved-by and --ledger; without both a draft is written.")
    return approval_request(
        options.approved_by,
        options.ledger,
        identity=options.reviewer_id,
        editor=options.edited_by,
        four_eyes=options.four_eyes,
        reason=options.reason,
    )


def _settings(options: argparse.Namespace) -> ExportSettings:
    from delineate.workflows.dicom_out import ExportSettings

    return ExportSettings(
        holes=getattr(options, "holes", "keyhole"),
        simplify_voxels=getattr(options, "simplify", 0.0),
        seg_kind=getattr(options, "seg_kind", "binary"),
        keep_empty_frames=getattr(options, "keep_empty_frames", False),
        edited_by_person=bool(getattr(options, "edited_by", "")),
        label=getattr(options, "label", "DELINEATE"),
        fhir_version=getattr(options, "fhir_version", "R4B"),
        objects=tuple(getattr(options, "object", ())),
    )


def _tell(exported: Exported) -> None:
    for notice in exported.notices:
        print(f"note    {notice}")
    for path in exported.files:
        print(f"written {path}")
    state = f"approved and released; ledger row {exported.ledger_row}" if exported.ledger_row else "draft, not reviewed"
    print(f"state   {state}")


def declare_prediction(parser: argparse.ArgumentParser) -> None:
    """Add what ``delineate predict`` needs to segment a DICOM study."""
    group = parser.add_argument_group("DICOM", "segment a series and write drafts, each marked as not reviewed")
    group.add_argument("--dicom", type=Path, metavar="STUDY", help="folder or zip of a study, in place of -i")
    group.add_argument(
        "--series", nargs="+", default=[], metavar="UID", help="series of the model's channels; default: the only one"
    )
    for kind, words in (
        ("rtstruct", "RT Structure Set"),
        ("seg", "Segmentation"),
        ("sr", "structured report"),
        ("fhir", "FHIR transaction"),
    ):
        group.add_argument(f"--{kind}", metavar="FILE", help=f"{words} in the output folder")
    _segmentation_options(parser)


def predict_study(session: Session, model: Any) -> int:
    """Segment a study with a model that was loaded, and write the drafts that were asked for."""
    from delineate.workflows.dicom_out import KINDS
    from delineate.workflows.predict_dicom import predict_dicom

    options = session.options
    objects = {kind: getattr(options, kind) for kind in KINDS if getattr(options, kind) is not None}
    exported = predict_dicom(
        model,
        options.dicom,
        objects,
        options.out,
        series=options.series,
        settings=_settings(options),
        **session.watched,
    )
    _tell(exported)
    return 0
