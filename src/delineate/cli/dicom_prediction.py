"""What commands that write DICOM and FHIR share, and what ``delineate predict`` takes for a DICOM study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.cli.session import Session
    from delineate.workflows.dicom_out import Exported, ExportSettings


def segmentation_options(parser: argparse.ArgumentParser) -> None:
    """Add how segmentations are written."""
    parser.add_argument(
        "--keep-empty-frames", action="store_true", help="segmentations with a frame for every plane of the series"
    )
    parser.add_argument("--seg-kind", default="binary", choices=("binary", "labelmap", "fractional"))


def export_settings(options: argparse.Namespace) -> ExportSettings:
    """Return how objects are written; what a command does not ask for has its default."""
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


def tell(exported: Exported) -> None:
    """Print what was written and whether anybody approved it."""
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
    group.add_argument("--preview", metavar="FILE", help="PNG of the objects on the images, read back from the files")
    segmentation_options(parser)


def require_one_source(options: argparse.Namespace) -> None:
    """Check that images or a study are to be segmented, and nothing is asked of a study that only images can have."""
    if (options.input is None) == (options.dicom is None):
        raise UsageError("Say what to segment: either -i IMAGES or --dicom STUDY.")
    if options.dicom is None:
        stray = [
            f"--{name}" for name in ("rtstruct", "seg", "sr", "fhir", "preview", "series") if getattr(options, name)
        ]
        if stray:
            raise UsageError(f"{', '.join(stray)} works with --dicom STUDY only; leave it out for -i IMAGES.")
        return
    asked = {"--cluster": options.cluster, "--assess": options.assess, "--probabilities": options.probabilities}
    for name, value in asked.items():
        if value:
            raise UsageError(f"{name} works with -i IMAGES only; leave it out for a DICOM study.")


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
        settings=export_settings(options),
        preview=options.preview,
        **session.watched,
    )
    tell(exported)
    return 0
