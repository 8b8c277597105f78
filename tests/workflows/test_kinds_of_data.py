"""The whole job on data unlike the demo's: regions with an ignore label, two channels, pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from delineate.formats.datasets import Dataset
from delineate.formats.images import read_image, read_labels, write_image, write_labels
from delineate.workflows.run_dataset import RunSettings, run_dataset

SHORT = RunSettings(budget_seconds=28.0, mirroring=False)


@pytest.fixture
def regions(phantoms: Path, tmp_path: Path) -> Path:
    """Liver and spleen as the region `organs` and the region `spleen`; a slab that nobody annotated; two channels."""
    folder = tmp_path / "regions"
    shutil.copytree(phantoms, folder)
    declared = json.loads((folder / "dataset.json").read_text())
    declared["labels"] = {"background": 0, "organs": [1, 2], "spleen": [2], "ignore": 3}
    declared["regions_class_order"] = [1, 2]
    declared["channel_names"] = {"0": "CT", "1": "noise"}
    (folder / "dataset.json").write_text(json.dumps(declared))
    generator = np.random.default_rng(0)
    for part in ("imagesTr", "imagesTs"):
        for path in sorted((folder / part).glob("*_0000.nii.gz")):
            image = read_image(path)
            noise = generator.standard_normal(image.array.shape).astype(np.float32)
            second = path.with_name(path.name.removesuffix("_0000.nii.gz") + "_0001.nii.gz")
            write_image(second, type(image)(array=noise, grid=image.grid))
    for path in sorted((folder / "labelsTr").glob("*.nii.gz")):
        labels = read_labels(path)
        array = labels.array.copy()
        array[:2] = 3
        write_labels(path, type(labels)(array=array, grid=labels.grid))
    return folder


def test_regions_with_an_ignore_label_and_two_channels(regions: Path, tmp_path: Path) -> None:
    outcome = run_dataset(regions, tmp_path / "run", SHORT)
    assert [s.name for s in outcome.validation.structures] == ["organs", "spleen"]
    assert outcome.validation.structures[0].dice.mean > 0.2
    masks = [read_labels(p).array for p in (tmp_path / "run" / "predictions").glob("*.nii.gz")]
    assert masks
    assert all(set(np.unique(mask)) <= {0, 1, 2} for mask in masks)


@pytest.fixture
def pictures(dataset: Dataset, tmp_path: Path) -> Path:
    """Axial slices through the liver as 8-bit PNG with masks of 0 and 255, several slices per patient."""
    folder = tmp_path / "pictures"
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rows = ["case,patient"]
    for number, files in enumerate(dataset.training):
        case = dataset.load(files)
        assert case.labels is not None
        liver = case.labels.array == 1
        for z in np.argsort(liver.sum(axis=(1, 2)))[-4:]:
            name = f"p{number}_s{z:03d}"
            pixels = np.clip((case.image.array[0, z] + 150) / 400 * 255, 0, 255).astype(np.uint8)
            Picture.fromarray(pixels).save(folder / "images" / f"{name}.png")
            Picture.fromarray(liver[z].astype(np.uint8) * 255).save(folder / "labels" / f"{name}.png")
            rows.append(f"{name},p{number}")
    (folder / "patients.csv").write_text("\n".join(rows))
    return folder


def test_pictures_of_several_slices_per_patient(pictures: Path, tmp_path: Path) -> None:
    settings = RunSettings(budget_seconds=28.0, repairs=frozenset({"map-255-to-1"}), mirroring=False)
    outcome = run_dataset(pictures, tmp_path / "run", settings)
    assert outcome.decision.configuration.dims == 2
    assert outcome.validation.foreground_dice > 0.3
    split = json.loads((tmp_path / "run" / "splits_final.json").read_text())[0]
    patients = {side: {case.split("_")[0] for case in split[side]} for side in ("train", "val")}
    assert not patients["train"] & patients["val"]
    masks = list((tmp_path / "run" / "fold_0" / "validation").glob("*.png"))
    assert len(masks) == len(split["val"])
