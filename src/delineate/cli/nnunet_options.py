"""nnU-Net's options, spelled as nnU-Net 2.8.1 spells them: what is taken over, what has no effect, what is refused.

An option without effect is taken with a notice; an option that would change the result and is not to be had ends the
command with a sentence. Nothing is passed over in silence.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDS = (0, 1, 2, 3, 4)
"""nnU-Net's folds of a cross-validation."""
CONFIGURATIONS = ["2d", "3d_fullres", "3d_lowres"]
PROCESSES = 8
"""nnU-Net's default of ``-np``; the variable ``nnUNet_def_n_proc`` changes it."""
THREADS = "cases are worked on by threads of one process, which share its memory"


def plan_and_preprocess(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_plan_and_preprocess``."""
    _datasets(parser)
    _extractor(parser)
    parser.add_argument("-npfp", type=int, default=8, help="cases measured at a time; default 8, at most the cores")
    _verify(parser)
    parser.add_argument("--no_pp", action="store_true", help="fingerprint and plan only")
    _clean(parser)
    _planner(parser)
    _configurations(parser)
    _logging(parser)


def extract_fingerprint(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_extract_fingerprint``."""
    _datasets(parser)
    _extractor(parser)
    _processes(parser)
    _verify(parser)
    _clean(parser)
    _logging(parser)


def plan_experiment(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_plan_experiment``."""
    _datasets(parser)
    _planner(parser)


def preprocess(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_preprocess``."""
    _datasets(parser)
    parser.add_argument("-plans_name", default="nnUNetPlans", help="which plans; default nnUNetPlans")
    _configurations(parser)
    _logging(parser)


def train(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_train``."""
    parser.add_argument("dataset_name_or_id", help="number or name of the dataset")
    parser.add_argument("configuration", help="2d, 3d_fullres, 3d_lowres, or another of the plans")
    parser.add_argument("fold", help="0 to 4, or all")
    _trainer(parser)
    parser.add_argument("-pretrained_weights", default=None, help="start from the weights of this checkpoint or model")
    parser.add_argument("-num_gpus", type=int, default=1, help="devices that share every batch; default 1")
    parser.add_argument("--npz", action="store_true", help="also write the probabilities of the validation cases")
    parser.add_argument("--c", action="store_true", help="go on with an interrupted training")
    parser.add_argument("--val", action="store_true", help="only validate a trained fold")
    parser.add_argument("--val_best", action="store_true", help="validate checkpoint_best instead of the final one")
    parser.add_argument("--disable_checkpointing", action="store_true", help="keep no checkpoint and no model")
    _device(parser)


def predict(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_predict``."""
    _images(parser)
    parser.add_argument("-d", required=True, help="number or name of the dataset of the model")
    parser.add_argument("-c", required=True, help="configuration of the model")
    _trainer(parser)
    _prediction(parser)
    parser.add_argument("--continue_prediction", action="store_true", help="keep what stands in the output folder")
    parser.add_argument("-num_parts", type=int, default=1, help="into how many calls the images are divided; default 1")
    parser.add_argument("-part_id", type=int, default=0, help="which of them this is, from 0; default 0")


def predict_from_modelfolder(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_predict_from_modelfolder``."""
    _images(parser)
    parser.add_argument("-m", required=True, type=Path, help="folder of a trained model, the parent of fold_X")
    _prediction(parser)
    parser.add_argument(
        "--continue_prediction", "--c", action="store_true", help="keep what stands in the output folder"
    )


def evaluate_folder(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_evaluate_folder``."""
    _compared(parser)
    parser.add_argument("-djfile", required=True, type=Path, help="dataset.json with the labels")
    _idle(parser, "-pfile", default=None, why="labels and file ending stand in dataset.json")


def evaluate_simple(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_evaluate_simple``."""
    _compared(parser)
    parser.add_argument("-l", type=int, nargs="+", required=True, help="label values to score")
    parser.add_argument("-il", type=int, default=None, help="label value of voxels that do not count")


def convert_decathlon(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_convert_MSD_dataset``."""
    parser.add_argument("-i", required=True, type=Path, help="folder of a Decathlon task, TaskXX_Name")
    parser.add_argument("-overwrite_id", type=int, default=None, help="number of the new dataset; default: the task's")
    _processes(parser)


def convert_old_dataset(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_convert_old_nnUNet_dataset``."""
    parser.add_argument("input_folder", type=Path, help="folder of the old task, with imagesTr and labelsTr")
    parser.add_argument("output_dataset_name", help="name of the new dataset, DatasetXXX_Name")


def plot_overlays(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_plot_overlay_pngs``."""
    parser.add_argument("-d", required=True, help="number or name of the dataset")
    parser.add_argument("-o", required=True, type=Path, help="folder for the pictures")
    _processes(parser)
    parser.add_argument("-channel_idx", type=int, default=0, help="which channel; default 0")
    parser.add_argument("--use_raw", action="store_true", help="show the raw data instead of the prepared cases")
    parser.add_argument("-p", default="nnUNetPlans", help="plans; default nnUNetPlans")
    parser.add_argument("-c", default=None, help="configuration; default 3d_fullres if planned, else 2d")
    parser.add_argument("-overlay_intensity", type=float, default=0.6, help="how much colour; default 0.6")


def download_by_url(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_download_pretrained_model_by_url``."""
    parser.add_argument("url", help="where the zip is to be had")


def export_model_to_zip(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_export_model_to_zip``."""
    parser.add_argument("-d", required=True, help="number or name of the dataset of the model")
    parser.add_argument("-o", required=True, type=Path, help="the zip")
    exported = ("3d_lowres", "3d_fullres", "2d", "3d_cascade_fullres")
    parser.add_argument("-c", nargs="+", default=exported, help=f"configurations; default {' '.join(exported)}")
    _trainer(parser)
    parser.add_argument("-f", nargs="+", default=FOLDS, metavar="K", help="folds; default 0 1 2 3 4")
    checkpoints = ("checkpoint_final.pth",)
    parser.add_argument("-chk", nargs="+", default=checkpoints, help="checkpoints; default checkpoint_final.pth")
    parser.add_argument("--not_strict", action="store_true", help="leave out configurations and folds that are missing")
    _refuse(parser, "--exp_cv_preds", flag=True, why="the zip holds models; the predictions lie in fold_X/validation")


def install_from_zip(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_install_pretrained_model_from_zip``."""
    parser.add_argument("zip", type=Path, help="a zip that nnU-Net or Delineate exported")


def accumulate_crossval_results(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_accumulate_crossval_results``."""
    parser.add_argument("dataset_name_or_id", help="number or name of the dataset")
    parser.add_argument("-c", required=True, default="3d_fullres", help="configuration")
    parser.add_argument("-o", default=None, help="output folder; default: crossval_results_folds_... of the model")
    parser.add_argument("-f", nargs="+", type=int, default=FOLDS, metavar="K", help="folds; default 0 1 2 3 4")
    _trainer(parser)


def ensemble(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_ensemble``."""
    parser.add_argument("-i", nargs="+", required=True, help="folders of predictions with probabilities")
    parser.add_argument("-o", required=True, help="output folder")
    _idle(parser, "-np", type=int, default=_number("nnUNet_def_n_proc", PROCESSES), why="heads are averaged in turn")
    parser.add_argument("--save_npz", action="store_true", help="also write the averaged probabilities")


def determine_postprocessing(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_determine_postprocessing``."""
    parser.add_argument("-i", required=True, type=Path, help="folder of predictions")
    parser.add_argument("-ref", required=True, type=Path, help="folder of references")
    _postprocessing(parser)
    parser.add_argument("--remove_postprocessed", action="store_true", help="do not write the post-processed masks")


def apply_postprocessing(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_apply_postprocessing``."""
    parser.add_argument("-i", required=True, type=Path, help="folder of predictions")
    parser.add_argument("-o", required=True, type=Path, help="output folder")
    parser.add_argument(
        "-pp_pkl_file", required=True, type=Path, help="postprocessing.pkl; the .json beside it is read"
    )
    _postprocessing(parser)


def move_plans(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_move_plans_between_datasets``."""
    parser.add_argument("-s", required=True, help="dataset whose plans are taken")
    parser.add_argument("-t", required=True, help="dataset that gets them")
    parser.add_argument("-sp", required=True, help="name of the plans")
    parser.add_argument("-tp", default=None, help="new name of the plans; default: the old one")


def find_best_configuration(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``nnUNetv2_find_best_configuration``."""
    configurations = [*CONFIGURATIONS, "3d_cascade_fullres"]
    parser.add_argument("dataset_name_or_id", help="number or name of the dataset")
    parser.add_argument("-p", nargs="+", default=["nnUNetPlans"], help="plans; default nnUNetPlans")
    parser.add_argument("-c", nargs="+", default=configurations, help=f"default {' '.join(configurations)}")
    parser.add_argument("-tr", nargs="+", default=["nnUNetTrainer"], help="trainers; default nnUNetTrainer")
    _processes(parser)
    parser.add_argument("-f", nargs="+", type=int, default=FOLDS, metavar="K", help="folds; default 0 1 2 3 4")
    parser.add_argument("--disable_ensembling", action="store_true", help="compare single configurations only")
    _idle(parser, "--no_overwrite", flag=True, why="what is compared is always made anew")


# --- groups ----------------------------------------------------------------------------------------------------------


def _datasets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", nargs="+", type=int, required=True, metavar="ID", help="numbers of the datasets")


def _extractor(parser: argparse.ArgumentParser) -> None:
    _refuse(parser, "-fpe", default="DatasetFingerprintExtractor", why="there is one way to measure a dataset")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verify_dataset_integrity", action="store_true", help="look at every file and tell all faults"
    )


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clean", action="store_true", help="measure again although there is a fingerprint")


def _planner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-pl", default="ExperimentPlanner", help="planner; default ExperimentPlanner")
    parser.add_argument("-gpu_memory_target", type=float, default=None, metavar="GB", help="memory to plan for")
    _refuse(parser, "-preprocessor_name", default="DefaultPreprocessor", why="there is one way to prepare cases")
    parser.add_argument(
        "-overwrite_target_spacing", nargs="+", default=None, metavar="MM", help="z y x of the full resolution"
    )
    parser.add_argument("-overwrite_plans_name", default=None, help="another name for the plans")


def _configurations(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", nargs="+", default=CONFIGURATIONS, help="configurations; default 2d 3d_fullres 3d_lowres")
    parser.add_argument(
        "-np", type=int, nargs="+", default=None, help="cases prepared at a time, one number or one per configuration"
    )


def _processes(parser: argparse.ArgumentParser) -> None:
    default = int(os.environ.get("nnUNet_def_n_proc", PROCESSES))
    parser.add_argument("-np", type=int, default=default, help="cases worked on at a time, at most the cores")


def _logging(parser: argparse.ArgumentParser) -> None:
    _verbose(parser)
    parser.add_argument("--no_pbar", **_PLAIN)


def _trainer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-tr", default="nnUNetTrainer", help="trainer; default nnUNetTrainer")
    parser.add_argument("-p", default="nnUNetPlans", help="plans; default nnUNetPlans")


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-device", default="cuda", help="cuda, cpu or mps; default cuda")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", required=True, type=Path, help="folder of images {id}_0000.ext, {id}_0001.ext, ...")
    parser.add_argument("-o", required=True, type=Path, help="folder for the label maps")


def _prediction(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", nargs="+", default=FOLDS, metavar="K", help="folds to average, or all; default 0 1 2 3 4")
    parser.add_argument(
        "-step_size", type=float, default=0.5, help="step between tiles, share of the patch; default 0.5"
    )
    parser.add_argument("--disable_tta", action="store_true", help="do not average over mirrored images: quicker")
    _verbose(parser)
    parser.add_argument("--save_probabilities", action="store_true", help="also write {id}.npz and {id}.pkl")
    parser.add_argument("-chk", default="checkpoint_final.pth", help="which checkpoint; default checkpoint_final.pth")
    parser.add_argument("-prev_stage_predictions", default=None, help="cascades: folder of the previous stage's masks")
    _idle(parser, "-npp", type=int, default=_number("nnUNet_npp", 3), why=THREADS)
    _idle(parser, "-nps", type=int, default=_number("nnUNet_nps", 3), why=THREADS)
    _device(parser)
    parser.add_argument("--disable_progress_bar", **_PLAIN)
    _idle(parser, "--not_on_device", flag=True, why="memory on the device is bounded whatever the size of the image")


def _postprocessing(parser: argparse.ArgumentParser) -> None:
    _processes(parser)
    _idle(parser, "-plans_json", default=None, why="the labels stand in dataset.json")
    parser.add_argument("-dataset_json", default=None, help="dataset.json; default: that of the input folder")


def _compared(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gt_folder", type=Path, help="folder of the references")
    parser.add_argument("pred_folder", type=Path, help="folder of the predictions, files of the same names")
    parser.add_argument("-o", type=Path, default=None, help="file for the scores; default: summary.json there")
    _processes(parser)
    parser.add_argument("--chill", action="store_true", help="leave out references without a prediction")


# --- kinds of options ------------------------------------------------------------------------------------------------

_PLAIN: dict[str, Any] = {
    "action": "store_true",
    "dest": "plain_progress",
    "default": argparse.SUPPRESS,
    "help": "progress as plain lines, not a live line",
}


def _verbose(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--verbose", action="store_true", default=argparse.SUPPRESS, help="also print the cause of an error"
    )


def _number(variable: str, default: int) -> int:
    return int(os.environ.get(variable, default))


def _idle(parser: argparse.ArgumentParser, name: str, *, why: str, flag: bool = False, **settings: Any) -> None:
    """Declare an option that is taken with a notice."""
    action = _noting(why)
    if flag:
        parser.add_argument(name, action=action, nargs=0, default=False, help=f"no effect: {why}")
    else:
        parser.add_argument(name, action=action, help=f"no effect: {why}", **settings)


def _refuse(parser: argparse.ArgumentParser, name: str, *, why: str, flag: bool = False, **settings: Any) -> None:
    """Declare an option that may only have its default."""
    action = _refusing(why)
    if flag:
        parser.add_argument(name, action=action, nargs=0, default=False, help=f"not to be had: {why}")
    else:
        parser.add_argument(name, action=action, help=f"only {settings['default']}: {why}", **settings)


def _noting(why: str) -> type[argparse.Action]:
    class Noting(argparse.Action):
        """Takes the option and notes that it does nothing."""

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: str | Sequence[Any] | None,
            option_string: str | None = None,
        ) -> None:
            setattr(namespace, self.dest, values)
            notice = f"{self.option_strings[0]} has no effect here: {why}."
            namespace.notices = (*getattr(namespace, "notices", ()), notice)

    return Noting


def _refusing(why: str) -> type[argparse.Action]:
    class Refusing(argparse.Action):
        """Takes nothing but the default."""

        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: str | Sequence[Any] | None,
            option_string: str | None = None,
        ) -> None:
            if values != self.default:
                shown = "" if self.nargs == 0 else f" {values}"
                parser.error(f"{self.option_strings[0]}{shown} is not to be had here: {why}. Leave the option out.")

    return Refusing
