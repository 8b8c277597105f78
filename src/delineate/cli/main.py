"""The command ``delineate``."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from delineate import __version__
from delineate.cli import (
    anatomy_command,
    configurations_command,
    convert_command,
    convert_instances_command,
    dicom_command,
    evaluate_command,
    exchange_command,
    monitor_command,
    nnunet,
    nuclei_command,
    quantise_command,
    raters_command,
    sites_command,
    study_command,
    trust_commands,
)
from delineate.cli.commands import COMMANDS
from delineate.cli.live_progress import progress_for
from delineate.cli.log_lines import log_to_terminal
from delineate.cli.session import Session
from delineate.errors import DelineateError
from delineate.execution import Cancellation

DESCRIPTION = "From annotated medical images to contours that a clinician has approved."
EPILOG = """exit codes: 0 done, 1 fault of the program, 2 wrong use, 3 the data cannot be used, 4 some cases failed,
5 model missing or damaged, 6 device, memory or disk do not suffice, 130 interrupted (run the same command to go on)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    cancellation = Cancellation()
    command = " ".join(["delineate", *(arguments if arguments is not None else sys.argv[1:])])
    progress = progress_for(sys.stderr, disabled=options.plain_progress)
    session = Session(options=options, progress=progress, cancellation=cancellation, command=command)
    try:
        with log_to_terminal(verbose=options.verbose), _interruptible(cancellation):
            return int(options.run(session))
    except DelineateError as error:
        if options.verbose:
            traceback.print_exception(error)
        print(f"\ndelineate {options.command}: {error.diagnostics()}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ndelineate: stopped at once; run the same command to go on from the last saved state.", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; nothing heavy is imported for it."""
    parser = argparse.ArgumentParser(
        prog="delineate", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"delineate {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    more = (
        convert_command,
        convert_instances_command,
        evaluate_command,
        sites_command,
        anatomy_command,
        dicom_command,
        exchange_command,
        quantise_command,
        configurations_command,
        study_command,
        monitor_command,
        nnunet,
        nuclei_command,
        raters_command,
        trust_commands,
    )
    for command in (*COMMANDS, *(command for module in more for command in module.COMMANDS)):
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        sub.add_argument("--verbose", action="store_true", help="also print the cause of an error and debug messages")
        sub.add_argument("--plain-progress", action="store_true", help="progress as plain lines, not a live line")
        command.declare(sub)
        sub.set_defaults(run=command.run)
    return parser


@contextmanager
def _interruptible(cancellation: Cancellation) -> Iterator[None]:
    """Let the first Ctrl-C ask the work to stop at a safe point, and the second stop it at once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if cancellation.requested:
            raise KeyboardInterrupt
        print("\nstopping at the next safe point; press Ctrl-C again to stop at once", file=sys.stderr)
        cancellation.request()

    try:
        earlier = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


if __name__ == "__main__":
    sys.exit(main())
