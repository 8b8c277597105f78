"""``delineate sites``: what a site costs that the training never saw."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session

if TYPE_CHECKING:
    from delineate.metrics.evaluation.site_shift import SiteShift


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("known", type=Path, metavar="KNOWN_RUN", help="run by patient, whose folds knew the sites")
    parser.add_argument("unseen", type=Path, metavar="UNSEEN_RUN", help="run with --split-by, whose folds did not")
    parser.add_argument("--by", default="site", metavar="COLUMN", help="column of the table; default site")
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="CSV or TSV with a row per case; default: the dataset's cases.csv"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")
    parser.add_argument(
        "--own-patients",
        action="store_true",
        help="also count known cases whose own patient was trained on; the drop is then an upper bound",
    )
    parser.add_argument("--metric", nargs="+", metavar="NAME", help="metrics; default as in evaluate")
    parser.add_argument("--tolerance", type=float, metavar="MM", help="of the surface Dice; default 2 mm")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstraps; default 0")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="cases worked on at a time; default 2")


def _run(session: Session) -> int:
    from delineate.workflows.compare_sites import METRICS, TOLERANCE_MM, SitesRequest, compare_sites

    options = session.options
    request = SitesRequest(
        known=options.known,
        unseen=options.unseen,
        by=options.by,
        table=options.table,
        own_patients=options.own_patients,
        metrics=tuple(options.metric or METRICS),
        tolerance_mm=TOLERANCE_MM if options.tolerance is None else options.tolerance,
        seed=options.seed,
        workers=options.jobs,
        command=session.command,
    )
    found = compare_sites(request, options.out, **session.watched)
    for shift in found.shifts:
        print(_sentence(shift))
    for shift in (shift for shift in found.shifts if shift.metric == request.metrics[0]):
        print(f"\n{shift.structure}, {shift.metric}: {'known':>14} {'unseen':>8}")
        for site, cases, known, unseen in shift.by_site:
            print(f"  {site:<24} n={cases:<4} {known:8.3f} {unseen:8.3f}")
    print("\n" + "\n".join(f"note: {notice}" for notice in found.notices))
    print(f"results {options.out / 'results.json'}")
    return 0


def _sentence(shift: SiteShift) -> str:
    drop = shift.drop_points
    manner = f"{drop.n_used} pairs" if shift.paired else f"{drop.n_used} cases, not paired"
    return (
        f"{shift.structure} {shift.metric}: known {shift.known.value:.3f}, unseen {shift.unseen.value:.3f}, drop "
        f"{drop.value:.2f} ({drop.interval.low:.2f} to {drop.interval.high:.2f}; {manner})"
    )


COMMANDS = (
    Command(name="sites", help="compare known with unseen sites: the drop of every metric", declare=_options, run=_run),
)
