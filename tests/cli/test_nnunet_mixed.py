"""Both programs on one set of folders: what one has written, the other goes on with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from cli.nnunet_command_oracle import ask
from delineate.case import Image
from delineate.cli.main import main
from delineate.formats.images import read_labels, write_image, write_labels
from delineate.formats.nnunet import trainer_names
from delineate.formats.nnunet.workspace import NnunetFolders
from delineate.geometry.grid import Grid
from workflows.nnunet_folders import NAME, environment_of, folders_in, short, write_case, write_raw_dataset

pytestmark = [pytest.mark.oracle, pytest.mark.slow]
FULL = "3d_fullres"
TRAINER = "nnUNetTrainer"
"""nnU-Net looks for other trainers in all of its modules, which need libraries that it does not ask for."""
INSIDE = (slice(6, -4), slice(4, -4), slice(5, -4))
"""Four voxels inside the crop. At its edges nnU-Net's Gaussian weights are too small for half precision, and its sums
lose the logits there (a corner gets equal probabilities)."""
HALF_PRECISION = 5e-3
"""nnU-Net keeps logits in half precision; networks that have hardly learnt have many voxels of nearly equal heads."""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NnunetFolders:
    found = folders_in(tmp_path)
    assert found.raw is not None
    assert found.preprocessed is not None
    assert found.results is not None
    for variable, value in environment_of(found).items():
        monkeypatch.setenv(variable, value)
        Path(value).mkdir()
    monkeypatch.setitem(trainer_names.TRAINERS, TRAINER, (short(2),))
    raw = write_raw_dataset(found.raw)
    for index in range(2):
        write_case(raw, f"new_{index}", 20 + index, 1, part="Ts")
    return found


def run(*words: str) -> None:
    assert main(["nnunet", *words]) == 0


def test_nnunet_trains_on_what_is_prepared_here(folders: NnunetFolders, tmp_path: Path) -> None:
    run("plan_and_preprocess", "-d", "7", "-c", FULL, "2d", "-npfp", "1", "-np", "1")
    for configuration, axes in ((FULL, 3), ("2d", 2)):
        request = {"kind": "load", "dataset": NAME, "configuration": configuration, "fold": 1}
        loaded = ask(request, tmp_path / configuration, environment_of(folders))
        assert len(loaded["train"]) + len(loaded["validation"]) == 6
        assert set(loaded["looks"]) == {f"case_{i:02d}" for i in range(6)}
        for look in loaded["looks"].values():
            assert look["classes"] == ["1", "2"]
            assert set(look["labels"]) - {-1} == {0, 1, 2}
            assert look["data"] > 0.1
        assert len(loaded["batch"]) == axes + 2


def test_what_nnunet_prepared_is_trained_here_on_the_same_folds(folders: NnunetFolders, tmp_path: Path) -> None:
    environment = environment_of(folders)
    prepare = {"kind": "preprocess", "number": 7, "configurations": [FULL]}
    ask(prepare, tmp_path / "first", {**environment, "nnUNet_n_proc_DA": "1"})
    loaded = ask({"kind": "load", "dataset": NAME, "configuration": FULL, "fold": 2}, tmp_path / "second", environment)
    assert folders.preprocessed is not None
    (folders.preprocessed / NAME / "splits_final.json").unlink()
    run("train", "7", FULL, "2", "-tr", TRAINER, "-device", "cpu")
    splits = json.loads((folders.preprocessed / NAME / "splits_final.json").read_text())
    assert sorted(splits[2]["train"]) == sorted(loaded["train"])
    assert folders.results is not None
    validation = folders.results / NAME / f"{TRAINER}__nnUNetPlans__{FULL}" / "fold_2" / "validation"
    assert {path.name.removesuffix(".nii.gz") for path in validation.glob("*.nii.gz")} == set(loaded["validation"])


def test_nnunet_predicts_and_scores_with_a_model_trained_here(folders: NnunetFolders, tmp_path: Path) -> None:
    assert folders.raw is not None
    assert folders.results is not None
    run("plan_and_preprocess", "-d", "7", "-c", FULL, "-npfp", "1", "-np", "1")
    run("train", "7", FULL, "0", "-tr", TRAINER, "-device", "cpu")
    model = folders.results / NAME / f"{TRAINER}__nnUNetPlans__{FULL}"
    _same_predictions(model, folders, tmp_path)
    references, predictions = folders.raw / NAME / "labelsTs", tmp_path / "ours"
    run("evaluate_folder", str(references), str(predictions), "-djfile", str(model / "dataset.json"), "-np", "1")
    request = {
        "kind": "evaluate",
        "references": str(references),
        "predictions": str(predictions),
        "declaration": str(model / "dataset.json"),
        "plans": str(model / "plans.json"),
        "out": str(tmp_path / "theirs.json"),
    }
    ask(request, tmp_path / "evaluate")
    ours, theirs = (json.loads(path.read_text()) for path in (predictions / "summary.json", tmp_path / "theirs.json"))
    for key in ("foreground_mean", "mean", "metric_per_case"):
        assert _rounded(ours[key]) == _rounded(theirs[key])


def test_a_model_of_nnunet_predicts_here(folders: NnunetFolders, tmp_path: Path) -> None:
    run("plan_and_preprocess", "-d", "7", "-c", FULL, "-npfp", "1", "-np", "1")
    request = {"kind": "random_model", "dataset": NAME, "configuration": FULL}
    written = ask(request, tmp_path / "first", environment_of(folders))
    _same_predictions(Path(written), folders, tmp_path)


def test_nnunet_applies_the_postprocessing_that_was_chosen_here(folders: NnunetFolders, tmp_path: Path) -> None:
    assert folders.raw is not None
    assert folders.preprocessed is not None
    references, predictions = folders.raw / NAME / "labelsTr", tmp_path / "predictions"
    predictions.mkdir()
    shutil.copyfile(folders.raw / NAME / "dataset.json", predictions / "dataset.json")
    run("plan_and_preprocess", "-d", "7", "--no_pp", "-npfp", "1")
    plans = folders.preprocessed / NAME / "nnUNetPlans.json"
    shutil.copyfile(plans, predictions / "plans.json")
    for file in references.iterdir():
        spoilt = read_labels(file)
        array = spoilt.array.copy()
        array[3, 3, 3:6], array[-1, -1, -1] = 1, 2
        write_labels(predictions / file.name, replace(spoilt, array=array))
    run("determine_postprocessing", "-i", str(predictions), "-ref", str(references), "-np", "1")
    request = {
        "kind": "postprocess",
        "pickle": str(predictions / "postprocessing.pkl"),
        "source": str(predictions),
        "target": str(tmp_path / "theirs"),
        "plans": str(plans),
        "declaration": str(predictions / "dataset.json"),
    }
    ask(request, tmp_path / "ask")
    for file in references.iterdir():
        ours, theirs = (
            read_labels(folder / file.name).array for folder in (predictions / "postprocessed", tmp_path / "theirs")
        )
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, read_labels(file).array)


def _same_predictions(model: Path, folders: NnunetFolders, tmp_path: Path) -> None:
    assert folders.raw is not None
    source = folders.raw / NAME / "imagesTs"
    run(
        "predict_from_modelfolder", "-i", str(source), "-o", str(tmp_path / "ours"), "-m", str(model), "-f", "0",
        "-device", "cpu", "--save_probabilities",
    )  # fmt: skip
    request = {
        "kind": "predict",
        "model": str(model),
        "folds": [0],
        "source": str(source),
        "target": str(tmp_path / "theirs"),
        "mirroring": True,
    }
    ask(request, tmp_path / "predict")
    for case_id in ("new_0", "new_1"):
        ours, theirs = (read_labels(tmp_path / side / f"{case_id}.nii.gz") for side in ("ours", "theirs"))
        assert not ours.grid.differences(theirs.grid)
        stored = [np.load(tmp_path / side / f"{case_id}.npz")["probabilities"] for side in ("ours", "theirs")]
        assert stored[0].shape == stored[1].shape
        mine, other = (probabilities[:, *INSIDE] for probabilities in stored)
        np.testing.assert_allclose(mine, other, atol=HALF_PRECISION)
        second, first = np.sort(other, axis=0)[-2:]
        clear = first - second > 2 * HALF_PRECISION
        assert clear.mean() > 0.5
        np.testing.assert_array_equal(ours.array[INSIDE][clear], theirs.array[INSIDE][clear])
    for name in ("dataset.json", "plans.json"):
        content = [json.loads((tmp_path / side / name).read_text()) for side in ("ours", "theirs")]
        assert content[0] == content[1]


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


def write_decathlon(folder: Path) -> Path:
    """Two channels of the training images in one 4-D file, one channel in the test images."""
    generator = np.random.default_rng(3)
    grid = Grid(
        shape=(4, 6, 5),
        spacing_mm=(2.5, 0.7, 0.8),
        origin_mm=(10.0, -20.0, 30.0),
        direction=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    for part, channels in (("imagesTr", 2), ("imagesTs", 2), ("labelsTr", 1)):
        (folder / part).mkdir(parents=True)
        for index in range(2):
            array = generator.integers(0, 2 if channels == 1 else 900, (channels, *grid.shape)).astype(np.int16)
            write_channels_last(folder / part / f"x_{index}.nii.gz", array, grid)
        (folder / part / "._x_0.nii.gz").write_bytes(b"left by a Mac")
    declaration = {
        "name": "Blobs",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "blob"},
        "numTraining": 2,
        "training": [{"image": f"./imagesTr/x_{i}.nii.gz", "label": f"./labelsTr/x_{i}.nii.gz"} for i in range(2)],
        "test": [f"./imagesTs/x_{i}.nii.gz" for i in range(2)],
    }
    (folder / "dataset.json").write_text(json.dumps(declaration))
    return folder


def write_channels_last(path: Path, array: np.ndarray, grid: Grid) -> None:
    if array.shape[0] == 1:
        write_image(path, Image(array=array, grid=grid))
        return
    volumes = []
    for channel in array:
        single = path.with_name(f"single{len(volumes)}.nii.gz")
        write_image(single, Image(array=channel[None], grid=grid))
        volumes.append(sitk.ReadImage(str(single)))
        single.unlink()
    sitk.WriteImage(sitk.JoinSeries(volumes), str(path))


def test_the_decathlon_is_converted_as_nnunet_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_decathlon(tmp_path / "Task09_Blobs")
    roots = {side: folders_in(tmp_path / side) for side in ("ours", "theirs")}
    for variable, value in environment_of(roots["ours"]).items():
        monkeypatch.setenv(variable, value)
    run("convert_MSD_dataset", "-i", str(source), "-overwrite_id", "12", "-np", "1")
    request = {"kind": "convert", "source": str(source), "number": 12}
    ask(request, tmp_path / "ask", environment_of(roots["theirs"]))
    ours, theirs = (tmp_path / side / "raw" / "Dataset012_Blobs" for side in ("ours", "theirs"))
    names = sorted(path.relative_to(theirs).as_posix() for path in theirs.rglob("*.*"))
    assert sorted(path.relative_to(ours).as_posix() for path in ours.rglob("*.*")) == names
    assert len(names) == 2 * 2 + 2 * 2 + 2 + 1
    for name in names:
        if name.endswith(".json"):
            assert json.loads((ours / name).read_text()) == json.loads((theirs / name).read_text())
            continue
        mine, other = (sitk.ReadImage(str(folder / name)) for folder in (ours, theirs))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mine), sitk.GetArrayFromImage(other))
        assert mine.GetPixelID() == other.GetPixelID()
        for ask_for in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(mine, ask_for)(), getattr(other, ask_for)(), atol=1e-6)
