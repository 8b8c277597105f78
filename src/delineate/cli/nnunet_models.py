"""nnU-Net's commands that work on models: train, predict, hand over."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli.nnunet_words import nnunet_folders, print_summary
from delineate.cli.scale_options import place_of_this_process
from delineate.cli.session import Session
from delineate.errors import Interrupted, UsageError
from delineate.execution import Silent, Watched

if TYPE_CHECKING:
    from delineate.metrics.summary import Summary
    from delineate.workflows.nnunet_training import TrainingOrder


def run_train(session: Session) -> int:
    """Train one fold, or validate it."""
    from delineate.workflows.nnunet_training import TrainingOrder, train_fold, validate_fold
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    if options.c and options.pretrained_weights:
        raise UsageError("--c goes on with a training and -pretrained_weights begins one; give one of them.")
    if options.c and options.val:
        raise UsageError("--c goes on with a training and --val only validates one; give one of them.")
    if options.val_best and options.disable_checkpointing:
        raise UsageError("--val_best validates a checkpoint, and --disable_checkpointing keeps none; give one of them.")
    order = TrainingOrder(
        place=find_dataset(nnunet_folders(), options.dataset_name_or_id),
        configuration=options.configuration,
        fold=options.fold,
        trainer=options.tr,
        plans_name=options.p,
        device=options.device,
        start=Path(options.pretrained_weights) if options.pretrained_weights else None,
        resume=options.c,
        keep=not options.disable_checkpointing,
        probabilities=options.npz,
        best=options.val_best,
    )
    if options.val:
        return _tell_trained(order, validate_fold(order, **session.watched))
    if (code := _train_with_others(session, order)) is not None:
        return code
    return _tell_trained(order, train_fold(order, **session.watched))


def _train_with_others(session: Session, order: TrainingOrder) -> int | None:
    """Train as one of several processes, or start them, and return the exit code; None if there is one device."""
    from delineate.workflows.nnunet_training import train_fold_in_place
    from delineate.workflows.train_on_devices import start_processes

    options, place = session.options, place_of_this_process()
    if options.num_gpus < 1:
        raise UsageError(f"-num_gpus takes a positive number; got {options.num_gpus}.")
    if place is None and options.num_gpus > 1:
        return start_processes(_words_of_one_process(options), options.num_gpus)
    if place is None:
        return None
    watched = Watched(progress=session.progress if place.rank == 0 else Silent(), cancellation=session.cancellation)
    try:
        summary = train_fold_in_place(order, place, **watched)
    except Interrupted:
        if place.rank == 0:
            raise
        return Interrupted.exit_code  # all stopped together; the first process tells it
    return 0 if summary is None else _tell_trained(order, summary)


def _words_of_one_process(options: argparse.Namespace) -> list[str]:
    """Return the command line of one of several processes that train together."""
    own = [f"--{flag.replace('_', '-')}" for flag in ("plain_progress", "verbose") if getattr(options, flag)]
    words = ["nnunet", *own, "train", options.dataset_name_or_id, options.configuration, options.fold]
    words += ["-tr", options.tr, "-p", options.p, "-device", options.device]
    if options.pretrained_weights:
        words += ["-pretrained_weights", options.pretrained_weights]
    flags = ("npz", "c", "val_best", "disable_checkpointing")
    return words + [f"--{flag}" for flag in flags if getattr(options, flag)]


def _tell_trained(order: TrainingOrder, summary: Summary) -> int:
    print_summary(summary)
    print(f"model   {order.model}")
    return 0


def run_predict(session: Session) -> int:
    """Segment a folder of images with a model of the results folder."""
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    model = find_dataset(nnunet_folders(), options.d).model(options.tr, options.p, options.c)
    return _predict_with(session, model, parts=options.num_parts, part=options.part_id)


def run_predict_from_modelfolder(session: Session) -> int:
    """Segment a folder of images with a model's folder."""
    return _predict_with(session, session.options.m)


def _predict_with(session: Session, model: Path, *, parts: int = 1, part: int = 0) -> int:
    from delineate.workflows.nnunet_prediction import PredictionOrder, predict_folder

    options = session.options
    order = PredictionOrder(
        model=model,
        source=options.i,
        target=options.o,
        folds=tuple(str(fold) for fold in options.f),
        checkpoint=options.chk,
        previous=Path(options.prev_stage_predictions) if options.prev_stage_predictions else None,
        step=options.step_size,
        mirroring=not options.disable_tta,
        device=options.device,
        probabilities=options.save_probabilities,
        keep_existing=options.continue_prediction,
        parts=parts,
        part=part,
    )
    written = predict_folder(order, **session.watched)
    print(f"{len(written)} label maps written to {order.target}")
    return 0


def run_export_model_to_zip(session: Session) -> int:
    """Write trained models as a zip."""
    from delineate.workflows.nnunet_exchange import export_models
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    place = find_dataset(nnunet_folders(), options.d)
    models = [place.model(options.tr, options.p, configuration) for configuration in options.c]
    folds = tuple(str(fold) for fold in options.f)
    exported = export_models(options.o, models, folds, tuple(options.chk), strict=not options.not_strict)
    print("\n".join(f"exported {model}" for model in exported))
    return 0


def run_install_from_zip(session: Session) -> int:
    """Put the models of a zip into the results folder."""
    from delineate.workflows.nnunet_exchange import install_models

    for model in install_models(session.options.zip, nnunet_folders()):
        print(f"installed {model}")
    return 0


def run_download(session: Session) -> int:
    """Refuse, and say how to install a model without a connection."""
    raise UsageError(
        f"Delineate opens no connections to the network. Download {session.options.url} yourself, for example with a "
        "browser or curl, then: delineate nnunet install_pretrained_model_from_zip FILE.zip"
    )
