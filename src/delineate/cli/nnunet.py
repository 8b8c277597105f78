"""nnU-Net's commands: ``delineate nnunet train 4 3d_fullres 0`` is ``nnUNetv2_train 4 3d_fullres 0``.

The bare names are entry points of a distribution of their own (``aliases/``), which point to the functions at the end
of this module, so that nnU-Net and Delineate can live in one environment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

from delineate.cli import nnunet_datasets, nnunet_models, nnunet_results
from delineate.cli import nnunet_options as declare
from delineate.cli.session import Command, Session
from delineate.errors import DelineateError

NO_REPAIRS = "notice: repairs are options of `delineate run`, `plan` and `verify`; nnU-Net's commands have none."

NNUNET_COMMANDS = (
    Command(
        name="plan_and_preprocess",
        help="fingerprint, plan and prepared cases",
        declare=declare.plan_and_preprocess,
        run=nnunet_datasets.run_plan_and_preprocess,
    ),
    Command(
        name="extract_fingerprint",
        help="measure a dataset",
        declare=declare.extract_fingerprint,
        run=nnunet_datasets.run_extract_fingerprint,
    ),
    Command(
        name="plan_experiment",
        help="plan from a fingerprint",
        declare=declare.plan_experiment,
        run=nnunet_datasets.run_plan_experiment,
    ),
    Command(
        name="preprocess",
        help="prepare the cases of a plan",
        declare=declare.preprocess,
        run=nnunet_datasets.run_preprocess,
    ),
    Command(name="train", help="train one fold", declare=declare.train, run=nnunet_models.run_train),
    Command(name="predict", help="segment a folder of images", declare=declare.predict, run=nnunet_models.run_predict),
    Command(
        name="predict_from_modelfolder",
        help="the same with the model's folder",
        declare=declare.predict_from_modelfolder,
        run=nnunet_models.run_predict_from_modelfolder,
    ),
    Command(
        name="evaluate_folder",
        help="score label maps with the labels of a dataset.json",
        declare=declare.evaluate_folder,
        run=nnunet_results.run_evaluate_folder,
    ),
    Command(
        name="evaluate_simple",
        help="score label maps for some label values",
        declare=declare.evaluate_simple,
        run=nnunet_results.run_evaluate_simple,
    ),
    Command(
        name="convert_MSD_dataset",
        help="a Decathlon task becomes a raw dataset",
        declare=declare.convert_decathlon,
        run=nnunet_datasets.run_convert_decathlon,
    ),
    Command(
        name="convert_old_nnUNet_dataset",
        help="a task of nnU-Net v1 becomes a raw dataset",
        declare=declare.convert_old_dataset,
        run=nnunet_datasets.run_convert_old_dataset,
    ),
    Command(
        name="plot_overlay_pngs",
        help="one picture per case with its labels in colour",
        declare=declare.plot_overlays,
        run=nnunet_datasets.run_plot_overlays,
    ),
    Command(
        name="download_pretrained_model_by_url",
        help="not to be had: says how to install a model without a connection",
        declare=declare.download_by_url,
        run=nnunet_models.run_download,
    ),
    Command(
        name="export_model_to_zip",
        help="trained models as a zip",
        declare=declare.export_model_to_zip,
        run=nnunet_models.run_export_model_to_zip,
    ),
    Command(
        name="install_pretrained_model_from_zip",
        help="put the models of a zip where nnU-Net looks for them",
        declare=declare.install_from_zip,
        run=nnunet_models.run_install_from_zip,
    ),
    Command(
        name="accumulate_crossval_results",
        help="merge and score the validation of all folds",
        declare=declare.accumulate_crossval_results,
        run=nnunet_results.run_accumulate,
    ),
    Command(
        name="find_best_configuration",
        help="compare trained configurations and their pairs",
        declare=declare.find_best_configuration,
        run=nnunet_results.run_find_best,
    ),
    Command(
        name="ensemble",
        help="average folders of probabilities",
        declare=declare.ensemble,
        run=nnunet_results.run_ensemble,
    ),
    Command(
        name="determine_postprocessing",
        help="choose post-processing where it improves",
        declare=declare.determine_postprocessing,
        run=nnunet_results.run_determine_postprocessing,
    ),
    Command(
        name="apply_postprocessing",
        help="post-process a folder of label maps",
        declare=declare.apply_postprocessing,
        run=nnunet_results.run_apply_postprocessing,
    ),
    Command(
        name="move_plans_between_datasets",
        help="use the plans of one dataset for another",
        declare=declare.move_plans,
        run=nnunet_datasets.run_move_plans,
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
