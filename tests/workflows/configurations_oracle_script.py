"""Run by the interpreter that has nnU-Net: post-processing, ensembles and cascades of FOLDER/question.json.

All answers are files beside the questions.
"""

import functools
import json
import multiprocessing
import sys
from pathlib import Path

import blosc2
import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.ensembling.ensemble import ensemble_folders
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import resample_and_save
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.postprocessing.remove_connected_components import determine_postprocessing
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager


class SerialPool:
    """In place of nnU-Net's spawned workers, each of which would import torch again."""

    def __init__(self, processes):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def starmap(self, function, arguments):
        return [function(*each) for each in arguments]


def postprocessing(asked):
    determine_postprocessing(
        asked["predictions"], asked["references"], asked["plans"], asked["dataset"], 1, keep_postprocessed_files=True
    )


def ensemble(asked):
    """Average folders of npz; the pickles beside them, of which nnU-Net takes the grid, are written first."""
    for folder in asked["folders"]:
        for path in Path(folder).glob("*.npz"):
            _, properties = SimpleITKIO().read_seg(str(path.with_suffix(".nii.gz")))
            save_pickle(properties, str(path.with_suffix(".pkl")))
    ensemble_folders(
        asked["folders"],
        asked["out"],
        num_processes=1,
        dataset_json_file_or_dict=asked["dataset"],
        plans_json_file_or_dict=asked["plans"],
    )


def cascade(asked):
    """Predict with sums in float32, so that only the cascade's own steps are compared."""
    torch.half = torch.float32
    gaussian = functools.partial(compute_gaussian, dtype=torch.float32)
    gaussian.cache_clear = compute_gaussian.cache_clear
    predict_from_raw_data.compute_gaussian = gaussian
    predictor = predict_from_raw_data.nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False
    )
    predictor.initialize_from_trained_model_folder(asked["model"], (0,))
    Path(asked["out"]).mkdir(parents=True)
    predictor.predict_from_files_sequential(
        asked["images"], asked["out"], folder_with_segs_from_prev_stage=asked["previous"]
    )


def next_stage(asked):
    plans = PlansManager(asked["plans"])
    configuration = plans.get_configuration(asked["configuration"])
    logits = torch.from_numpy(np.load(asked["logits"]))
    with torch.inference_mode():
        resample_and_save(
            logits,
            asked["shape"],
            asked["out"],
            plans,
            configuration,
            {"spacing": asked["spacing"], "shape_after_cropping_and_before_resampling": asked["cropped"]},
            asked["dataset"],
            1,
            nnUNetDatasetBlosc2,
        )
    np.save(asked["out"] + ".npy", blosc2.open(asked["out"] + ".b2nd", mode="r")[:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    multiprocessing.get_context = lambda kind: type("Serial", (), {"Pool": SerialPool})
    folder = Path(sys.argv[1])
    for kind, asked in json.loads((folder / "question.json").read_text()):
        globals()[kind](asked)
