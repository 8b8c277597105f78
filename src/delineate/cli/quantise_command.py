"""The command ``delineate quantise``: may this model compute in 8-bit integers?"""

from __future__ import annotations

import argparse
from pathlib import Path

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

LARGEST_DROP = 0.005


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a run's folder, or the folder of a model package")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="DATASET",
        help="data set with references that the model was not trained on; default: the run's validation cases",
    )
    parser.add_argument(
        "--largest-drop",
        type=float,
        default=LARGEST_DROP,
        metavar="DICE",
        help=f"how much a structure's mean Dice may fall; default {LARGEST_DROP:g}",
    )


def _run(session: Session) -> int:
    from delineate.workflows.quantise_model import quantise_model

    options = session.options
    if not 0 <= options.largest_drop < 1:
        raise UsageError(f"--largest-drop must lie in [0, 1), a difference of Dice; got {options.largest_drop:g}.")
    found = quantise_model(options.model, options.check, largest_drop=options.largest_drop, **session.watched)
    width = max(len(one.name) for one in found.structures)
    print(f"{'':<{width}}  Dice    in int8")
    for one in found.structures:
        print(f"{one.name:<{width}}  {one.floating:.4f}  {one.integer:.4f}")
    floating, integer = found.seconds
    print(f"equal labels  {100 * found.agreement:.2f} % of the foreground")
    print(f"seconds       {floating:.1f}, in int8 {integer:.1f}")
    print(f"verdict       {found.verdict()}")
    return 0


COMMANDS = (
    Command(
        name="quantise",
        help="check whether a model may compute in 8-bit integers, and keep the verdict in it",
        declare=_options,
        run=_run,
    ),
)
