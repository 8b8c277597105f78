"""What ``train`` and ``predict`` do with ``--cluster`` and ``--devices``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.cli.scale_options import cluster_of, place_of_this_process, words_without_devices
from delineate.errors import Interrupted, UsageError
from delineate.execution import Silent
from delineate.execution.quantities import spoken_seconds

if TYPE_CHECKING:
    from delineate.cli.session import Session
    from delineate.workflows.model import Manner
    from delineate.workflows.train_on_devices import Place

INT8 = "int8"


def train_elsewhere(session: Session, folds: tuple[str, ...], extension: Any) -> int | None:
    """Train on a cluster or on several devices and return the exit code; None if neither was asked for."""
    options, place = session.options, place_of_this_process()
    several = options.configuration is not None and len(options.configuration) > 1
    if several and (place is not None or options.devices > 1):
        raise UsageError("--devices trains one configuration at a time; name one, or use --cluster for several.")
    if options.devices < 1 or (options.devices > 1 and options.cluster is not None):
        raise UsageError("--devices takes a positive number, and not together with --cluster.")
    if options.start_model is not None and (options.devices > 1 or options.cluster is not None):
        raise UsageError(
            "--from starts a training on one device; name the model when you plan: `delineate plan --from`."
        )
    if options.cluster is not None:
        return _train_on_cluster(session, folds, extension)
    if place is not None:
        return _train_in_place(session, place, folds, extension)
    if options.devices > 1:
        from delineate.workflows.train_on_devices import start_processes

        return start_processes(words_without_devices(), options.devices)
    return None


def _train_on_cluster(session: Session, folds: tuple[str, ...], extension: Any) -> int:
    from delineate.workflows.train_on_cluster import train_on_cluster

    options = session.options
    with cluster_of(options) as cluster:
        if cluster is None:
            raise UsageError("--cluster needs the name of a cluster.")
        trained = train_on_cluster(
            [options.run_folder],
            folds,
            cluster,
            configurations=options.configuration or (None,),
            extension=extension,
            device=options.device,
            **session.watched,
        )
    for own, model in trained.items():
        tell_trained(own, model.folds)
    return 0


def _train_in_place(session: Session, place: Place, folds: tuple[str, ...], extension: Any) -> int:
    from delineate.workflows.train_on_devices import train_in_place

    options, first = session.options, place.rank == 0
    configuration = options.configuration[0] if options.configuration else None
    try:
        trained = train_in_place(
            options.run_folder,
            place,
            folds=folds,
            configuration=configuration,
            extension=extension,
            device=options.device,
            workers=options.jobs,
            progress=session.progress if first else Silent(),
            cancellation=session.cancellation,
        )
    except Interrupted:
        if first:
            raise
        return Interrupted.exit_code  # all stopped together; the first process tells it
    if first:
        tell_trained(own_folder(options.run_folder, configuration), trained.folds)
    return 0


def own_folder(root: Path, configuration: str | None) -> Path:
    """Return where the files of a configuration stand that was asked for by name, or of the planner's choice."""
    return root if configuration is None else root / configuration


def tell_trained(own: Path, folds: dict[str, Any]) -> None:
    """Print what became of the folds, and where the model lies."""
    for name, fold in folds.items():
        print(f"fold {name}: {fold.steps} steps in {spoken_seconds(fold.seconds)}")
    print(f"model   {own / 'model'}")


def manner_of(options: argparse.Namespace) -> Manner:
    """Return how `predict` shall use the model, here or on a cluster."""
    from delineate.workflows.model import Manner

    if options.precision == INT8 and options.backend != "openvino":
        raise UsageError("--precision int8 needs --backend openvino; torch computes in floating-point numbers.")
    return Manner(
        step=options.step,
        openvino=options.backend == "openvino",
        int8=options.precision == INT8,
        skip_air=options.skip_air,
        nnunet_rounding=options.nnunet_rounding,
        postprocessing=not options.no_postprocessing,
        temperature=not options.no_temperature,
        previous=None if options.previous is None else options.previous.resolve(),
    )


def floating_precision(options: argparse.Namespace) -> str:
    """Return the precision of what is not computed in integers."""
    return "auto" if options.precision == INT8 else str(options.precision)


def predict_on_cluster(session: Session) -> int:
    """Segment images on the workers of a cluster and return the exit code."""
    from delineate.workflows.segment_on_cluster import ModelSource, segment_folder_on_cluster

    options = session.options
    source = ModelSource(
        path=options.model,
        folds=tuple(options.fold) if options.fold else None,
        device=options.device,
        mirroring=not options.no_mirroring,
        precision=floating_precision(options),
        checkpoint=options.checkpoint,
        configuration=options.configuration,
        manner=manner_of(options),
    )
    with cluster_of(options) as cluster:
        if cluster is None:
            raise UsageError("--cluster needs the name of a cluster.")
        written = segment_folder_on_cluster(
            source,
            options.input,
            options.out,
            cluster,
            probabilities=options.probabilities,
            overwrite=options.overwrite,
            **session.watched,
        )
    print(f"{len(written)} label maps in {options.out}")
    return 0
