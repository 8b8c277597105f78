"""The commands about trust: ``calibrate``, ``trust``, and what ``predict --assess`` prints."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.metrics.evaluation.trust_study import TrustStudy

MOST_PRINTED = 5


def print_assessments(folder: Path, case_ids: list[str]) -> None:
    """Print which results are to be reviewed with care, the least trusted first."""
    from delineate.workflows.read_assessments import read_assessments

    found = read_assessments(folder, case_ids)
    careful = [a for a in found if a.verdict != "nothing unusual"]
    for assessment in careful[:MOST_PRINTED]:
        print(f"  {assessment.case_id}: {assessment.words}")
    if len(careful) > MOST_PRINTED:
        print(f"  and {len(careful) - MOST_PRINTED} more")
    for notice in dict.fromkeys(notice for a in found for notice in a.notices):
        print(f"  note: {notice}")
    print(f"{len(careful)} of {len(found)} to review with care; quality {folder / 'quality.csv'}")


def _calibrate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a run, calibrated on its validation cases; with DATASET any model")
    parser.add_argument("dataset", type=Path, nargs="?", help="cases with references that the model was not trained on")
    parser.add_argument(
        "-o", "--out", type=Path, help="where the calibrated model goes; default: it replaces the model"
    )
    parser.add_argument("--configuration", metavar="NAME", help="which of several models")
    parser.add_argument("--repair", action="append", default=[], metavar="NAME", help="apply a repair to the dataset")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")


def _calibrate(session: Session) -> int:
    from delineate.workflows.calibrate_model import calibrate_model

    options = session.options
    done = calibrate_model(
        options.model,
        options.dataset,
        out=options.out,
        configuration=options.configuration,
        repairs=frozenset(options.repair),
        device=options.device,
        **session.watched,
    )
    trust = done.trust
    for line in done.left_out:
        print(f"left out  {line}")
    print(f"learned from {trust.cases} cases, {trust.origin}")
    print(f"temperature {', '.join(f'{t:.3g}' for t in trust.temperature) or 'not fitted'}")
    if trust.quality is not None:
        print(f"expected Dice is wrong by {trust.quality.error:.3f} on average (cases left out of the fit)")
    print(f"model   {done.path}")
    return 0


def _trust_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a run, studied on its validation cases; with DATASET any model")
    parser.add_argument("dataset", type=Path, nargs="?", help="cases with references that the model was not trained on")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument(
        "--shifted",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="a folder of cases, or of images alone, of another kind; repeatable",
    )
    parser.add_argument("--cases", type=int, default=60, help="ordinary cases that are also shifted; default 60")
    parser.add_argument("--failure-below", type=float, default=0.7, metavar="DICE", help="what counts as a failure")
    parser.add_argument("--fold", nargs="+", metavar="K", help="folds of the run to study; default: all of the model")
    parser.add_argument("--configuration", metavar="NAME", help="which of several models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")


def _trust(session: Session) -> int:
    from delineate.workflows.study_trust import StudyRequest, study_model

    options = session.options
    request = StudyRequest(
        model=options.model,
        dataset=options.dataset,
        shifted=dict(map(_named_folder, options.shifted)),
        shifted_cases=options.cases,
        failure_below=options.failure_below,
        folds=None if options.fold is None else tuple(options.fold),
        configuration=options.configuration,
        seed=options.seed,
        device=options.device,
        command=session.command,
    )
    evaluation = study_model(request, options.out, **session.watched)
    for notice in evaluation.notices:
        print(notice)
    if evaluation.trust is not None:
        _print_study(evaluation.trust)
    print(f"study   {options.out}")
    return 0


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not name or not equals or not folder:
        raise UsageError(f"--shifted takes NAME=FOLDER; got '{text}'.")
    return name, Path(folder)


def _print_study(study: TrustStudy) -> None:
    for d in study.shifts:
        if d.score == "outlier":
            print(f"AUROC {d.auroc:.3f} ({d.interval.low:.3f} to {d.interval.high:.3f})  outlier  {d.shift}")
    for f in study.failures:
        if f.score == "quality":
            print(
                f"AURC {f.aurc:.4f} (ideal {f.aurc_ideal:.4f}, random {f.aurc_random:.4f}), Spearman {f.spearman:.2f}"
                f"  quality  {f.population}"
            )
    before, after = study.reliability_before, study.reliability_after
    if before is not None and after is not None and not math.isnan(after.error):
        print(f"ECE {before.error:.4f} before, {after.error:.4f} after temperature {study.temperature:.3g}")


COMMANDS = (
    Command(
        name="calibrate",
        help="let a model learn what is ordinary, for predict --assess and true probabilities",
        declare=_calibrate_options,
        run=_calibrate,
    ),
    Command(
        name="trust",
        help="study whether a model knows when it is wrong, on its own and on shifted cases",
        declare=_trust_options,
        run=_trust,
    ),
)
