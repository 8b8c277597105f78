"""``delineate run`` on pictures with instances: the words it takes and gives."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import UsageError
from delineate.execution.quantities import read_budget, spoken_seconds

if TYPE_CHECKING:
    from delineate.cli.commands import Session

_ELSEWHERE = ("configuration", "start_model", "split_by", "plan_of", "table")
"""Options that mean nothing for instances."""


def instance_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of instances to ``run``."""
    group = parser.add_argument_group("pictures with instances")
    group.add_argument(
        "--also", type=Path, action="append", default=[], metavar="DATASET", help="train on this one too; repeatable"
    )
    group.add_argument("--mpp", type=float, metavar="UM", help="micrometres per pixel of all pictures; never guessed")
    group.add_argument("--licence", default="", help="licence of the model, as that of the data demands it")


def run_instances(session: Session) -> int:
    """Train on pictures with instances and print where the results are."""
    from delineate.workflows.run_instance_dataset import InstanceSettings, run_instance_dataset

    options = session.options
    given = [name for name in _ELSEWHERE if getattr(options, name, None)]
    if given:
        words = ", ".join("--" + {"start_model": "from"}.get(name, name.replace("_", "-")) for name in given)
        raise UsageError(f"{options.dataset} holds pictures with instances; {words} cannot be used with them.")
    settings = InstanceSettings(
        budget_seconds=read_budget(options.budget),
        pixel_um=options.mpp,
        device=options.device,
        licence=options.licence,
        command=session.command,
    )
    outcome = run_instance_dataset([options.dataset, *options.also], options.out, settings, **session.watched)
    for group in outcome.conclusion.groups:
        print(
            f"{group.group}: {group.n_pictures} held-out pictures, {group.n_found} objects found of "
            f"{group.n_instances}; AP@0.5 {group.ap50:.3f}, PQ {group.pq:.3f}"
        )
    for kind in outcome.conclusion.types:
        print(f"  {kind.name}: PQ {kind.pq:.3f}, F1 {kind.f1:.3f}")
    print(f"model   {outcome.model}\nreport  {outcome.report}\ntime    {spoken_seconds(outcome.seconds)}")
    return 0
