"""Objects of DICOM and FHIR from the command line: ``delineate dicom to-...``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.dicom_prediction import export_settings, segmentation_options, tell
from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.case import Structure
    from delineate.workflows.dicom_out import ApprovalRequest, Kind


def _labels_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "labels",
        type=Path,
        metavar="LABELS",
        help="label map (NIfTI, NRRD, MHA, ...), or a folder with one mask per structure",
    )
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


def _approval_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("approval", "without these, what is written is a draft and says so")
    group.add_argument("--approved-by", metavar="NAME", help="who takes responsibility: Family^Given, or plain words")
    group.add_argument("--reviewer-id", default="", metavar="ID", help="of that person at the site")
    group.add_argument("--ledger", type=Path, metavar="FILE", help="where the approval and the release are recorded")
    group.add_argument("--four-eyes", action="store_true", help="who edited the mask may not approve it")
    group.add_argument("--reason", default="", metavar="TEXT", help="why what was released or rejected is replaced")


def _rtstruct_options(parser: argparse.ArgumentParser) -> None:
    _labels_options(parser)
    parser.add_argument("--label", default="DELINEATE", help="structure set label, at most 16 characters")
    parser.add_argument("--holes", default="keyhole", choices=("keyhole", "xor"), help="default keyhole")
    parser.add_argument(
        "--simplify", type=float, default=0.0, metavar="VOXELS", help="leave out vertices nearer than this; default 0"
    )


def _seg_options(parser: argparse.ArgumentParser) -> None:
    _labels_options(parser)
    segmentation_options(parser)


def _fhir_options(parser: argparse.ArgumentParser) -> None:
    _labels_options(parser)
    parser.add_argument("--fhir-version", default="R4B", choices=("R4B", "R5"))
    parser.add_argument(
        "--object", type=Path, action="append", default=[], metavar="FILE", help="a DICOM file to name; repeat"
    )


def _to_rtstruct(session: Session) -> int:
    return _export(session, {"rtstruct": session.options.out.name})


def _to_seg(session: Session) -> int:
    return _export(session, {"seg": session.options.out.name})


def _to_sr(session: Session) -> int:
    out = session.options.out
    return _export(session, {"sr": out.name, "seg": f"{out.stem}_seg.dcm"})


def _to_fhir(session: Session) -> int:
    return _export(session, {"fhir": session.options.out.name})


def _send_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the released files lie")
    parser.add_argument("--series", required=True, metavar="UID", help="the series whose results are sent")
    parser.add_argument("--ledger", type=Path, required=True, metavar="FILE", help="the ledger of their release")
    parser.add_argument("--to", required=True, metavar="TITLE@HOST:PORT", help="the archive or planning system")
    parser.add_argument("--own-title", default="DELINEATE", metavar="TITLE", help="default DELINEATE")
    parser.add_argument("--actor", default="delineate", help="who sends, for the ledger")


def _send(session: Session) -> int:
    from delineate.workflows.dicom_out import send

    options = session.options
    results = send(
        options.ledger,
        options.series,
        options.folder,
        options.to,
        actor=options.actor,
        own_title=options.own_title,
    )
    for name, stored, words in results:
        print(f"{'stored' if stored else 'not':<7} {name}: {words}")
    return 0


def _export(session: Session, objects: dict[Kind, str]) -> int:
    from delineate.workflows.dicom_draft import load_draft
    from delineate.workflows.dicom_out import export_approved, export_drafts

    options = session.options
    loaded = load_draft(
        options.labels,
        options.images,
        structures=_structures(options),
        series_uid=options.series,
        part=options.part,
        model=options.model,
    )
    approval, settings = _approval(options), export_settings(options)
    folder = options.out.parent
    if approval is None:
        exported = export_drafts(loaded, objects, folder, settings)
    else:
        exported = export_approved(loaded, approval, objects, folder, settings)
    tell(exported)
    return 0


def _structures(options: argparse.Namespace) -> tuple[Structure, ...]:
    from delineate.workflows.dicom_draft import read_structures, structure_of

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


DOORS = (
    Command(
        name="to-rtstruct",
        help="write a label map as an RT Structure Set",
        declare=_rtstruct_options,
        run=_to_rtstruct,
    ),
    Command(name="to-seg", help="write a label map as a DICOM Segmentation", declare=_seg_options, run=_to_seg),
    Command(
        name="to-sr",
        help="write its measurements as a structured report, with the segmentation that it refers to",
        declare=_seg_options,
        run=_to_sr,
    ),
    Command(name="to-fhir", help="write it as a FHIR transaction", declare=_fhir_options, run=_to_fhir),
    Command(name="send", help="send released files by C-STORE", declare=_send_options, run=_send),
)
"""What this module adds to ``delineate dicom``."""
