"""``delineate convert-instances``: annotated pictures of other programs become a data set that can be trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from delineate.cli.session import Command, Session

MOST_REMARKS = 20


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        type=Path,
        help="folder of one mask per object, HoVer-Net .npy or .mat, MoNuSeg XML, QuPath GeoJSON, or COCO JSON",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the new data set")


def _run(session: Session) -> int:
    from delineate.workflows.convert_instances import convert_instances

    options = session.options
    done = convert_instances(options.source, options.out, **session.watched)
    print(f"{done.pictures} pictures with {done.objects} objects ({done.kind}) in {options.out}")
    if done.type_names:
        print(f"types   {', '.join(done.type_names)}")
    if done.empty:
        print(f"without any object, kept: {', '.join(done.empty)}")
    print("\n".join(done.remarks[:MOST_REMARKS]), end="\n" if done.remarks else "")
    if len(done.remarks) > MOST_REMARKS:
        print(f"and {len(done.remarks) - MOST_REMARKS} more remarks")
    return 0


COMMANDS = (
    Command(
        name="convert-instances", help="make a data set of objects annotated elsewhere", declare=_options, run=_run
    ),
)
