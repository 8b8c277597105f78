"""The command ``delineate dicom``: from the objects of hospitals, and back to them."""

from __future__ import annotations

import argparse

from delineate.cli import dicom_out_command
from delineate.cli.commands import Command, Session


def _options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    dicom_out_command.declare_actions(actions)


def _run(session: Session) -> int:
    return dicom_out_command.run_action(session)


COMMANDS = (Command(name="dicom", help="DICOM and FHIR: read, write, look at", declare=_options, run=_run),)
