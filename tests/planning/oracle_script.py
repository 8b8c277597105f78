"""Runs inside the oracle interpreter (it has nnunetv2): plans, fingerprints and folds for the requests in a JSON file.

    python oracle_script.py REQUESTS.json ANSWERS.json FOLDER

A request for plans is {"kind": "plan", "dataset": dataset.json, "fingerprint": ..., "planner": class name,
"target_spacing": null | [z, y, x]}; for folds {"kind": "folds", "ids": [...], "n": 5}; for a fingerprint
{"kind": "fingerprint", "cases": file.npz per case}.
"""

import contextlib
import io
import json
import os
import sys
import warnings
from pathlib import Path


def main(requests_file, answers_file, folder):
    for name in ("raw", "preprocessed", "results"):
        path = Path(folder) / name
        path.mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(path)
    warnings.simplefilter("ignore")
    handlers = {"plan": plan, "folds": folds, "fingerprint": fingerprint}
    requests = json.loads(Path(requests_file).read_text())
    answers = []
    for index, request in enumerate(requests):
        with contextlib.redirect_stdout(io.StringIO()):
            answers.append(handlers[request["kind"]](request, index, Path(folder)))
    Path(answers_file).write_text(json.dumps(answers))


def planner_class(name):
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners

    return getattr(default_experiment_planner, name, None) or getattr(residual_encoder_unet_planners, name)


def plan(request, index, folder):
    import torch

    name = f"Dataset{index % 900 + 1:03d}_Case{index}"
    for place in ("raw", "preprocessed"):
        (folder / place / name).mkdir()
    declaration = dict(request["dataset"])
    declaration["dataset"] = {"case": {"images": [example_image(folder, declaration["file_ending"])], "label": "none"}}
    (folder / "raw" / name / "dataset.json").write_text(json.dumps(declaration))
    (folder / "preprocessed" / name / "dataset_fingerprint.json").write_text(json.dumps(request["fingerprint"]))
    planner = planner_class(request["planner"])(name, overwrite_target_spacing=request.get("target_spacing"))
    original = planner.static_estimate_VRAM_usage

    def without_memory(*args):  # same networks, but their weights take no room: hundreds of times quicker
        with torch.device("meta"):
            return original(*args)

    planner.static_estimate_VRAM_usage = without_memory
    try:
        planner.plan_experiment()
    except Exception as error:  # noqa: BLE001 - the test decides what an error means
        return {"error": f"{type(error).__name__}: {error}"}
    return json.loads((folder / "preprocessed" / name / f"{planner.plans_identifier}.json").read_text())


def example_image(folder, ending):
    import numpy as np

    file = folder / f"example{ending}"
    if not file.exists():
        if ending == ".png":
            from skimage import io as pictures

            pictures.imsave(file, np.zeros((8, 8), dtype=np.uint8), check_contrast=False)
        else:
            import SimpleITK as sitk

            sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4, 4), dtype=np.float32)), str(file))
    return str(file)


def folds(request, index, folder):
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    splits = generate_crossval_split(sorted(request["ids"]), seed=12345, n_splits=request["n"])
    return [{side: [str(i) for i in split[side]] for side in split} for split in splits]


class Reader:
    """Stands in for nnU-Net's image reader: cases are arrays already."""

    cases = None

    def read_images(self, files):
        case = self.cases[files[0]]
        return case["image"].astype("float32"), {"spacing": case["spacing"].tolist()}

    def read_seg(self, file):
        return self.cases[file]["labels"].astype("float32")[None], {}


class Loop:
    """Stands in for a pool of processes."""

    _pool = ()

    def Pool(self, _):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def starmap_async(self, function, arguments):
        return Done([function(*arguments[0])])


class Done(list):
    """Stands in for a result that is awaited."""

    def ready(self):
        return True

    def get(self):
        return self


def fingerprint(request, index, folder):
    """Run nnU-Net's extractor on the spot."""
    import numpy as np
    from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor as module

    Reader.cases = {name: np.load(file) for name, file in request["cases"].items()}
    name = f"Dataset{index % 900 + 1:03d}_Case{index}"
    for place in ("raw", "preprocessed"):
        (folder / place / name).mkdir()
    dataset = {case: {"images": [case], "label": case} for case in Reader.cases}
    declaration = {
        "channel_names": {str(i): "MRI" for i in range(request["channels"])},
        "labels": {"background": 0, "a": 1},
        "file_ending": ".nii.gz",
        "numTraining": len(dataset),
        "dataset": dataset,
    }
    (folder / "raw" / name / "dataset.json").write_text(json.dumps(declaration))
    module.multiprocessing.get_context = lambda _: Loop()
    module.determine_reader_writer_from_dataset_json = lambda *_: Reader
    extractor = module.DatasetFingerprintExtractor(name)
    extractor.dataset = dataset
    extractor.num_foreground_voxels_for_intensitystats = request["total"]
    extractor.show_progress_bar = False
    extractor.run()
    return json.loads((folder / "preprocessed" / name / "dataset_fingerprint.json").read_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
