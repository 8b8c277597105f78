from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from anatomy_models import Shape, write_submodel, write_variant
from scipy import ndimage

from delineate.case import Image
from delineate.errors import Interrupted, ModelError, UsageError
from delineate.execution import Cancellation
from delineate.formats.images import read_image
from delineate.formats.totalsegmentator import find_models
from delineate.geometry.grid import Grid
from delineate.geometry.orientation import reorientation_to
from delineate.planning.anatomy import models_needed, task_named
from delineate.preprocessing.working_grid import to_working_grid
from delineate.workflows.model import load_model
from delineate.workflows.segment_anatomy import Anatomy, AnatomyRequest, segment_anatomy

logger = logging.getLogger(__name__)
SMALL = Shape(patch=32, features=(4, 8))
DATA = os.environ.get("DELINEATE_DATA")
ORACLE = os.environ.get("DELINEATE_ORACLE_PYTHON")
LEAST_AGREEMENT = 0.9999


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random models of the true class counts for the tasks that the tests run."""
    root = tmp_path_factory.mktemp("results")
    for name in ("total", "total_mr", "body", "lung_nodules", "kidney_cysts"):
        for variant in task_named(name).variants.values():
            write_variant(root, variant, SMALL)
    return root


@pytest.fixture(scope="module")
def scan() -> Image:
    """Smooth intensities on an anisotropic grid in an orientation of its own."""
    generator = np.random.default_rng(11)
    grid = Grid(
        shape=(26, 34, 31),
        spacing_mm=(3.1, 1.9, 2.2),
        origin_mm=(-40.0, 10.0, 300.0),
        direction=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    )
    noise = ndimage.gaussian_filter(generator.normal(size=grid.shape), 2.0)
    return Image(array=(noise / noise.std() * 400).astype(np.int16)[None], grid=grid)


def segment(scan: Image, results: Path, task: str = "total", **choice) -> Anatomy:
    request = AnatomyRequest(task=task_named(task), device="cpu", precision="float32", **choice)
    needed = models_needed(request.task, request.variant, request.structures)
    weights = find_models(needed, [results], request.task.licence)
    return segment_anatomy(scan, request, weights)


@pytest.fixture(scope="module")
def whole(scan: Image, results: Path) -> Anatomy:
    return segment(scan, results)


def test_five_models_are_merged_in_their_order(scan: Image, results: Path, whole: Anatomy) -> None:
    task = task_named("total")
    working, _ = to_working_grid(scan, (1.5, 1.5, 1.5))
    expected = np.zeros(working.grid.shape, np.uint8)
    offset = 0
    for model in task.variant("normal").models:
        loaded = load_model(
            results / model.folder / model.model_folder,
            folds=("0",),
            device="cpu",
            mirroring=False,
            precision="float32",
        )
        local = replace(loaded, tiling=replace(loaded.tiling, step=0.8)).predict(working).labels.array
        expected = np.where(local != 0, local + offset, expected)
        offset += len(model.classes)
    np.testing.assert_array_equal(whole.working.array, expected)
    assert len(np.unique(expected)) > 20
    assert [model.dataset_id for model in whole.models] == [291, 292, 293, 294, 295]


def test_labels_lie_on_the_scans_own_grid(scan: Image, whole: Anatomy) -> None:
    assert whole.labels.grid == scan.grid
    assert whole.labels.array.dtype == np.uint8
    assert whole.working.grid.spacing_mm == (1.5, 1.5, 1.5)
    assert set(np.unique(whole.labels.array)) <= set(np.unique(whole.working.array))


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR"])
def test_the_orientation_of_the_file_does_not_matter(scan: Image, results: Path, codes: str) -> None:
    turn = reorientation_to(scan.grid, codes)
    turned = Image(array=turn.apply(scan.array), grid=turn.apply_to_grid(scan.grid))
    straight = segment(scan, results, variant="fastest").labels.array
    other = segment(turned, results, variant="fastest").labels.array
    np.testing.assert_array_equal(turn.apply(straight), other)
    assert len(np.unique(straight)) > 3


def test_a_choice_of_structures_runs_only_what_it_needs(scan: Image, results: Path) -> None:
    rough = segment(scan, results, variant="fastest").labels.array
    wanted = ("liver", "spleen", "sternum")
    values = [task_named("total").value_of(name) for name in wanted]
    found = segment(scan, results, structures=wanted)
    ids = [model.dataset_id for model in found.models]
    assert ids == ([298, 291, 295] if np.isin(rough, values).any() else [298])
    assert set(np.unique(found.labels.array)) <= {0, *values}


def blank(results: Path, folder: Path, task: str, variant: str) -> Path:
    """Copy a variant's model with weights that find nothing."""
    (model,) = task_named(task).variant(variant).models
    written = write_submodel(folder, model, (6.0, 6.0, 6.0), SMALL)
    path = written / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    for name, tensor in checkpoint["network_weights"].items():
        if "seg_layers" in name:
            tensor.zero_()
            if name.endswith("bias"):
                tensor[0] = 1.0
    torch.save(checkpoint, path)
    return written


def test_nothing_found_roughly_means_nothing_to_segment(scan: Image, results: Path, tmp_path: Path) -> None:
    task = task_named("total")
    weights = find_models(models_needed(task, "normal", ("liver",)), [results], task.licence)
    weights[298] = blank(results, tmp_path, "total", "fastest")
    request = AnatomyRequest(task=task, structures=("liver",), device="cpu", precision="float32")
    found = segment_anatomy(scan, request, weights)
    assert not found.labels.array.any()
    assert [model.dataset_id for model in found.models] == [298]


