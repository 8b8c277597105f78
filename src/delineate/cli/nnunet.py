"""nnU-Net's commands: ``delineate nnunet train 4 3d_fullres 0`` is ``nnUNetv2_train 4 3d_fullres 0``.

The bare names are entry points of a distribution of their own (``aliases/``), which point to the functions at the end
of this module, so that nnU-Net and Delineate can live in one environment.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from delineate.cli import nnunet_options as declare
from delineate.cli.commands import Command, Session
from delineate.cli.scale_options import place_of_this_process
from delineate.errors import DelineateError, Interrupted, UsageError
from delineate.execution import Silent, Watched

if TYPE_CHECKING:
    from delineate.metrics.summary import Summary
    from delineate.workflows.nnunet_training import TrainingOrder
    from delineate.workflows.nnunet_workspace import NnunetFolders, PlanSettings

NO_REPAIRS = "notice: repairs are options of `delineate run`, `plan` and `verify`; nnU-Net's commands have none."
DEFAULT_WORKERS = {"2d": 8, "3d_fullres": 4, "3d_lowres": 8}
"""nnU-Net's ``-np`` by configuration; 4 for others."""


def _plan_and_preprocess(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import extract_fingerprint, find_datasets, plan_experiment, preprocess

    options = session.options
    settings = _plan_settings(options)
    places = find_datasets(_folders(), [str(number) for number in options.d])
    for place in places:
        extract_fingerprint(
            place,
            verify=options.verify_dataset_integrity,
            clean=options.clean,
            workers=_workers(options.npfp),
            **session.watched,
        )
    plans = [plan_experiment(place, settings) for place in places]
    for place, plan in zip(places, plans, strict=True):
        print(f"plans   {place.plan(plan.plans_name)}")
        if not options.no_pp:
            _tell_prepared(place.name, preprocess(place, plan.plans_name, _workers_of(options), **session.watched))
    return 0


def _extract_fingerprint(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import extract_fingerprint, find_datasets

    options = session.options
    for place in find_datasets(_folders(), [str(number) for number in options.d]):
        extract_fingerprint(
            place,
            verify=options.verify_dataset_integrity,
            clean=options.clean,
            workers=_workers(options.np),
            **session.watched,
        )
        print(f"fingerprint  {place.fingerprint}")
    return 0


def _plan_experiment(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import find_datasets, plan_experiment

    settings = _plan_settings(session.options)
    for place in find_datasets(_folders(), [str(number) for number in session.options.d]):
        plan = plan_experiment(place, settings)
        print(f"plans   {place.plan(plan.plans_name)}")
    return 0


def _preprocess(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import find_datasets, preprocess

    options = session.options
    for place in find_datasets(_folders(), [str(number) for number in options.d]):
        _tell_prepared(place.name, preprocess(place, options.plans_name, _workers_of(options), **session.watched))
    return 0


def _train(session: Session) -> int:
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
        place=find_dataset(_folders(), options.dataset_name_or_id),
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
    _print_summary(summary)
    print(f"model   {order.model}")
    return 0


def _predict(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    model = find_dataset(_folders(), options.d).model(options.tr, options.p, options.c)
    return _predict_with(session, model, parts=options.num_parts, part=options.part_id)


def _predict_from_modelfolder(session: Session) -> int:
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


def _evaluate_folder(session: Session) -> int:
    from delineate.workflows.compare_folders import compare_folders, declared_comparison

    options = session.options
    comparison = declared_comparison(options.gt_folder, options.pred_folder, options.djfile, some=options.chill)
    _print_summary(compare_folders(comparison, options.o, workers=_workers(options.np), **session.watched))
    return 0


def _evaluate_simple(session: Session) -> int:
    from delineate.workflows.compare_folders import compare_folders, labelled_comparison

    options = session.options
    comparison = labelled_comparison(
        options.gt_folder, options.pred_folder, options.l, ignore=options.il, some=options.chill
    )
    _print_summary(compare_folders(comparison, options.o, workers=_workers(options.np), **session.watched))
    return 0


def _convert_decathlon(session: Session) -> int:
    from delineate.workflows.convert_decathlon import convert_decathlon

    options = session.options
    place = convert_decathlon(
        options.i, _folders(), number=options.overwrite_id, workers=_workers(options.np), **session.watched
    )
    print(f"dataset {place.raw}")
    return 0


def _convert_old_dataset(session: Session) -> int:
    from delineate.workflows.convert_old_dataset import convert_old_dataset

    options = session.options
    place = convert_old_dataset(
        options.input_folder, options.output_dataset_name, _folders(), cancellation=session.cancellation
    )
    print(f"dataset {place.raw}")
    return 0


def _plot_overlays(session: Session) -> int:
    from delineate.workflows.nnunet_overlays import OverlayOrder, plot_overlays
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    order = OverlayOrder(
        place=find_dataset(_folders(), options.d),
        out=options.o,
        channel=options.channel_idx,
        intensity=options.overlay_intensity,
        raw=options.use_raw,
        plans_name=options.p,
        configuration=options.c,
        workers=_workers(options.np),
    )
    print(f"{len(plot_overlays(order, **session.watched))} pictures written to {order.out}")
    return 0


def _download(session: Session) -> int:
    raise UsageError(
        f"Delineate opens no connections to the network. Download {session.options.url} yourself, for example with a "
        "browser or curl, then: delineate nnunet install_pretrained_model_from_zip FILE.zip"
    )


def _export_model_to_zip(session: Session) -> int:
    from delineate.workflows.nnunet_exchange import export_models
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    place = find_dataset(_folders(), options.d)
    models = [place.model(options.tr, options.p, configuration) for configuration in options.c]
    folds = tuple(str(fold) for fold in options.f)
    exported = export_models(options.o, models, folds, tuple(options.chk), strict=not options.not_strict)
    print("\n".join(f"exported {model}" for model in exported))
    return 0


def _install_from_zip(session: Session) -> int:
    from delineate.workflows.nnunet_exchange import install_models

    for model in install_models(session.options.zip, _folders()):
        print(f"installed {model}")
    return 0


def _accumulate(session: Session) -> int:
    from delineate.workflows.nnunet_crossvalidation import merge_folds
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    place = find_dataset(_folders(), options.dataset_name_or_id)
    model = place.model(options.tr, options.p, options.c)
    out = Path(options.o) if options.o else None
    _print_summary(merge_folds(place, model, [str(fold) for fold in options.f], out, **session.watched))
    return 0


def _find_best(session: Session) -> int:
    from delineate.workflows.nnunet_find_best import Comparison, TrainedConfiguration, find_best_configuration
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    candidates = tuple(
        TrainedConfiguration(trainer=trainer, plans_name=plans, configuration=configuration)
        for trainer in options.tr
        for plans in options.p
        for configuration in options.c
    )
    comparison = Comparison(
        place=find_dataset(_folders(), options.dataset_name_or_id),
        candidates=candidates,
        folds=tuple(str(fold) for fold in options.f),
        ensembles=not options.disable_ensembling,
        workers=_workers(options.np),
    )
    print("\n".join(find_best_configuration(comparison, **session.watched)))
    return 0


def _ensemble(session: Session) -> int:
    from delineate.workflows.nnunet_crossvalidation import average_folders

    options = session.options
    folders = [Path(folder) for folder in options.i]
    written = average_folders(folders, Path(options.o), probabilities=options.save_npz, **session.watched)
    print(f"{len(written)} label maps written to {options.o}")
    return 0


def _determine_postprocessing(session: Session) -> int:
    from delineate.workflows.nnunet_crossvalidation import determine_postprocessing

    options = session.options
    choice = determine_postprocessing(
        options.i,
        options.ref,
        Path(options.dataset_json) if options.dataset_json else options.i / "dataset.json",
        keep=not options.remove_postprocessed,
        workers=_workers(options.np),
        **session.watched,
    )
    print("\n".join(choice.reasons))
    return 0


def _apply_postprocessing(session: Session) -> int:
    from delineate.workflows.nnunet_crossvalidation import apply_postprocessing

    options = session.options
    written = apply_postprocessing(
        options.i, options.o, options.pp_pkl_file, workers=_workers(options.np), **session.watched
    )
    print(f"{len(written)} label maps written to {options.o}")
    return 0


def _move_plans(session: Session) -> int:
    from delineate.workflows.nnunet_workspace import find_datasets, move_plans

    options = session.options
    source, target = find_datasets(_folders(), [options.s, options.t])
    print(f"plans   {move_plans(source, target, options.sp, options.tp)}")
    return 0


NNUNET_COMMANDS = (
    Command(
        name="plan_and_preprocess",
        help="fingerprint, plan and prepared cases",
        declare=declare.plan_and_preprocess,
        run=_plan_and_preprocess,
    ),
    Command(
        name="extract_fingerprint",
        help="measure a dataset",
        declare=declare.extract_fingerprint,
        run=_extract_fingerprint,
    ),
    Command(
        name="plan_experiment", help="plan from a fingerprint", declare=declare.plan_experiment, run=_plan_experiment
    ),
    Command(name="preprocess", help="prepare the cases of a plan", declare=declare.preprocess, run=_preprocess),
    Command(name="train", help="train one fold", declare=declare.train, run=_train),
    Command(name="predict", help="segment a folder of images", declare=declare.predict, run=_predict),
    Command(
        name="predict_from_modelfolder",
        help="the same with the model's folder",
        declare=declare.predict_from_modelfolder,
        run=_predict_from_modelfolder,
    ),
    Command(
        name="evaluate_folder",
        help="score label maps with the labels of a dataset.json",
        declare=declare.evaluate_folder,
        run=_evaluate_folder,
    ),
    Command(
        name="evaluate_simple",
        help="score label maps for some label values",
        declare=declare.evaluate_simple,
        run=_evaluate_simple,
    ),
    Command(
        name="convert_MSD_dataset",
        help="a Decathlon task becomes a raw dataset",
        declare=declare.convert_decathlon,
        run=_convert_decathlon,
    ),
    Command(
        name="convert_old_nnUNet_dataset",
        help="a task of nnU-Net v1 becomes a raw dataset",
        declare=declare.convert_old_dataset,
        run=_convert_old_dataset,
    ),
    Command(
        name="plot_overlay_pngs",
        help="one picture per case with its labels in colour",
        declare=declare.plot_overlays,
        run=_plot_overlays,
    ),
    Command(
        name="download_pretrained_model_by_url",
        help="not to be had: says how to install a model without a connection",
        declare=declare.download_by_url,
        run=_download,
    ),
    Command(
        name="export_model_to_zip",
        help="trained models as a zip",
        declare=declare.export_model_to_zip,
        run=_export_model_to_zip,
    ),
    Command(
        name="install_pretrained_model_from_zip",
        help="put the models of a zip where nnU-Net looks for them",
        declare=declare.install_from_zip,
        run=_install_from_zip,
    ),
    Command(
        name="accumulate_crossval_results",
        help="merge and score the validation of all folds",
        declare=declare.accumulate_crossval_results,
        run=_accumulate,
    ),
    Command(
        name="find_best_configuration",
        help="compare trained configurations and their pairs",
        declare=declare.find_best_configuration,
        run=_find_best,
    ),
    Command(name="ensemble", help="average folders of probabilities", declare=declare.ensemble, run=_ensemble),
    Command(
        name="determine_postprocessing",
        help="choose post-processing where it improves",
        declare=declare.determine_postprocessing,
        run=_determine_postprocessing,
    ),
    Command(
        name="apply_postprocessing",
        help="post-process a folder of label maps",
        declare=declare.apply_postprocessing,
        run=_apply_postprocessing,
    ),
    Command(
        name="move_plans_between_datasets",
        help="use the plans of one dataset for another",
        declare=declare.move_plans,
        run=_move_plans,
    ),
)


def _declare(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="nnunet_command", required=True, metavar="COMMAND")
    for command in NNUNET_COMMANDS:
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        command.declare(sub)
        sub.set_defaults(run_nnunet=command.run)


def _run(session: Session) -> int:
    for notice in getattr(session.options, "notices", ()):
        print(f"notice: {notice}", file=sys.stderr)
    done: Callable[[Session], int] = session.options.run_nnunet
    try:
        return done(session)
    except DelineateError as error:
        if "--repair" in error.diagnostics():
            print(NO_REPAIRS, file=sys.stderr)
        raise


COMMANDS = (Command(name="nnunet", help="nnU-Net's commands on nnU-Net's folders", declare=_declare, run=_run),)


# --- words and values ------------------------------------------------------------------------------------------------


def _folders() -> NnunetFolders:
    """Return nnU-Net's folders as the environment names them."""
    from delineate.workflows.nnunet_workspace import NnunetFolders

    raw, preprocessed, results = (
        Path(value) if (value := os.environ.get(f"nnUNet_{name}")) else None
        for name in ("raw", "preprocessed", "results")
    )
    return NnunetFolders(raw=raw, preprocessed=preprocessed, results=results)


def _plan_settings(options: argparse.Namespace) -> PlanSettings:
    from delineate.workflows.nnunet_workspace import PlanSettings

    spacing = options.overwrite_target_spacing
    try:
        target = None if spacing is None else tuple(float(value) for value in spacing)
    except ValueError:
        raise UsageError(
            f"-overwrite_target_spacing takes three numbers, z y x in mm; got {' '.join(spacing)}."
        ) from None
    return PlanSettings(
        planner=options.pl,
        memory_gb=options.gpu_memory_target,
        target_spacing_mm=target,
        plans_name=options.overwrite_plans_name,
    )


def _workers(wanted: int) -> int:
    return max(1, min(wanted, os.cpu_count() or 1))


def _workers_of(options: argparse.Namespace) -> dict[str, int]:
    """Return how many cases are prepared at a time, by configuration."""
    names: Sequence[str] = options.c
    given: Sequence[int] = options.np or [DEFAULT_WORKERS.get(name, 4) for name in names]
    counts = list(given) * len(names) if len(given) == 1 else list(given)
    if len(counts) != len(names):
        raise UsageError(
            f"-np takes one number, or one per configuration; got {len(given)} numbers for {' '.join(names)}."
        )
    return {name: _workers(count) for name, count in zip(names, counts, strict=True)}


def _tell_prepared(dataset: str, counts: dict[str, int | None]) -> None:
    for configuration, count in counts.items():
        words = (
            "is not in the plans; left out" if count is None else f"{count} cases prepared; those that were ready kept"
        )
        print(f"{dataset} {configuration}: {words}")


def _print_summary(summary: Summary) -> None:
    print(f"mean foreground Dice {summary.foreground_dice:.4f} over {summary.n_cases} cases")
    for structure in summary.structures:
        print(f"  {structure.name}  {structure.dice.mean:.4f}")


# --- the bare names --------------------------------------------------------------------------------------------------


def _bare(command: str) -> int:
    from delineate.cli.main import main

    return main(["nnunet", command, *sys.argv[1:]])


plan_and_preprocess = partial(_bare, "plan_and_preprocess")
extract_fingerprint = partial(_bare, "extract_fingerprint")
plan_experiment = partial(_bare, "plan_experiment")
preprocess = partial(_bare, "preprocess")
train = partial(_bare, "train")
predict = partial(_bare, "predict")
predict_from_modelfolder = partial(_bare, "predict_from_modelfolder")
evaluate_folder = partial(_bare, "evaluate_folder")
evaluate_simple = partial(_bare, "evaluate_simple")
convert_MSD_dataset = partial(_bare, "convert_MSD_dataset")
convert_old_nnUNet_dataset = partial(_bare, "convert_old_nnUNet_dataset")
plot_overlay_pngs = partial(_bare, "plot_overlay_pngs")
download_pretrained_model_by_url = partial(_bare, "download_pretrained_model_by_url")
export_model_to_zip = partial(_bare, "export_model_to_zip")
install_pretrained_model_from_zip = partial(_bare, "install_pretrained_model_from_zip")
accumulate_crossval_results = partial(_bare, "accumulate_crossval_results")
find_best_configuration = partial(_bare, "find_best_configuration")
ensemble = partial(_bare, "ensemble")
determine_postprocessing = partial(_bare, "determine_postprocessing")
apply_postprocessing = partial(_bare, "apply_postprocessing")
move_plans_between_datasets = partial(_bare, "move_plans_between_datasets")
