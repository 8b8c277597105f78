"""Small raw datasets in nnU-Net's layout, and nnU-Net's three folders in a temporary place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from delineate.case import Image, LabelMap
from delineate.formats.images import write_image, write_labels
from delineate.formats.nnunet.trainer_names import Change
from delineate.formats.nnunet.workspace import NnunetFolders
from delineate.geometry.grid import Grid
from delineate.planning.recipe import Recipe

NAME = "Dataset007_Blobs"
SHAPE, SPACING_MM = (20, 26, 24), (1.5, 1.0, 1.0)


def folders_in(root: Path) -> NnunetFolders:
    return NnunetFolders(raw=root / "raw", preprocessed=root / "preprocessed", results=root / "results")


def environment_of(folders: NnunetFolders) -> dict[str, str]:
    return {
        "nnUNet_raw": str(folders.raw),
        "nnUNet_preprocessed": str(folders.preprocessed),
        "nnUNet_results": str(folders.results),
    }


def write_raw_dataset(raw: Path, *, name: str = NAME, cases: int = 6, channels: tuple[str, ...] = ("MRI",)) -> Path:
    """Two bright balls in noise, turned and shifted in space, with a border of zeros that is cropped away."""
    folder = raw / name
    for index in range(cases):
        write_case(folder, f"case_{index:02d}", index, len(channels))
    declaration = {
        "channel_names": {str(i): channel for i, channel in enumerate(channels)},
        "labels": {"background": 0, "large": 1, "small": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(declaration))
    return folder


def write_case(folder: Path, case_id: str, seed: int, channels: int, *, part: str = "Tr") -> None:
    generator = np.random.default_rng(seed)
    grid = replace(Grid.regular(SHAPE, SPACING_MM), origin_mm=(3.0 * seed, -5.0, 7.0))
    z, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[(z - 10) ** 2 + (y - 12) ** 2 + (x - 8 - seed % 3) ** 2 < 36] = 1
    labels[(z - 9) ** 2 + (y - 14) ** 2 + (x - 18) ** 2 < 9] = 2
    for channel in range(channels):
        array = generator.normal(100.0, 10.0, SHAPE) + 80.0 * labels * (channel + 1)
        array[:2], array[:, :, :1] = 0, 0
        image = Image(array=array.astype(np.float32)[None], grid=grid)
        target = folder / f"images{part}" / f"{case_id}_{channel:04d}.nii.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_image(target, image)
    (folder / f"labels{part}").mkdir(parents=True, exist_ok=True)
    write_labels(folder / f"labels{part}" / f"{case_id}.nii.gz", LabelMap(array=labels, grid=grid, scheme=None))


def short(iterations: int) -> Change:
    """What stands in for a trainer's epochs, so that a test trains in a second."""

    def shortened(recipe: Recipe) -> Recipe:
        few = {"iterations": iterations, "iterations_per_epoch": iterations, "validation_batches": 1, "batch_size": 2}
        return replace(recipe, **few)

    return shortened


def add_cascade(preprocessed: Path, *, name: str = NAME) -> None:
    """Give a planned dataset a small 3d_lowres and a 3d_cascade_fullres after it, as nnU-Net's plans have them."""
    path = preprocessed / name / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    full = plans["configurations"]["3d_fullres"]
    plans["configurations"]["3d_lowres"] = {
        "inherits_from": "3d_fullres",
        "data_identifier": "nnUNetPlans_3d_lowres",
        "spacing": [2 * mm for mm in full["spacing"]],
        "median_image_size_in_voxels": [size / 2 for size in full["median_image_size_in_voxels"]],
        "next_stage": "3d_cascade_fullres",
    }
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    path.write_text(json.dumps(plans))


def write_two_folds(raw: Path, *, name: str = NAME, cases: int = 6) -> None:
    """Divide the cases into two folds, so that few trainings cover all of them."""
    ids = [f"case_{index:02d}" for index in range(cases)]
    halves = ids[::2], ids[1::2]
    splits = [{"train": halves[1 - fold], "val": halves[fold]} for fold in (0, 1)]
    (raw / name / "splits_final.json").write_text(json.dumps(splits))
