"""The command ``delineate anatomy``: words in, one workflow, words out; and where weights are looked for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.workflows.run_anatomy import AnatomyOutcome

WEIGHTS_VARIABLE = "TOTALSEG_WEIGHTS_PATH"
HOME_VARIABLE = "TOTALSEG_HOME_DIR"
"""TotalSegmentator's own variables: the folder of results, and the folder that holds ``nnunet/results``."""
SHOWN_FINDINGS = 20


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scan", type=Path, nargs="?", help="an image, or a folder with one DICOM series")
    parser.add_argument("-o", "--out", type=Path, help="folder for everything that is written")
    parser.add_argument("--task", default="total", help="what to segment, see --list-tasks; default total (CT)")
    parser.add_argument("--fast", action="store_true", help="the model at 3 mm: quicker, coarser")
    parser.add_argument("--fastest", action="store_true", help="the model at 6 mm: quickest, coarsest")
    parser.add_argument("--roi", nargs="+", default=[], metavar="STRUCTURE", help="only these structures: quicker")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with DatasetNNN_* folders of weights")
    parser.add_argument("--separate", action="store_true", help="one file per structure instead of one for all")
    parser.add_argument("--no-preview", action="store_true", help="write no picture")
    parser.add_argument(
        "--i-have-a-licence", action="store_true", help="confirm that you may use weights that need a licence number"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--list-tasks", action="store_true", help="show the tasks and stop")
    parser.add_argument("--list-classes", metavar="TASK", help="show the structures of a task and stop")
    parser.add_argument("--install", type=Path, nargs="+", metavar="ZIP", help="unpack downloaded weights and stop")


def _run(session: Session) -> int:
    options = session.options
    if options.list_tasks:
        return _list_tasks()
    if options.list_classes:
        return _list_classes(options.list_classes)
    if options.install:
        return _install(options.install, _places(options.weights)[0])
    if options.scan is None or options.out is None:
        raise UsageError("Name the scan and the output folder: delineate anatomy SCAN -o OUT.")
    return _segment(session)


def _segment(session: Session) -> int:
    from delineate.workflows.run_anatomy import AnatomySettings, run_anatomy

    options = session.options
    settings = AnatomySettings(
        task=options.task,
        fast=options.fast,
        fastest=options.fastest,
        structures=options.roi,
        places=_places(options.weights),
        licence_confirmed=options.i_have_a_licence,
        separate=options.separate,
        preview=not options.no_preview,
        device=options.device,
        precision=options.precision,
    )
    _print_outcome(run_anatomy(options.scan, options.out, settings, **session.watched), options.out)
    return 0


def _print_outcome(outcome: AnatomyOutcome, out: Path) -> None:
    present = [name for name, one in outcome.statistics.items() if one.voxels]
    cut = [name for name in present if outcome.statistics[name].truncated]
    print(f"{len(present)} of {len(outcome.statistics)} structures found; {len(cut)} reach the border of the image")
    for finding in outcome.findings[:SHOWN_FINDINGS]:
        print(f"check     {finding.text}")
    if len(outcome.findings) > SHOWN_FINDINGS:
        print(f"check     and {len(outcome.findings) - SHOWN_FINDINGS} more in {out / 'findings.json'}")
    print(f"labels    {outcome.segmentation}\nnumbers   {out / 'statistics.csv'}")
    print(f"time      {outcome.anatomy.seconds:.0f} s, {len(outcome.anatomy.models)} models")
    print(f"licence   {outcome.licence.text}")
    print("A draft for research, not for diagnosis; nobody has looked at it yet.")


def _list_tasks() -> int:
    from delineate.workflows.run_anatomy import list_tasks

    for name, modality, licence, count, variants in list_tasks():
        print(f"{name:<28} {modality}  {count:>3} structures  licence: {licence:<15} {variants}")
    return 0


def _list_classes(task: str) -> int:
    from delineate.workflows.run_anatomy import list_structures

    for value, name, tg263, code in list_structures(task):
        print(f"{value:>3}  {name:<36} {tg263:<18} {code}".rstrip())
    return 0


def _install(zips: list[Path], results: Path) -> int:
    from delineate.workflows.run_anatomy import install

    for folder in install(zips, results):
        print(f"installed {folder}")
    return 0


def _places(given: Path | None) -> list[Path]:
    """Return where weights may lie: the option alone if there is one; else the variables, else the home folder."""
    if given is not None:
        return [given]
    variable, home = os.environ.get(WEIGHTS_VARIABLE), os.environ.get(HOME_VARIABLE)
    places = [Path(variable)] if variable else []
    places += [Path(home) / "nnunet" / "results"] if home else []
    return [*places, Path.home() / ".totalsegmentator" / "nnunet" / "results"]


COMMANDS = (
    Command(
        name="anatomy",
        help="segment up to 117 structures of a scan with TotalSegmentator's weights that you have",
        declare=_options,
        run=_run,
    ),
)
