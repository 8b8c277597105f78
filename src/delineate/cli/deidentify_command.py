"""The door ``delineate dicom deidentify``: which options of the profile, which key, what is declared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session

if TYPE_CHECKING:
    from delineate.clinical.deidentify_profile import Option

OPTIONS: dict[str, tuple[Option, str]] = {
    "--retain-uids": ("retain_uids", "leave UIDs as they are"),
    "--retain-device": ("retain_device", "keep what identifies the device"),
    "--retain-institution": ("retain_institution", "keep what identifies the institution"),
    "--retain-patient": ("retain_patient", "keep age, sex, size, weight and the like"),
    "--full-dates": ("full_dates", "keep dates and times"),
    "--modified-dates": ("modified_dates", "move each patient's dates by a number of days of its own"),
    "--clean-descriptors": ("clean_descriptors", "keep known words of descriptions instead of none"),
    "--clean-structured-content": ("clean_structured", "keep codes and measurements of reports instead of nothing"),
    "--clean-graphics": ("clean_graphics", "keep drawn graphics of presentation states, without their texts"),
}


def _declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="ORIGINALS", help="folder (with sub-folders) or file; only read")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the de-identified objects")
    for flag, (_, help_) in OPTIONS.items():
        parser.add_argument(flag, action="store_true", help=help_)
    parser.add_argument("--safe-private", type=Path, metavar="CSV", help="private attributes to keep, declared safe")
    parser.add_argument("--words", type=Path, metavar="FILE", help="more words that cleaned descriptions may keep")
    parser.add_argument("--pseudonyms", type=Path, metavar="CSV", help="patient_id,pseudonym; default: from the key")
    parser.add_argument("--key", type=Path, metavar="FILE", help="key of an earlier run, so that both agree")
    parser.add_argument("--forget-key", action="store_true", help="keep neither key nor mapping; all or nothing")
    parser.add_argument("--secrets", type=Path, metavar="DIR", help="folder of key and mapping; default OUT-secrets")
    parser.add_argument(
        "--accept-burned-in", action="store_true", help="take images whose pixels may carry text as they are"
    )
    parser.add_argument(
        "--blank",
        action="append",
        default=[],
        metavar="X,Y,W,H",
        help="pixels to blank in images that may carry text; may be repeated",
    )


def _run(session: Session) -> int:
    from delineate.workflows.deidentify_dicom import DeidentificationRequest, chosen_rectangles, deidentify_folder

    options = session.options
    request = DeidentificationRequest(
        source=options.source,
        out=options.out,
        options=frozenset(
            name for flag, (name, _) in OPTIONS.items() if getattr(options, flag.strip("-").replace("-", "_"))
        ),
        key=options.key,
        forget_key=options.forget_key,
        secrets=options.secrets,
        pseudonyms=options.pseudonyms,
        words=options.words,
        safe_private=options.safe_private,
        accept_burned_in=options.accept_burned_in,
        rectangles=chosen_rectangles(options.blank),
    )
    report = deidentify_folder(request, **session.watched)
    kinds = ", ".join(f"{count} {modality}" for modality, count in report.objects.items())
    print(f"{report.written + report.already_there} objects of {report.patients} patients in {options.out}: {kinds}")
    if report.already_there:
        print(f"{report.already_there} of them were there already")
    for reason, count in report.left_out.items():
        print(f"left out  {count} files: {reason}")
    for notice in report.notices:
        print(f"note      {notice}")
    if not options.forget_key:
        print(f"secrets   {request.secrets_folder}: keep apart from the output")
    return 0


DOORS = (
    Command(name="deidentify", help="take persons out of DICOM objects (PS3.15 Annex E)", declare=_declare, run=_run),
)
