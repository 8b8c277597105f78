"""What people and strangers give to a prediction: edited models, folders that are in the way, images twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.case import Image
from delineate.cli.main import main
from delineate.errors import InputError, ModelError, ResourceError, SomeCasesFailed, UsageError
from delineate.formats.images import read_labels, write_image
from delineate.formats.model_package import DOCUMENT
from delineate.geometry.grid import Grid
from delineate.workflows.ensemble_predictions import segment_files_with_ensemble
from delineate.workflows.exchange_models import import_model
from delineate.workflows.model import Manner, load_model
from delineate.workflows.segment_folder import find_images, segment_files
from delineate.workflows.segment_on_cluster import ModelSource
from formats.nnunet.trained_models import make_trained_model

SEED = 5
OUTSIDE = "/../../outside.nii.gz"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return make_trained_model(tmp_path / "results")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_scan(folder / "scan.nii.gz")
    return folder


def write_scan(path: Path, shape: tuple[int, int, int] = (12, 13, 14)) -> None:
    path.parent.mkdir(exist_ok=True)
    array = np.random.default_rng(SEED).normal(size=(1, *shape)).astype(np.float32)
    write_image(path, Image(array=array, grid=Grid.regular(shape, (1.0, 1.0, 1.0))))


def edit(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def configuration(plans: dict) -> dict:
    return plans["configurations"]["3d_fullres"]


def test_file_ending_of_a_model_leads_nowhere_else(trained: Path, images: Path, tmp_path: Path) -> None:
    edit(trained / "dataset.json", lambda content: content.update(file_ending=OUTSIDE))
    with pytest.raises(ModelError, match="file_ending"):
        load_model(trained)
    assert not list(tmp_path.rglob("outside*"))


def test_file_ending_of_a_package_leads_nowhere_else(trained: Path, tmp_path: Path) -> None:
    import_model(trained, tmp_path / "package")
    edit(tmp_path / "package" / DOCUMENT, lambda content: content["dataset"].update(file_ending=OUTSIDE))
    with pytest.raises(ModelError, match="file_ending"):
        load_model(tmp_path / "package")


@pytest.mark.parametrize(
    "change",
    [
        lambda plans: plans.update(plans_name="../../../outside"),
        lambda plans: plans.update(dataset_name="../outside"),
        lambda plans: configuration(plans).update(data_identifier="/outside"),
        lambda plans: plans.update(transpose_forward=[0, 1], transpose_backward=[0, 1]),
        lambda plans: plans.update(transpose_forward=[], transpose_backward=[]),
        lambda plans: plans.update(transpose_backward=[0, 1]),
        lambda plans: configuration(plans)["architecture"]["arch_kwargs"].update(n_stages=10**9, features_per_stage=4),
        lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(std=-1.0),
        lambda plans: plans["foreground_intensity_properties_per_channel"]["0"].update(percentile_99_5=-1e4),
        lambda plans: (
            configuration(plans).update(normalization_schemes=["CTNormalization"]),
            plans.update(foreground_intensity_properties_per_channel={}),
        ),
    ],
    ids=["plans", "dataset", "data", "2 axes", "0 axes", "back", "stages", "std", "percentiles", "ct"],
)
def test_edited_plans_are_refused(trained: Path, change: Callable[[dict], object]) -> None:
    edit(trained / "plans.json", change)
    with pytest.raises(ModelError, match=r"plans\.json"):
        load_model(trained)


def test_bottomless_json_is_refused(trained: Path) -> None:
    (trained / "plans.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="nested too deeply"):
        load_model(trained)


def test_image_too_large_for_memory_is_a_failed_case(trained: Path, images: Path, tmp_path: Path) -> None:
    edit(trained / "plans.json", lambda plans: configuration(plans).update(spacing=[1e-9, 1e-3, 1e-3]))
    with pytest.raises(SomeCasesFailed, match="1 of 1") as raised:
        segment_files(load_model(trained, device="cpu"), find_images(images, 1), tmp_path / "out")
    assert "Memory ran out" in raised.value.diagnostics()


def test_label_maps_do_not_replace_images(trained: Path, images: Path) -> None:
    model, cases = load_model(trained, device="cpu"), find_images(images, 1)
    before = (images / "scan.nii.gz").read_bytes()
    with pytest.raises(UsageError, match="holds the images"):
        segment_files(model, cases, images, overwrite=True)
    with pytest.raises(UsageError, match="holds the images"):
        segment_files_with_ensemble([model, model], cases, images, overwrite=True)
    assert (images / "scan.nii.gz").read_bytes() == before


def test_two_files_of_one_name_are_not_chosen_from(images: Path) -> None:
    write_scan(images / "scan.nii")
    with pytest.raises(InputError, match=r"scan\.nii and scan\.nii\.gz|scan\.nii\.gz and scan\.nii"):
        find_images(images, 1)


def test_output_that_cannot_be_a_folder_is_told_before_predicting(trained: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    model, cases = load_model(trained, device="cpu"), find_images(images, 1)
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(ResourceError, match="Choose another output folder"):
            segment_files(model, cases, out)


def test_folder_without_a_model_says_what_was_expected(images: Path, trained: Path) -> None:
    with pytest.raises(ModelError, match=r"no trained model .* fold_0 to fold_4 of nnU-Net; found neither"):
        load_model(images)
    with pytest.raises(ModelError, match="no trained model"):
        load_model(trained / "fold_0" / "checkpoint_final.pth")


def test_worker_uses_the_model_as_it_was_asked_for(trained: Path, images: Path) -> None:
    source = ModelSource(
        path=trained,
        device="cpu",
        configuration="3d_fullres",
        manner=Manner(step=0.25, nnunet_rounding=True, skip_air=True, postprocessing=False),
    )
    model = source.load()
    assert (model.tiling.step, model.rounding) == (0.25, "nnunet")
    assert model.air_below_hu is not None
    with pytest.raises(UsageError, match="previous stage"):
        replace(source, manner=Manner(previous=images)).load()
    with pytest.raises(ModelError, match="checkpoint_best"):
        replace(source, checkpoint="checkpoint_best.pth").load()


def test_command_line_predicts_and_leaves_nothing_else(trained: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["predict", str(trained), "-i", str(images), "-o", str(out), "--device", "cpu"]) == 0
    assert [path.name for path in out.iterdir()] == ["scan.nii.gz"]
    assert read_labels(out / "scan.nii.gz").grid.shape == (12, 13, 14)
