"""The commands about several trained configurations: their ensembles, and which of them is best."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.session import Command, Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.masks import PostprocessingStep


def _ensemble_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "members", nargs="+", type=Path, metavar="MODEL|FOLDER", help="models; without -i: folders of probabilities"
    )
    parser.add_argument("-i", "--input", type=Path, help="an image, or a folder of images")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the label maps")
    parser.add_argument("--postprocessing", type=Path, metavar="FILE", help="postprocessing.json, ours or nnU-Net's")
    parser.add_argument(
        "--probabilities", action="store_true", help="folders: also write the mean probabilities (.npz)"
    )
    parser.add_argument("--no-mirroring", action="store_true", help="do not average over mirrored images: quicker")
    parser.add_argument("--overwrite", action="store_true", help="make again what stands in the output folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")


def _ensemble(session: Session) -> int:
    options = session.options
    written = _from_images(session) if options.input is not None else _from_folders(session)
    print(f"{len(written)} label maps in {options.out}")
    return 0


def _from_images(session: Session) -> tuple[Path, ...]:
    from delineate.workflows.ensemble_predictions import segment_files_with_ensemble
    from delineate.workflows.model import load_model
    from delineate.workflows.segment_folder import find_images

    options = session.options
    if options.probabilities:
        raise UsageError("--probabilities is for folders of probabilities; with -i only label maps are written.")
    models = [load_model(path, device=options.device, mirroring=not options.no_mirroring) for path in options.members]
    return segment_files_with_ensemble(
        models,
        find_images(options.input, len(models[0].package.channel_names)),
        options.out,
        postprocessing=_steps(options.postprocessing),
        overwrite=options.overwrite,
        **session.watched,
    )


def _from_folders(session: Session) -> tuple[Path, ...]:
    from delineate.workflows.ensemble_predictions import ensemble_folders

    options = session.options
    return ensemble_folders(
        options.members,
        options.out,
        postprocessing=_steps(options.postprocessing),
        probabilities=options.probabilities,
        overwrite=options.overwrite,
        **session.watched,
    )


def _steps(path: Path | None) -> tuple[PostprocessingStep, ...]:
    from delineate.workflows.postprocess import read_steps

    return () if path is None else read_steps(path)


def _find_best_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of one dataset")
    parser.add_argument("-o", "--out", type=Path, help="folder for the results; default: the first run folder")
    parser.add_argument("--no-ensembles", action="store_true", help="compare single configurations only")
    parser.add_argument("--no-mirroring", action="store_true", help="predict without averaging over mirrored images")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps; default auto")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="cases post-processed at a time; default 1")


def _find_best(session: Session) -> int:
    from delineate.workflows.find_best import find_best

    options = session.options
    result = find_best(
        options.runs,
        options.out or options.runs[0],
        ensembles=not options.no_ensembles,
        mirroring=not options.no_mirroring,
        device=options.device,
        workers=options.jobs,
        **session.watched,
    )
    print("\n".join(result.instructions))
    return 0


COMMANDS = (
    Command(
        name="ensemble",
        help="segment with several models, or average stored probabilities",
        declare=_ensemble_options,
        run=_ensemble,
    ),
    Command(
        name="find-best",
        help="compare trained configurations and their pairs; choose post-processing",
        declare=_find_best_options,
        run=_find_best,
    ),
)
