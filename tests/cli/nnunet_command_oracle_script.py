"""Runs inside the oracle interpreter (it has nnunetv2): its parsers, its data loading, its tools.

    python nnunet_command_oracle_script.py REQUEST.json ANSWER.json

with the three folders of nnU-Net in the environment.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import sys
import warnings
from pathlib import Path


def main(request_file, answer_file):
    warnings.simplefilter("ignore")
    request = json.loads(Path(request_file).read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        answer = HANDLERS[request["kind"]](request)
    Path(answer_file).write_text(json.dumps(answer))


def parsers(request):
    """Return the options of every entry point: option strings, default, number of values, type, required."""
    found = {}
    for entry in importlib.metadata.distribution("nnunetv2").entry_points:
        if entry.group == "console_scripts":
            function = getattr(importlib.import_module(entry.module), entry.attr)
            found[entry.name.removeprefix("nnUNetv2_")] = options_of(function)
    return found


class Enough(Exception):
    pass


def options_of(function):
    caught = []

    def catch(parser, *_, **__):
        caught.append(parser)
        raise Enough

    originals = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_known_args = catch
    try:
        function()
    except Enough:
        pass
    finally:
        argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args = originals
    return [
        {
            "options": sorted(action.option_strings) or [action.dest],
            "default": list(action.default) if isinstance(action.default, tuple) else action.default,
            "nargs": action.nargs,
            "type": getattr(action.type, "__name__", None),
            "required": action.required,
        }
        for action in caught[0]._actions
        if not isinstance(action, argparse._HelpAction)
    ]


def load_for_training(request):
    """Return what nnU-Net's own trainer finds in a prepared folder: the cases of a fold and a look into each."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(
        request["dataset"], request["configuration"], request["fold"], "nnUNetTrainer", "nnUNetPlans",
        device=torch.device("cpu"),
    )  # fmt: skip
    trainer.initialize()
    train, validation = trainer.get_tr_and_val_datasets()
    looks = {}
    for dataset in (train, validation):
        for case in dataset.identifiers:
            data, labels, stage, properties = dataset.load_case(case)
            looks[case] = {
                "stage": None if stage is None else sorted({int(v) for v in stage[:].ravel()}),
                "stage_fits": None if stage is None else stage.shape == data.shape[1:],
                "data": float(abs(data[:]).mean()),
                "labels": sorted({int(v) for v in labels[:].ravel()}),
                "classes": sorted(map(str, properties["class_locations"])),
            }
    loader, _ = trainer.get_dataloaders()
    batch = next(loader)
    return {
        "train": list(train.identifiers),
        "validation": list(validation.identifiers),
        "looks": looks,
        "batch": list(batch["data"].shape),
    }


def random_model(request):
    """Write an untrained model as nnU-Net's trainer would at its end; return its folder."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    trainer = get_trainer_from_args(
        request["dataset"], request["configuration"], 0, "nnUNetTrainer", "nnUNetPlans", device=torch.device("cpu")
    )
    trainer.initialize()
    return written(trainer)


def validated_models(request):
    """Write untrained folds as above and validate each, which writes label maps for the next stage; return the folder.

    The last layer is made larger, so that the heads differ by more than half precision tells apart.
    """
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    work_serially()
    for fold in request["folds"]:
        trainer = get_trainer_from_args(
            request["dataset"], request["configuration"], fold, "nnUNetTrainer", "nnUNetPlans",
            device=torch.device("cpu"),
        )  # fmt: skip
        torch.manual_seed(fold)  # noqa: TID251 -- nnU-Net draws its weights globally
        trainer.initialize()
        with torch.no_grad():
            for layer in trainer.network.decoder.seg_layers:
                layer.weight.mul_(20)
        folder = written(trainer)
        trainer.perform_actual_validation(False)
    return folder


def written(trainer):
    import shutil

    base = Path(trainer.output_folder_base)
    Path(trainer.output_folder).mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    shutil.copy(Path(trainer.preprocessed_dataset_folder_base) / "dataset.json", base / "dataset.json")
    (base / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    return str(base)


class SerialPool:
    """In place of nnU-Net's spawned workers, each of which would import torch again."""

    _pool = ()

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def starmap(self, function, arguments):
        return [function(*each) for each in arguments]

    def starmap_async(self, function, arguments):
        return Done(self.starmap(function, arguments))


class Done:
    def __init__(self, values):
        self.values = values

    def get(self):
        return self.values

    def ready(self):
        return True


def work_serially():
    import multiprocessing

    multiprocessing.get_context = lambda kind: type("Serial", (), {"Pool": SerialPool})


def find_best(request):
    """Compare trained configurations; nnU-Net writes its answer to the results folder."""
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    work_serially()
    models = [
        {"plans": "nnUNetPlans", "configuration": name, "trainer": request["trainer"]}
        for name in request["configurations"]
    ]
    find_best_configuration(request["dataset"], models, num_processes=1, folds=tuple(request["folds"]))


def plan_and_preprocess(request):
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    without_memory()
    extract_fingerprints([request["number"]], num_processes=1, clean=True, verbose=False, show_progress_bar=False)
    plans = plan_experiments([request["number"]])
    preprocess([request["number"]], plans, request["configurations"], [1], show_progress_bar=False)
    return plans


def without_memory():
    """Let the planner estimate memory with networks whose weights take no room: hundreds of times quicker."""
    import torch
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

    original = ExperimentPlanner.static_estimate_VRAM_usage

    def estimate(*arguments):
        with torch.device("meta"):
            return original(*arguments)

    ExperimentPlanner.static_estimate_VRAM_usage = staticmethod(estimate)


def postprocess(request):
    import pickle

    from nnunetv2.postprocessing.remove_connected_components import apply_postprocessing_to_folder

    functions, arguments = pickle.loads(Path(request["pickle"]).read_bytes())
    apply_postprocessing_to_folder(
        request["source"], request["target"], functions, arguments, request["plans"], request["declaration"], 1
    )


def convert(request):
    from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

    convert_msd_dataset(request["source"], request["number"], 1)


def evaluate(request):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder2

    compute_metrics_on_folder2(
        request["references"], request["predictions"], request["declaration"], request["plans"], request["out"], 1
    )


def predict(request):
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=request["mirroring"], device=torch.device("cpu"), perform_everything_on_device=False,
        allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(request["model"], request["folds"], "checkpoint_final.pth")
    Path(request["target"]).mkdir()
    predictor.predict_from_files_sequential(request["source"], request["target"], save_probabilities=True)


HANDLERS = {
    "parsers": parsers,
    "load": load_for_training,
    "preprocess": plan_and_preprocess,
    "convert": convert,
    "evaluate": evaluate,
    "predict": predict,
    "random_model": random_model,
    "validated_models": validated_models,
    "find_best": find_best,
    "postprocess": postprocess,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