def test_a_task_with_a_crop_looks_roughly_first(scan: Image, results: Path) -> None:
    found = segment(scan, results, "lung_nodules")
    assert found.models[0].dataset_id == 298
    assert set(np.unique(found.labels.array)) <= {0, 1, 2}


def test_auxiliary_labels_are_dropped(scan: Image, results: Path) -> None:
    found = segment(scan, results, "kidney_cysts")
    assert set(np.unique(found.labels.array)) <= {0, 1, 2}


def test_mr_takes_the_finer_rough_model(scan: Image, results: Path) -> None:
    found = segment(scan, results, "total_mr", structures=("brain",))
    assert found.models[0].dataset_id == 852


def test_the_trunk_is_one_piece_and_limbs_are_not_small(scan: Image, results: Path) -> None:
    found = segment(scan, results, "body", variant="fast")
    _, trunks = ndimage.label(found.working.array == 1)
    assert trunks <= 1
    numbered, _ = ndimage.label(found.working.array == 2)
    sizes = np.bincount(numbered.ravel())[1:] * found.working.grid.voxel_volume_mm3
    assert (sizes > 50_000).all()


def test_one_model_is_in_memory_at_a_time(scan: Image, results: Path) -> None:
    alive: list[weakref.ref] = []

    def watched(*arguments, **options):
        gc.collect()
        assert [ref for ref in alive if ref() is not None] == []
        model = load_model(*arguments, **options)
        alive.append(weakref.ref(model.ensemble.networks[0]))
        return model

    task = task_named("total_mr")
    weights = find_models(models_needed(task, "normal"), [results], task.licence)
    request = AnatomyRequest(task=task, device="cpu", precision="float32")
    segment_anatomy(scan, request, weights, open_model=watched)
    assert len(alive) == 2


def test_a_model_of_another_task_is_refused(scan: Image, results: Path) -> None:
    task = task_named("total")
    weights = find_models(models_needed(task, "normal"), [results], task.licence)
    weights[291] = find_models(task_named("body").variant("normal").models, [results], task.licence)[299]
    request = AnatomyRequest(task=task, device="cpu", precision="float32")
    with pytest.raises(ModelError, match="labels 2 structures; the published Dataset291"):
        segment_anatomy(scan, request, weights)


def test_it_stops_when_asked(scan: Image, results: Path) -> None:
    cancellation = Cancellation()
    cancellation.request()
    task = task_named("total")
    weights = find_models(models_needed(task, "fast"), [results], task.licence)
    with pytest.raises(Interrupted):
        segment_anatomy(
            scan,
            AnatomyRequest(task=task, variant="fast"),
            weights,
            cancellation=cancellation,
        )


def test_a_choice_is_not_offered_by_every_task(scan: Image, results: Path) -> None:
    with pytest.raises(UsageError, match="not by 'body'"):
        segment(scan, results, "body", structures=("body_trunc",))


VARIANTS = ("normal", "fast", "fastest")
REAL = ("example_ct_sm.nii.gz", "example_ct_dicom")


@pytest.fixture(scope="module")
def compared(scan: Image, results: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    """Our labels and nnU-Net's, merged by offset, on the working grid; all of nnU-Net's in one process."""
    if not ORACLE:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    folder = tmp_path_factory.mktemp("oracle")
    cases = {variant: (scan, variant) for variant in VARIANTS}
    if DATA:
        root = Path(DATA) / "totalseg_reference"
        cases |= {name.split(".")[0]: (read_image(root / name), "fast") for name in REAL}
    ours = {name: segment(image, results, variant=variant) for name, (image, variant) in cases.items()}
    for name, (_, variant) in cases.items():
        working = ours[name].image
        np.savez(folder / f"{name}.npz", array=working.array, spacing=working.grid.spacing_mm)
        models = {m.dataset_id: str(results / m.folder / m.model_folder) for m in submodels(variant)}
        (folder / f"{name}.json").write_text(json.dumps(models))
    script = Path(__file__).with_name("anatomy_oracle_script.py")
    command = [ORACLE, "-W", "ignore", str(script), str(folder), "0.8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: (ours[name].working.array, *(merged(folder, name, submodels(variant), end) for end in ("", "_half")))
        for name, (_, variant) in cases.items()
    }


def submodels(variant: str):
    return task_named("total").variants[variant].models


def merged(folder: Path, name: str, models, end: str) -> np.ndarray:
    whole, offset = np.zeros((), np.int64), 0
    for model in models:
        local = np.load(folder / f"{name}_{model.dataset_id}{end}.npy").astype(np.int64)
        whole = np.where(local != 0, local + offset, whole)
        offset += len(model.classes)
    return whole


def check_agreement(ours: np.ndarray, exact: np.ndarray, half: np.ndarray) -> None:
    """Compare with nnU-Net's labels; where it sums in half precision, near-ties of random weights are broken by it."""
    assert len(np.unique(exact)) > 5
    agreement, in_half = float((ours == exact).mean()), float((exact == half).mean())
    logger.info("equal to nnU-Net in %.6f of voxels, its own half precision keeps %.6f", agreement, in_half)
    assert agreement >= LEAST_AGREEMENT
    assert (ours == half).mean() >= in_half - (1 - LEAST_AGREEMENT)


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_sub_model_predicts_as_in_nnunet(compared, variant: str) -> None:
    check_agreement(*compared[variant])


@pytest.mark.oracle
@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set")
@pytest.mark.parametrize("name", REAL)
def test_a_real_ct_is_labelled_as_by_nnunet(compared, name: str) -> None:
    check_agreement(*compared[name.split(".")[0]])
