"""``delineate evaluate``: which words it takes, and the result in words."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.cli.raters_command import among_raters, rater_options
from delineate.cli.session import Command, Session
from delineate.errors import SomeCasesFailed, UsageError

if TYPE_CHECKING:
    from delineate.metrics.evaluation.evaluation import Evaluation
    from delineate.workflows.evaluation_request import EvaluationRequest

POLICIES = ("worst-value", "nnunet", "metrics-reloaded")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "predictions", type=Path, help="folder of label maps named like the cases; or a run: its validation cases"
    )
    parser.add_argument(
        "references", type=Path, nargs="?", help="dataset, run, or folder of label maps; not needed for a run"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument("--table", type=Path, metavar="CSV", help="table of cases: patients, and columns for --by")
    parser.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="compare groups of cases: columns of the table; age:10 cuts bands; 'size' needs no table",
    )
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="NAME=FOLDER", help="other models' predictions of the same cases"
    )
    parser.add_argument(
        "--threshold",
        nargs="+",
        default=[],
        metavar="STRUCTURE:METRIC=VALUE",
        help="what must be reached: liver:dice=0.95; cited ones are added where they fit",
    )
    parser.add_argument("--modality", choices=("CT", "MR"), help="for the cited thresholds; default: of the dataset")
    parser.add_argument("--name", help="of the evaluated model; default: the name of its folder")
    _measuring(parser)
    _reading(parser)
    people = parser.add_argument_group("several people's masks of the same cases (docs/observers.md)")
    people.add_argument(
        "--raters", nargs="+", metavar="FOLDER", help="a folder with a sub-folder per rater, or several NAME=FOLDER"
    )
    rater_options(people)
    parser.add_argument("--pdf", action="store_true", help="also write the report as a PDF (needs delineate[report])")
    parser.add_argument("--configuration", metavar="NAME", help="of a run that holds several")
    parser.add_argument(
        "--least-cases", type=int, default=20, metavar="N", help="groups with fewer cases conclude nothing; default 20"
    )
    parser.add_argument("--seed", type=int, default=0, help="of bootstrap and permutations; default 0")
    parser.add_argument(
        "-j", "--jobs", type=int, default=os.cpu_count() or 1, help="cases worked on at a time; default: the cores"
    )


def _measuring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="such as dice hd95 nsd; see docs/metrics.md")
    parser.add_argument(
        "--tolerance",
        nargs="+",
        default=[],
        metavar="MM",
        help="of the surface Dice: 2 (the default), or by structure: liver=3 tumour=1",
    )
    parser.add_argument(
        "--policy", choices=POLICIES, default=POLICIES[0], help="what empty masks are worth; default worst-value"
    )
    parser.add_argument("--resample", action="store_true", help="take predictions to the grid of their reference")
    parser.add_argument(
        "--spacing", nargs="+", type=float, metavar="MM", help="voxel size of files that tell none, as z y x or y x"
    )


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="NAME=VALUE", help="what values mean: liver=1 tumour=2 both=1,2"
    )
    parser.add_argument(
        "--map", nargs="+", default=[], metavar="OLD=NEW", help="read values of the predictions as others: 2=1"
    )
    parser.add_argument("--some", action="store_true", help="leave out cases without a prediction, do not count them")
    parser.add_argument(
        "--repair", action="append", default=[], metavar="NAME", help="apply a repair that `verify` names; repeatable"
    )


def _evaluate(session: Session) -> int:
    from delineate.workflows.evaluate_model import evaluate_model

    out = session.options.out
    evaluation = evaluate_model(_request(session), out, **session.watched)
    _tell(evaluation)
    print(f"results {out / 'results.json'}\nreport  {out / 'report.html'}")
    if evaluation.failed:
        failures = [f"{failure.case_id}: {failure.reason}" for failure in evaluation.failed]
        raise SomeCasesFailed(
            f"{len(failures)} of {len(evaluation.cases)} cases have no usable prediction; they count with the worst "
            f"values. Everything is written to {out}.",
            failures,
        )
    return 0


def _request(session: Session) -> EvaluationRequest:
    from delineate.workflows.evaluation_request import (
        METRICS,
        EvaluationRequest,
        policy_named,
        read_structures,
        read_threshold,
    )

    options = session.options
    return EvaluationRequest(
        predictions=options.predictions,
        references=options.references,
        name=options.name,
        configuration=options.configuration,
        table=options.table,
        by=tuple(options.by),
        others={name: Path(folder) for name, folder in _pairs(options.compare, "--compare", "NAME=FOLDER").items()},
        thresholds=tuple(read_threshold(text) for text in options.threshold),
        modality=options.modality,
        metrics=tuple(options.metrics or METRICS),
        tolerance_mm=_tolerance(options.tolerance),
        policy=policy_named(options.policy),
        structures=read_structures(options.labels),
        renamed=_renamed(options.map),
        resample=options.resample,
        spacing_mm=None if options.spacing is None else tuple(options.spacing),
        some=options.some,
        repairs=frozenset(options.repair),
        **among_raters(options),
        least_cases=options.least_cases,
        seed=options.seed,
        pdf=options.pdf,
        workers=options.jobs,
        command=session.command,
    )


def _pairs(words: Sequence[str], option: str, form: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (name, _, value) in zip(words, pairs, strict=True) if not name or not value]
    names = [name for name, _, _ in pairs]
    if wrong or len(set(names)) != len(names):
        raise UsageError(f"{option} takes {form}, each name once; got {' '.join(wrong or names)}.")
    return {name: value for name, _, value in pairs}


def _tolerance(words: Sequence[str]) -> float | dict[str, float]:
    """Return the tolerance: one number, or by structure; a bare number beside them is that of the others."""
    from delineate.workflows.evaluation_request import EVERY_STRUCTURE, TOLERANCE_MM

    bare = [word for word in words if "=" not in word]
    named = _pairs([word for word in words if "=" in word], "--tolerance", "NAME=MM")
    try:
        default = float(bare[0]) if bare else TOLERANCE_MM
        by_structure = {name: float(value) for name, value in named.items()}
    except ValueError:
        raise UsageError(f"--tolerance takes numbers in mm: 2, or liver=3 tumour=1; got {' '.join(words)}.") from None
    if len(bare) > 1:
        raise UsageError(f"--tolerance takes one number for all structures; got {' '.join(bare)}.")
    return {EVERY_STRUCTURE: default, **by_structure} if by_structure else default


def _renamed(words: Sequence[str]) -> tuple[tuple[int, int], ...]:
    pairs = _pairs(words, "--map", "OLD=NEW")
    if any(not text.lstrip("-").isdigit() for pair in pairs.items() for text in pair):
        raise UsageError(f"--map takes whole numbers, OLD=NEW; got {' '.join(words)}.")
    return tuple((int(old), int(new)) for old, new in pairs.items())


def _tell(evaluation: Evaluation) -> None:
    """Print the means, then what the reader must know."""
    shown = [metric for metric in ("dice", "hd95", "nsd") if metric in evaluation.metrics] or evaluation.metrics[:3]
    width = max(len(row.name) for row in evaluation.table)
    print(f"\n{len(evaluation.cases)} cases of {len({case.patient_id for case in evaluation.cases})} patients")
    for row in evaluation.table:
        print(f"  {row.name:<{width}}  " + "   ".join(_spread(metric, row.metrics[metric]) for metric in shown))
    for sentence in evaluation.comparison.sentences if evaluation.comparison else ():
        print(sentence)
    for found in evaluation.thresholds:
        wanted = found.threshold
        print(
            f"{wanted.structure} {wanted.metric} {wanted.value:g} ({wanted.source}): {found.verdict}, {found.mean:.3f}"
        )
    for structure in evaluation.raters.structures if evaluation.raters else ():
        print(" ".join(structure.sentences))
    for notice in evaluation.notices:
        print(f"note: {notice}")
    if evaluation.without_reference:
        names = ", ".join(evaluation.without_reference[:10])
        print(f"note: {len(evaluation.without_reference)} predictions have no reference: {names}", file=sys.stdout)


def _spread(metric: str, spread: Any) -> str:
    low, high = spread.interval.low, spread.interval.high
    interval = "" if math.isnan(low) else f"{low:.3f} to {high:.3f}, "  # fewer than two patients have none
    return f"{metric} {spread.mean:.3f} ({interval}n={spread.n_used})"


COMMANDS = (
    Command(
        name="evaluate",
        help="measure label maps against references: metrics, groups, comparison of models",
        declare=_options,
        run=_evaluate,
    ),
)
