"""The command ``delineate study``: a prospective study from its protocol to its analysis."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable
from pathlib import Path

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

ARMS = ("manual", "assisted", "silent")


def _options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _action(actions, "init", "write a protocol to start from")
    _action(actions, "check", "tell all faults of the protocol, or what it means")
    _action(actions, "lock", "freeze the protocol; later changes are deviations")
    _enrol_options(_action(actions, "enrol", "take a case into the study; tells its arm"))
    _record_options(_action(actions, "record", "record an outcome, a harm, a deviation, an answer, an exclusion"))
    predict = _action(actions, "predict", "silent arm: predict into the study's hidden store")
    predict.add_argument("model", type=Path, help="model package or run")
    predict.add_argument("-i", "--input", type=Path, required=True, help="an image, or a folder of images")
    predict.add_argument("--device", default="auto")
    reveal = _action(actions, "reveal", "show a hidden prediction, once it may be shown")
    reveal.add_argument("--case", required=True, metavar="ID")
    reveal.add_argument("-o", "--out", type=Path, required=True)
    _action(actions, "status", "how far the study is, and whether it must stop")
    close = _action(actions, "close", "end enrolment")
    close.add_argument("--reason", required=True)
    for name, words in (
        ("analyse", "look at the results by the locked plan"),
        ("export", "tables of what is recorded"),
    ):
        _action(actions, name, words).add_argument("-o", "--out", type=Path, required=True)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=words, description=words)
    parser.add_argument("study", type=Path, metavar="STUDY", help="the study's folder")
    parser.add_argument("--actor", help="who does this, for the ledger; default: the name of the login")
    return parser


def _enrol_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--case", required=True, metavar="ID")
    parser.add_argument("--site", required=True)
    parser.add_argument("--patient", default="", metavar="ID", help="default: the case")
    parser.add_argument("--ineligible", default="", metavar="REASON", help="looked at, and not taken")


def _record_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    outcome = kinds.add_parser("outcome", help="what an arm of a case gave; label maps are measured")
    outcome.add_argument("--case", required=True, metavar="ID")
    outcome.add_argument("--arm", required=True, choices=ARMS)
    outcome.add_argument("--reader", required=True)
    outcome.add_argument("--seconds", type=float, help="the person's time")
    for name, words in (
        ("draft", "assisted: what was shown"),
        ("approved", "what the person approved"),
        ("reference", "truth, for accuracy"),
    ):
        outcome.add_argument(f"--{name}", type=Path, metavar="FILE", help=words)
    outcome.add_argument("--correct", default="", metavar="REASON", help="replace the outcome that is recorded")
    adverse = kinds.add_parser("adverse", help="an adverse event")
    adverse.add_argument("--case", required=True, metavar="ID")
    adverse.add_argument("--severity", required=True, choices=("serious", "other"))
    adverse.add_argument("--text", required=True)
    kinds.add_parser("deviation", help="a departure from the protocol").add_argument("--text", required=True)
    answer = kinds.add_parser("answer", help="a reader's answer to a question of the protocol")
    answer.add_argument("--reader", required=True)
    answer.add_argument("--question", type=int, required=True, metavar="N", help="from 1")
    answer.add_argument("--score", type=int, required=True, help="1 (not at all) to 5 (fully)")
    exclude = kinds.add_parser("exclude", help="leave an enrolled case out of the analysis")
    exclude.add_argument("--case", required=True, metavar="ID")
    exclude.add_argument("--reason", required=True)


def _run(session: Session) -> int:
    actions: dict[str, Callable[[Session], int]] = {
        "init": _init,
        "check": _check,
        "lock": _lock,
        "enrol": _enrol,
        "record": _record,
        "predict": _predict,
        "reveal": _reveal,
        "status": _status,
        "close": _close,
        "analyse": _analyse,
        "export": _export,
    }
    return actions[session.options.action](session)


def _actor(options: argparse.Namespace) -> str:
    if options.actor:
        return str(options.actor)
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:  # a container without a user table
        raise UsageError("Who does this? Name yourself with --actor.") from error


def _init(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study

    print(f"protocol {open_study(session.options.study).create()}\nEdit it, then `check` and `lock` it.")
    return 0


def _check(session: Session) -> int:
    from delineate.workflows.conduct_study import describe_protocol, open_study

    print("\n".join(describe_protocol(open_study(session.options.study))))
    return 0


def _lock(session: Session) -> int:
    from delineate.workflows.conduct_study import describe_protocol, open_study

    study = open_study(session.options.study)
    digest = study.lock(actor=_actor(session.options))
    print("\n".join((*describe_protocol(study), f"locked    SHA-256 {digest}")))
    return 0


def _enrol(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study

    options = session.options
    study, actor = open_study(options.study), _actor(options)
    if options.ineligible:
        study.refuse(options.case, reason=options.ineligible, actor=actor)
        print(f"{options.case}: not eligible, noted")
        return 0
    found = study.enrol(options.case, site=options.site, patient_id=options.patient, actor=actor)
    print(f"{options.case}: {', then '.join(found.arms)}")
    return 0


def _record(session: Session) -> int:
    from delineate.workflows.conduct_study import OutcomeFiles, open_study, record_outcome_files

    options = session.options
    study = open_study(options.study)
    if options.kind == "outcome":
        files = OutcomeFiles(
            case_id=options.case,
            arm=options.arm,
            reader=options.reader,
            approved=options.approved,
            draft=options.draft,
            reference=options.reference,
            seconds=options.seconds,
        )
        record_outcome_files(study, files, correction=options.correct)
    elif options.kind == "adverse":
        study.record_adverse(options.case, severity=options.severity, text=options.text, actor=_actor(options))
    elif options.kind == "deviation":
        study.record_deviation(options.text, actor=_actor(options))
    elif options.kind == "answer":
        study.record_answer(options.question, options.score, reader=options.reader)
    else:
        study.exclude(options.case, reason=options.reason, actor=_actor(options))
    print(f"{options.kind} recorded")
    if stop := study.status().stop:
        print(f"STOP: {stop}. No more cases are taken.")
    return 0


def _predict(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study
    from delineate.workflows.predict_silently import predict_silently

    options = session.options
    count = predict_silently(
        open_study(options.study), options.model, options.input, device=options.device, **session.watched
    )
    print(f"{count} predictions stored, hidden")
    return 0


def _reveal(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study
    from delineate.workflows.predict_silently import reveal

    options = session.options
    print(reveal(open_study(options.study), options.case, options.out, actor=_actor(options)))
    return 0


def _status(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study

    found = open_study(session.options.study).status()
    print(f"protocol    {'locked' if found.locked else 'not locked'}")
    if found.protocol_changed:
        print("            protocol.json is not what was locked: record the deviation, or restore it")
    print(
        f"enrolled    {found.enrolled} of {found.to_enrol}, and {found.sentinels} sentinels; {found.excluded} excluded"
    )
    print(f"evaluable   {found.evaluable} of {found.needed}")
    due = "none is left" if found.next_look_at is None else f"the next with {found.next_look_at} evaluable cases"
    print(f"looks       {found.looks_done} of {found.looks_planned}; {due}")
    print(f"events      {found.serious_adverse_events} serious adverse events, {found.deviations} deviations")
    stop = f"STOP: {found.stop}" if found.stop else "running"
    print(f"state       {f'closed: {found.closed}' if found.closed else stop}")
    print(f"checkpoint  {found.checkpoint}")
    return 0


def _close(session: Session) -> int:
    from delineate.workflows.conduct_study import open_study

    open_study(session.options.study).close(session.options.reason, actor=_actor(session.options))
    print("closed")
    return 0


def _analyse(session: Session) -> int:
    from delineate.workflows.conduct_study import analyse_study, flow_lines, open_study

    options = session.options
    found = analyse_study(open_study(options.study), options.out, actor=_actor(options))
    print(f"look {found.look} of {found.planned_looks}{', final' if found.final else ''}")
    for step, detail, count in flow_lines(found):
        print(f"  {count:>5}  {step}{': ' + detail if detail else ''}")
    primary = found.primary
    interval = f"{primary.interval.low:.4g} to {primary.interval.high:.4g}"
    print(f"primary  {primary.question}: {primary.value:.4g} ({interval}), n = {primary.n}\n         {primary.verdict}")
    if primary.stop:
        print(f"STOP: {primary.stop}. The study is closed.")
    print(f"tables   {options.out}")
    return 0


def _export(session: Session) -> int:
    from delineate.workflows.conduct_study import export_study, open_study

    options = session.options
    for path in export_study(open_study(options.study), options.out, actor=_actor(options)):
        print(path)
    return 0


COMMANDS = (
    Command(
        name="study", help="a prospective study: protocol, allocation, outcomes, analysis", declare=_options, run=_run
    ),
)
