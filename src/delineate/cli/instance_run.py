"""``delineate run`` on pictures with instances: the words it takes and gives."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import UsageError
from delineate.execution.quantities import read_budget, spoken_seconds

if TYPE_CHECKING:
    from delineate.cli.session import Session

_ELSEWHERE = {
    "configuration": "--configuration",
    "split_by": "--split-by",
    "table": "--table",
    "preset": "--preset",
    "memory": "--memory",
    "no_mirroring": "--no-mirroring",
    "repair": "--repair",
    "jobs": "--jobs",
}
"""Options of ``run`` that mean nothing for instances, by the name of their value."""


def _refuse_elsewhere(options: argparse.Namespace, declare: Callable[[argparse.ArgumentParser], None]) -> None:
    """Refuse options that mean nothing for pictures with instances; ``declare`` knows what they are when left away."""
    parser = argparse.ArgumentParser()
    declare(parser)
    given = [
        word
        for name, word in _ELSEWHERE.items()
        if hasattr(options, name) and getattr(options, name) != parser.get_default(name)
    ]
    if given:
        raise UsageError(
            f"{options.dataset} holds pictures with instances; {', '.join(given)} cannot be used with them. Leave "
            f"{'it' if len(given) == 1 else 'them'} away."
        )


def instance_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of instances to ``run``."""
    group = parser.add_argument_group("pictures with instances")
    group.add_argument(
        "--also", type=Path, action="append", default=[], metavar="DATASET", help="train on this one too; repeatable"
    )
    group.add_argument("--mpp", type=float, metavar="UM", help="micrometres per pixel of all pictures; never guessed")
    group.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="owner and licence of a data set, for the model's card: nuclei='BBBC038, CC0'; repeatable",
    )
    group.add_argument("--licence", default="", help="licence of the model, as that of the data demands it")


def run_instances(session: Session, declare: Callable[[argparse.ArgumentParser], None]) -> int:
    """Train on pictures with instances and print where the results are; ``declare`` makes the command's options."""
    from delineate.workflows.run_instance_dataset import InstanceSettings, run_instance_dataset

    options = session.options
    _refuse_elsewhere(options, declare)
    settings = InstanceSettings(
        budget_seconds=read_budget(options.budget),
        pixel_um=options.mpp,
        device=options.device,
        licence=options.licence,
        sources=dict(_source(word) for word in options.source),
        command=session.command,
        start_model=options.start_model,
        fold=_fold(options.fold),
    )
    outcome = run_instance_dataset([options.dataset, *options.also], options.out, settings, **session.watched)
    for group in outcome.conclusion.groups:
        print(
            f"{group.group}, {group.n_pictures} held out: {group.n_found} objects found of "
            f"{group.n_instances}; AP@0.5 {group.ap50:.3f}, PQ {group.pq:.3f}"
        )
    for group in outcome.conclusion.before:
        print(f"{group.group}: before this training AP@0.5 {group.ap50:.3f}, PQ {group.pq:.3f}")
    for kind in outcome.conclusion.types:
        print(f"  {kind.name}: PQ {kind.pq:.3f}, F1 {kind.f1:.3f}")
    print(f"model   {outcome.model}\nreport  {outcome.report}\ntime    {spoken_seconds(outcome.seconds)}")
    return 0


def _fold(words: list[str]) -> int:
    if len(words) != 1 or not words[0].isdigit():
        raise UsageError(f"--fold takes one number for pictures with objects, a run each; got {' '.join(words)}.")
    return int(words[0])


def _source(word: str) -> tuple[str, str]:
    name, _, text = word.partition("=")
    if not name or not text:
        raise UsageError(f"--source takes NAME=TEXT, such as nuclei='BBBC038, CC0'; got '{word}'.")
    return name, text


def verify_instances(session: Session, declare: Callable[[argparse.ArgumentParser], None]) -> int:
    """Read pictures with instances and print what is odd; ``declare`` makes the command's options."""
    from delineate.workflows.recognise_dataset import verify_instance_folder

    options = session.options
    _refuse_elsewhere(options, declare)
    found = verify_instance_folder(options.dataset, **session.watched)
    if options.json:
        print(json.dumps(list(found.warnings), indent=1))
        return 0
    print("\n".join(found.warnings), end="\n" if found.warnings else "")
    print(f"{options.dataset.name}: {found.objects} objects, {len(found.warnings)} warnings")
    return 0
