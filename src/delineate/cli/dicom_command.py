"""The command ``delineate dicom``: one door per direction and object; words in, one workflow each, words out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.cli import deidentify_command, dicom_out_command
from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delineate.formats.dicom.series_report import Finding, SeriesReport
    from delineate.workflows.dicom_masks import WrittenStructures


def _inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a folder, a zip, a DICOMDIR or a file")
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")


def _inspect(session: Session) -> int:
    from delineate.workflows.dicom_in import inspect_series, report_as_json

    reports = inspect_series(session.options.path)
    if session.options.json:
        print(report_as_json(reports))
        return 0
    of_all = [one for one in reports[0].findings if all(one in report.findings for report in reports)]
    shared = of_all if len(reports) > 1 else []
    for report in reports:
        _print_report(report, shared)
    if shared:
        print("all of them")
        _print_findings(shared)
    accepted = sum(report.accepted for report in reports)
    print(f"{accepted} of {len(reports)} series or parts make a volume")
    return 0


def _print_report(report: SeriesReport, told_elsewhere: Sequence[Finding]) -> None:
    rows, columns = report.plane_shape
    size = f"{report.n_planes} x {rows} x {columns}"
    spacing = "-" if report.spacing_mm is None else " x ".join(f"{value:.4g}" for value in report.spacing_mm) + " mm"
    verdict = "accepted" if report.accepted else "refused"
    print(f"{report.series_uid or 'no UID'}  {report.modality:<4} {size:<17} {spacing:<24} {verdict}")
    if report.part or report.description:
        part = f"part '{report.part}'" if report.part else ""
        print("    " + "  ".join(filter(None, (part, report.description))))
    _print_findings([one for one in report.findings if one not in told_elsewhere])


def _print_findings(findings: Sequence[Finding]) -> None:
    for one in findings:
        files = f" ({', '.join(one.files)})" if one.files else ""
        print(f"    {one.severity:<8} {one.code}: {one.words}{files}")


def _to_nifti_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a folder, a zip, a DICOMDIR or a file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="image file for one volume, or folder for all")
    _which_images(parser)


def _to_nifti(session: Session) -> int:
    from delineate.workflows.dicom_in import convert_series

    options = session.options
    written = convert_series(options.path, options.out, series_uid=options.series, part=options.part, **session.watched)
    for one in written:
        print(f"volume    {one.path}")
        for finding in one.report.findings:
            print(f"    {finding.severity:<8} {finding.code}: {finding.words}")
    return 0


def _masks_options(parser: argparse.ArgumentParser, *, needs_images: bool) -> None:
    words = "folder, zip or file with its images" + ("" if needs_images else "; default: on its own frames")
    parser.add_argument("--images", type=Path, required=needs_images, help=words)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--separate", action="store_true", help="one file per structure, even if none overlap")
    _which_images(parser)


def _from_rtstruct_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("structure_set", type=Path, metavar="RT", help="the RT Structure Set")
    _masks_options(parser, needs_images=True)
    parser.add_argument(
        "--nested",
        choices=("even-odd", "union"),
        default="even-odd",
        help="plain contours inside each other: a hole (even-odd, as planning systems do; default) or filled (union)",
    )


def _from_rtstruct(session: Session) -> int:
    from delineate.workflows.dicom_masks import MaskSettings, convert_rtstruct

    options = session.options
    settings = MaskSettings(
        series_uid=options.series,
        part=options.part,
        separate=options.separate,
        nesting="even_odd" if options.nested == "even-odd" else "union",
    )
    written = convert_rtstruct(options.structure_set, options.images, options.out, settings, **session.watched)
    _tell_structures(written, options.out)
    return 0


def _from_seg_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "segmentation", type=Path, metavar="SEG", help="the DICOM Segmentation: binary, fractional or label map"
    )
    _masks_options(parser, needs_images=False)
    parser.add_argument("--fractions", action="store_true", help="of fractional ones, the shares (0 to 1), too")


def _from_seg(session: Session) -> int:
    from delineate.workflows.dicom_masks import MaskSettings, convert_seg

    options = session.options
    if options.images is None and (options.series or options.part):
        raise UsageError("--series and --part choose images; give them with --images.")
    settings = MaskSettings(
        series_uid=options.series, part=options.part, separate=options.separate, fractions=options.fractions
    )
    written = convert_seg(options.segmentation, options.images, options.out, settings, **session.watched)
    _tell_structures(written, options.out)
    return 0


def _preview_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("object", type=Path, metavar="OBJECT", help="an RT Structure Set or a DICOM Segmentation")
    parser.add_argument("--images", type=Path, required=True, help="folder, zip or file with its images")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="a PNG")
    parser.add_argument("--planes", type=int, default=6, help="how many planes to show; default 6")
    _which_images(parser)


def _preview(session: Session) -> int:
    from delineate.workflows.dicom_preview import preview_object

    options = session.options
    told = preview_object(
        options.object,
        options.images,
        options.out,
        series_uid=options.series,
        part=options.part,
        planes=options.planes,
    )
    print(f"written   {options.out}: {told}")
    return 0


def _tell_structures(written: WrittenStructures, out: Path) -> None:
    for name, voxels in zip(written.names, written.voxels, strict=True):
        print(f"{name:<32} {voxels} voxels")
    for notice in written.notices:
        print(f"note      {notice}")
    print(f"written   {written.form}, because {written.why}: {out}")


def _which_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", metavar="UID", help="which series; default: the only one that fits")
    parser.add_argument("--part", metavar="NAME", help="which part of it, as `inspect` names it: 'echo 4.6'")


DOORS = (
    Command(
        name="inspect",
        help="tell what series a folder holds and what is wrong with them",
        declare=_inspect_options,
        run=_inspect,
    ),
    Command(
        name="to-nifti",
        help="write series as image files, each with its report",
        declare=_to_nifti_options,
        run=_to_nifti,
    ),
    Command(
        name="from-rtstruct",
        help="write a structure set as masks on the grid of its images",
        declare=_from_rtstruct_options,
        run=_from_rtstruct,
    ),
    Command(
        name="from-seg",
        help="write a segmentation as masks on the grid of its images",
        declare=_from_seg_options,
        run=_from_seg,
    ),
    Command(
        name="preview",
        help="draw what a structure set or a segmentation marks, read back from its file",
        declare=_preview_options,
        run=_preview,
    ),
    *dicom_out_command.DOORS,
    *deidentify_command.DOORS,
)


def _options(parser: argparse.ArgumentParser) -> None:
    doors = parser.add_subparsers(dest="door", required=True, metavar="DOOR")
    for door in DOORS:
        sub = doors.add_parser(door.name, help=door.help, description=door.help)
        door.declare(sub)
        sub.set_defaults(enter=door.run)


def _run(session: Session) -> int:
    enter: Callable[[Session], Any] = session.options.enter
    try:
        return int(enter(session))
    except ModuleNotFoundError as error:
        if error.name not in ("pydicom", "highdicom"):
            raise
        raise UsageError(
            f"DICOM needs the extra `dicom` ({error.name} is not installed): pip install 'delineate[dicom]'."
        ) from error


COMMANDS = (
    Command(
        name="dicom",
        help="series, structure sets, segmentations, reports, FHIR: inspect, convert, write",
        declare=_options,
        run=_run,
    ),
)
