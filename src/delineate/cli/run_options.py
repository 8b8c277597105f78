"""What the commands on datasets and runs have in common: the words they take, and the values of those words."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.errors import UsageError
from delineate.execution.quantities import read_budget

if TYPE_CHECKING:
    from delineate.workflows.resume_run import Extension

_MEDNEXTS = tuple(f"mednext-{size}{kernel}" for kernel in ("", "-k5") for size in "sbml")
PRESETS = ("default", "resenc-m", "resenc-l", "resenc-xl", *_MEDNEXTS)


def dataset_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the dataset, and the repairs that may be applied to it."""
    parser.add_argument(
        "dataset",
        type=Path,
        help="folder of scans with masks: nnU-Net raw, Decathlon, or pairs; of pictures: images/ and instances/",
    )
    parser.add_argument(
        "--repair", action="append", default=[], metavar="NAME", help="apply a repair that `verify` names; repeatable"
    )


def out_option(parser: argparse.ArgumentParser) -> None:
    """Declare the folder for everything that is written."""
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for everything that is written")


def run_folder_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the folder of a run."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder that `plan` or `run` wrote")


def planning_options(parser: argparse.ArgumentParser) -> None:
    """Declare what the planner is told: configuration, preset, device, memory."""
    configuration_option(parser)
    parser.add_argument(
        "--preset", default="default", choices=PRESETS, metavar="NAME", help=f"network: {', '.join(PRESETS)}"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument(
        "--memory", metavar="SIZE", help="memory that training may use, such as 8GB; default: what is free"
    )


def fold_option(parser: argparse.ArgumentParser) -> None:
    """Declare which folds are trained."""
    parser.add_argument(
        "--fold",
        nargs="+",
        default=["0"],
        metavar="K",
        help="numbers from 0, '5fold', 'every' (all folds of the splits), or 'all' (on all cases); of pictures with "
        "objects one from 0 to 5; default 0",
    )


def split_options(parser: argparse.ArgumentParser) -> None:
    """Declare how cases are divided into folds."""
    parser.add_argument(
        "--split-by",
        metavar="COLUMN",
        help="each fold holds out one group of this column of the table: site, scanner; default: folds by patient",
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="CSV or TSV with a row per case; default: the dataset's cases.csv"
    )


def configuration_option(parser: argparse.ArgumentParser) -> None:
    """Declare which of nnU-Net's configurations is meant."""
    parser.add_argument(
        "--configuration",
        metavar="NAME",
        help="2d, 3d_lowres, 3d_fullres or 3d_cascade_fullres, as the plan has them; default: the planner chooses",
    )


def configurations_option(parser: argparse.ArgumentParser) -> None:
    """Declare which of nnU-Net's configurations are meant, where there can be several."""
    parser.add_argument(
        "--configuration",
        nargs="+",
        metavar="NAME",
        help="2d, 3d_lowres, 3d_fullres, 3d_cascade_fullres, as they were planned; default: what the planner chose",
    )


def start_model_option(parser: argparse.ArgumentParser) -> None:
    """Declare the model to start from."""
    parser.add_argument(
        "--from",
        dest="start_model",
        type=Path,
        metavar="MODEL",
        help="start from a trained model: ours, nnU-Net's folder, zip or .pth; for pictures ours, or nuclei",
    )


def jobs_option(parser: argparse.ArgumentParser) -> None:
    """Declare how many cases are worked on at a time."""
    parser.add_argument(
        "-j", "--jobs", type=int, default=_cores(), help="cases worked on at a time; default: the cores"
    )


def _cores() -> int:
    return os.cpu_count() or 1


def read_folds(words: list[str]) -> tuple[str, ...]:
    """Return the folds that the words of ``--fold`` name.

    Raises
    ------
    UsageError
        If a word names no fold, or a fold is named twice.
    """
    folds = tuple(str(k) for k in range(5)) if words == ["5fold"] else tuple(words)
    wrong = [fold for fold in folds if not (fold.isdigit() or fold in ("all", "every"))]
    if wrong or len(set(folds)) != len(folds):
        raise UsageError(f"--fold takes different numbers from 0, 'all', 'every' or '5fold'; got {' '.join(words)}.")
    return folds


def read_extension(text: str | None) -> Extension | None:
    """Return by how much ``--extend`` goes on with a training; None without it.

    Raises
    ------
    UsageError
        If the text is neither a time nor a number of steps.
    """
    if text is None:
        return None
    from delineate.workflows.resume_run import Extension

    if text.isdigit():
        return Extension(iterations=int(text))
    seconds = read_budget(text)
    if seconds is None:
        raise UsageError("--extend takes a time such as 10min, or a number of steps.")
    return Extension(seconds=seconds)
