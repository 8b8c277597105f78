"""The command ``delineate monitor``: edits and inputs into a ledger, the ledger into control charts."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session
from delineate.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from delineate.workflows.monitor_cases import EditMeasure, Recorded


def _options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _record_options(actions.add_parser("record", help="measure what a person changed in a draft"))
    _log_options(actions.add_parser("log-inputs", help="measure images and the label maps made from them"))
    _chart_options(actions.add_parser("chart", help="draw control charts and tell what left its limits"))
    verify = actions.add_parser("verify", help="find the first altered, deleted or moved row of a ledger")
    verify.add_argument("log", type=Path, metavar="LEDGER")
    verify.add_argument("--checkpoint", metavar="N:HASH", help="a head that was noted elsewhere")


def _record_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("draft", type=Path, nargs="?", help="label map that the person was shown")
    parser.add_argument("approved", type=Path, nargs="?", help="label map that the person approved")
    parser.add_argument("--batch", type=Path, metavar="CSV", help="many: columns draft, approved, case, reader, ...")
    parser.add_argument("--case", metavar="ID")
    parser.add_argument("--reader", metavar="NAME", help="who corrected and approved")
    parser.add_argument("--seconds", type=float, help="the person's time for the case")
    _place(parser)
    structure_options(parser)
    parser.add_argument("--tolerance", type=float, default=1.0, metavar="MM", help="of surface Dice and added path")
    parser.add_argument("--minor-dice", type=float, default=0.95, help="least edit Dice of a minor edit; default 0.95")
    parser.add_argument("--minor-path", type=float, metavar="MM", help="most added path of a minor edit; default any")
    parser.add_argument("--rejected-dice", type=float, default=0.5, help="below it a draft is rejected; default 0.5")
    _ledger(parser)


def _log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, help="an image, or a folder of images")
    parser.add_argument("--predictions", type=Path, metavar="DIR", help="label maps named like the images")
    parser.add_argument("--channels", type=int, default=1, help="files per image (_0000, _0001, ...); default 1")
    parser.add_argument("--quality", type=Path, metavar="CSV", help="quality estimates: column case and numbers")
    parser.add_argument("--actor", default="delineate", help="who logs; default delineate")
    _place(parser)
    structure_options(parser)
    _ledger(parser)


def _chart_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="LEDGER|CSV", help="ledger (.jsonl), or table with column case")
    parser.add_argument("--baseline", type=int, required=True, metavar="N", help="first cases of a site that are usual")
    parser.add_argument("--false-alarm-every", type=float, default=200.0, metavar="CASES", help="per site; default 200")
    parser.add_argument("--group", type=int, default=10, help="cases per point of a p-chart; default 10")
    parser.add_argument("--window", type=int, default=20, help="cases whose distribution is compared; default 20")
    parser.add_argument("--title", default="Monitoring")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")


def _place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--site", default="", help="where the case is from; charts are per site")
    parser.add_argument("--day", default="", help="when the case happened; default: today")


def structure_options(parser: argparse.ArgumentParser) -> None:
    """Declare how the structures of a label map are named."""
    parser.add_argument(
        "--structure", nargs="+", default=[], metavar="NAME=VALUE", help="structures; default: one per label value"
    )
    parser.add_argument("--dataset-json", type=Path, metavar="FILE", help="or the file that declares them")


def _ledger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", type=Path, required=True, metavar="LEDGER", help="a .jsonl file; made if missing")
    parser.add_argument("--correct", default="", metavar="REASON", help="replace what is recorded of these cases")


def _run(session: Session) -> int:
    actions: dict[str, Callable[[Session], int]] = {
        "record": _record,
        "log-inputs": _log_inputs,
        "chart": _chart,
        "verify": _verify,
    }
    return actions[session.options.action](session)


def _measure(options: argparse.Namespace) -> EditMeasure:
    from delineate.workflows.monitor_cases import EditMeasure, edit_thresholds, named_structures

    return EditMeasure(
        structures=named_structures(options.structure, options.dataset_json),
        tolerance_mm=options.tolerance,
        thresholds=edit_thresholds(options.minor_dice, options.minor_path, options.rejected_dice),
    )


def _record(session: Session) -> int:
    from delineate.workflows.monitor_cases import edit_row, record_edit_table, record_edits

    options = session.options
    measure = _measure(options)
    if options.batch is not None:
        done = record_edit_table(options.batch, options.log, measure, correction=options.correct, **session.watched)
    elif None in (options.draft, options.approved, options.case, options.reader):
        raise UsageError("Name the draft, the approved label map, --case and --reader; or a table with --batch.")
    else:
        row = edit_row(
            options.draft,
            options.approved,
            case_id=options.case,
            reader=options.reader,
            seconds=options.seconds,
            site=options.site,
            day=options.day,
        )
        done = record_edits([row], options.log, measure, correction=options.correct, **session.watched)
    _tell(done, options.log)
    return 0


def _log_inputs(session: Session) -> int:
    from delineate.workflows.monitor_cases import named_structures
    from delineate.workflows.monitor_inputs import InputLog, log_cases

    options = session.options
    log = InputLog(
        images=options.images,
        predictions=options.predictions,
        structures=named_structures(options.structure, options.dataset_json),
        channels=options.channels,
        quality=options.quality,
        site=options.site,
        day=options.day,
    )
    _tell(log_cases(log, options.log, actor=options.actor, correction=options.correct, **session.watched), options.log)
    return 0


def _chart(session: Session) -> int:
    from delineate.workflows.monitor_cases import chart_source, monitoring_plan

    options = session.options
    plan = monitoring_plan(
        options.baseline, run_length=options.false_alarm_every, group=options.group, window=options.window
    )
    found = chart_source(options.source, plan, options.out, title=options.title, command=session.command)
    for alarm in found.alarms:
        print(f"{alarm.case_id} ({alarm.day})  {alarm.feature}  {alarm.chart}: {alarm.words}")
    print(f"{len(found.alarms)} alarms of {len(found.charts)} series\npage    {options.out / 'index.html'}")
    return 0


def _verify(session: Session) -> int:
    from delineate.workflows.monitor_cases import check_ledger

    options = session.options
    found = check_ledger(options.log, options.checkpoint)
    if found.fault:
        raise LedgerError(f"{options.log}: {found.fault} The {len(found.entries)} rows before it are whole.")
    print(f"{len(found.entries)} rows, chain whole")
    if found.torn_bytes:
        print(f"the last row was cut off ({found.torn_bytes} bytes); the next append sets it aside and says so")
    if found.entries:
        print(f"checkpoint {found.entries[-1].head.words}")
    return 0


def _tell(done: Recorded, ledger: Path) -> None:
    print(f"{len(done.recorded)} recorded in {ledger}")
    if done.left_out:
        print(
            f"{len(done.left_out)} were there already and stay (--correct REASON replaces): {', '.join(done.left_out)}"
        )


COMMANDS = (
    Command(name="monitor", help="record edits and inputs; control charts of both", declare=_options, run=_run),
)
