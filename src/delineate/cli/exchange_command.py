"""The commands that take models in and give them out: nnU-Net's folders and zips, and packages."""

from __future__ import annotations

import argparse
from pathlib import Path

from delineate.cli.session import Command, Session

FORMS = ("nnunet", "nnunet-zip", "package", "package-zip")


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        type=Path,
        help="a model package or a run's folder; or of nnU-Net: a trained-model or results folder, or a zip",
    )
    parser.add_argument("--fold", nargs="+", metavar="K", help="folds to take; default: all that the model has")


def _export_options(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, help="results folder, package folder, or zip to write")
    parser.add_argument("--to", choices=FORMS, default="nnunet", help="what to write; default nnunet")
    parser.add_argument(
        "--dataset-id", type=int, metavar="N", help="nnU-Net's number of the data set; default: its own, or 900"
    )


def _export(session: Session) -> int:
    from delineate.workflows.exchange_models import export_model

    options = session.options
    written = export_model(options.model, options.out, options.to, folds=options.fold, dataset_id=options.dataset_id)
    print(f"model   {written}")
    return 0


def _import_options(parser: argparse.ArgumentParser) -> None:
    _model(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, help="package to write: a folder, or a zip")
    parser.add_argument(
        "--configuration", metavar="NAME", help="which of nnU-Net's models, if there are several: 3d_fullres, ..."
    )
    parser.add_argument("--checkpoint", default="checkpoint_final.pth", metavar="FILE", help="nnU-Net's checkpoint")


def _import(session: Session) -> int:
    from delineate.workflows.exchange_models import import_model

    options = session.options
    package = import_model(
        options.model,
        options.out,
        folds=options.fold,
        checkpoint=options.checkpoint,
        configuration=options.configuration,
    )
    print(f"model   {options.out}\nfolds   {', '.join(package.weights)}\nidentity  {package.identity}")
    stage = package.configuration.previous_stage
    if stage is not None:
        found = "predicts alone" if package.previous is not None else "not found; predict with --previous FOLDER"
        print(f"first stage  {stage}: {found}")
    return 0


COMMANDS = (
    Command(name="export", help="write a model for nnU-Net, or as a package", declare=_export_options, run=_export),
    Command(name="import", help="turn a model of nnU-Net into a package", declare=_import_options, run=_import),
)
