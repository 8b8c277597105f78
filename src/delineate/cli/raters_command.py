"""``delineate raters``: several people's masks of the same images, with or without a model among them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.cli.session import Command, Session

if TYPE_CHECKING:
    from delineate.metrics.evaluation.rater_study import RaterStudy


def rater_options(parser: argparse._ActionsContainer) -> None:
    """Declare how raters' masks are read and compared, as ``evaluate`` and ``raters`` take it."""
    parser.add_argument(
        "--margin",
        type=float,
        default=0.02,
        metavar="X",
        help="how much worse than a person the model may be, in the metric's unit; declare it beforehand; default 0.02",
    )
    parser.add_argument(
        "--consensus", choices=("majority", "staple"), default="majority", help="of the others; default majority"
    )
    parser.add_argument(
        "--inverted", nargs="*", metavar="NAME", help="0 is the structure in the masks of these raters; no name: all"
    )
    parser.add_argument(
        "--person",
        metavar="PATTERN",
        help="regular expression: raters whose names share what it finds are one person, such as 'Person[0-9]+'",
    )


def among_raters(options: argparse.Namespace) -> dict[str, Any]:
    """Return what ``evaluate`` is asked about raters, as fields of its request; nothing if there are none."""
    if options.raters is None:
        return {}
    from delineate.workflows.report_raters import RaterRules, rater_report

    report = rater_report(
        options.raters,
        rules=RaterRules(margin=options.margin, consensus=options.consensus, seed=options.seed),
        inverted=options.inverted,
        person_pattern=options.person,
    )
    return {"raters": report.raters, "among_raters": report.settings}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "raters", nargs="+", metavar="FOLDER", help="a folder with a sub-folder per rater, or several NAME=FOLDER"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--model", type=Path, metavar="PREDICTIONS", help="a model's label maps, compared with people")
    parser.add_argument("--metric", default="dice", metavar="NAME", help="such as nsd or hd95; default dice")
    rater_options(parser)
    parser.add_argument("--tolerance", type=float, default=2.0, metavar="MM", help="of the surface Dice; default 2")
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="NAME=VALUE", help="what values mean; default: masks of two values"
    )
    parser.add_argument(
        "--spacing", nargs="+", type=float, metavar="MM", help="voxel size of files that tell none, as z y x or y x"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap; default 0")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count() or 1, help="cases worked on at a time; default: the cores"
    )


def _raters(session: Session) -> int:
    from delineate.workflows.report_raters import RaterRules, rater_report, report_raters

    options = session.options
    report = rater_report(
        options.raters,
        predictions=options.model,
        rules=RaterRules(
            metric=options.metric,
            margin=options.margin,
            consensus=options.consensus,
            tolerance_mm=options.tolerance,
            seed=options.seed,
        ),
        labels=options.labels,
        inverted=options.inverted,
        person_pattern=options.person,
        spacing_mm=None if options.spacing is None else tuple(options.spacing),
        command=session.command,
    )
    study = report_raters(report, options.out, workers=options.jobs, **session.watched)
    _tell(study)
    print(f"results {options.out / 'results.json'}\nreport  {options.out / 'report.html'}")
    return 0


def _tell(study: RaterStudy) -> None:
    n_cases = len({case.case_id for case in study.cases})
    print(f"\n{len(study.rater_names)} raters, {n_cases} cases")
    for structure in study.structures:
        print("\n  ".join(structure.sentences))
    for case_id, why in study.left_out_cases:
        print(f"note: {case_id} was left out of the consensus: {why}")


COMMANDS = (
    Command(
        name="raters",
        help="compare several people's masks with each other, and a model with people",
        declare=_options,
        run=_raters,
    ),
)
