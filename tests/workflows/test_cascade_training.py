"""A cascade from its first stage to a package that predicts alone; a few steps on phantoms."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import delineate
from delineate.cli.main import main
from delineate.errors import InputError, Interrupted, ModelError, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.formats.images import read_labels, write_labels
from delineate.formats.model_package import read_package, write_package
from delineate.formats.stage_labels import open_stage_labels
from delineate.workflows.resume_run import open_run, report_run, train_run
from delineate.workflows.segment_folder import segment_files

FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"


@pytest.fixture(scope="module")
def trained(configurations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained") / "run"
    shutil.copytree(configurations, root)
    train_run(root, folds=("0",), configuration=SECOND, device="cpu")
    return root


@pytest.fixture(scope="module")
def cascade(trained: Path) -> delineate.Model:
    return delineate.load_model(trained / SECOND / "model", device="cpu", mirroring=False, precision="float32")


def test_every_case_is_predicted_by_the_fold_that_did_not_see_it(trained: Path) -> None:
    run = open_run(trained, configuration=FIRST, device="cpu")
    second = open_run(trained, configuration=SECOND, device="cpu")
    model = delineate.load_model(run.folder.model, device="cpu", mirroring=False)
    for fold in ("0", "1"):
        case_id = run.split(fold).validation[0]
        stage = open_stage_labels(run.folder.next_stage(SECOND), case_id)
        assert stage.shape == second.store.open(case_id).array.shape[1:]
        predicted = model.only(fold).predict(run.planned.dataset.load(_files(run.planned.dataset, case_id)).image)
        # two ways of resampling the same answer: to the prepared grid, or to the image's grid and from there
        share = np.mean(np.asarray(stage[...]) > 0)
        assert share == pytest.approx(np.mean(predicted.labels.array > 0), abs=0.05)


def _files(dataset: Dataset, case_id: str) -> CaseFiles:
    return next(files for files in dataset.training if files.case_id == case_id)


def test_the_package_holds_both_stages_as_folder_and_as_zip(trained: Path, tmp_path: Path) -> None:
    package = read_package(trained / SECOND / "model")
    assert package.previous is not None
    assert set(package.previous.weights) == {"0", "1"}
    assert package.input_channels == 1 + 2
    write_package(tmp_path / "model.zip", package)
    again = read_package(tmp_path / "model.zip")
    assert again.previous is not None
    torch.testing.assert_close(dict(again.previous.weights["1"]), dict(package.previous.weights["1"]), rtol=0, atol=0)
    (trained / SECOND / "model" / "previous").rename(tmp_path / "previous")
    with pytest.raises(ModelError, match="previous"):
        read_package(trained / SECOND / "model")
    (tmp_path / "previous").rename(trained / SECOND / "model" / "previous")


def test_prediction_runs_the_configurations_or_takes_its_labels(
    cascade: delineate.Model, dataset: Dataset, tmp_path: Path
) -> None:
    case = dataset.testing[0]
    image = dataset.load(case).image
    assert isinstance(cascade.previous, delineate.Model)
    first = cascade.previous.predict(image).labels
    alone = cascade.predict(image).labels.array
    np.testing.assert_array_equal(alone, cascade.predict(image, previous=first).labels.array)
    other = replace(first, array=np.where(np.indices(first.array.shape)[0] % 2, 1, 2).astype(np.uint8))
    assert (alone != cascade.predict(image, previous=other).labels.array).any()
    write_labels(tmp_path / "first" / f"{case.case_id}.nii.gz", first)
    stored = cascade.with_previous_from(tmp_path / "first")
    segment_files(stored, [case], tmp_path / "out")
    np.testing.assert_array_equal(alone, read_labels(tmp_path / "out" / f"{case.case_id}.nii.gz").array)


def test_a_stage_without_the_other_says_what_is_missing(
    cascade: delineate.Model, dataset: Dataset, tmp_path: Path
) -> None:
    image = dataset.load(dataset.testing[0]).image
    with pytest.raises(UsageError, match="3d_lowres"):
        replace(cascade, previous=None).predict(image)
    with pytest.raises(InputError, match="previous stage"):
        cascade.with_previous_from(tmp_path).predict(image, case_id="x")
    assert isinstance(cascade.previous, delineate.Model)
    with pytest.raises(UsageError, match="takes no"):
        cascade.previous.predict(image, previous=cascade.predict(image).labels)


def test_missing_folds_of_the_configurations_are_named(configurations: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(configurations, root)
    shutil.rmtree(root / FIRST / "model")
    with pytest.raises(UsageError, match="--configuration 3d_lowres"):
        train_run(root, folds=("0",), configuration=SECOND, device="cpu")
    train_run(root, folds=("0",), configuration=FIRST, device="cpu")
    with pytest.raises(ModelError, match="--fold 1"):
        train_run(root, folds=("0",), configuration=SECOND, device="cpu")


def test_a_resumed_cascade_ends_with_the_same_weights(configurations: Path, trained: Path, tmp_path: Path) -> None:
    class StopAfterTwoSteps(Silent):
        training = False

        def start(self, what: str, total: int | None) -> None:
            self.training = what == "training"

        def advance(self, steps: int = 1, note: str = "") -> None:
            if self.training and note.startswith("step 2/"):
                cancellation.request()

    cancellation = Cancellation()
    root = tmp_path / "run"
    shutil.copytree(configurations, root)
    with pytest.raises(Interrupted, match="after step 2"):
        train_run(
            root,
            folds=("0",),
            configuration=SECOND,
            device="cpu",
            progress=StopAfterTwoSteps(),
            cancellation=cancellation,
        )
    resumed = train_run(root, folds=("0",), configuration=SECOND, device="cpu")
    whole = read_package(trained / SECOND / "model")
    torch.testing.assert_close(dict(resumed.package.weights["0"]), dict(whole.weights["0"]), rtol=0, atol=0)


def test_the_fold_of_all_cases_takes_the_first_stage_of_all_cases(configurations: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(configurations, root)
    with pytest.raises(ModelError, match="--fold all"):
        train_run(root, folds=("all",), configuration=SECOND, device="cpu")
    train_run(root, folds=("all",), configuration=FIRST, device="cpu")
    trained = train_run(root, folds=("all",), configuration=SECOND, device="cpu")
    assert set(trained.package.weights) == {"all"}
    files = (root / FIRST / "predicted_next_stage" / SECOND / "all").glob("*.b2nd")
    assert len(list(files)) == 6


def test_the_command_predicts_with_given_label_maps(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    image, case_id = str(dataset.testing[0].images[0]), dataset.testing[0].case_id
    models = [str(trained / name / "model") for name in (FIRST, SECOND)]
    options, given = ["-i", image, "--device", "cpu", "--no-postprocessing"], ["--previous", str(tmp_path / "first")]
    assert main(["predict", models[0], *options, "-o", str(tmp_path / "first")]) == 0
    assert main(["predict", models[1], *options, "-o", str(tmp_path / "alone")]) == 0
    assert main(["predict", models[1], *options, "-o", str(tmp_path / "two"), *given]) == 0
    alone, two = (read_labels(tmp_path / name / f"{case_id}.nii.gz").array for name in ("alone", "two"))
    np.testing.assert_array_equal(alone, two)
    assert main(["predict", models[0], *options, "-o", str(tmp_path / "x"), *given]) == 2


def test_a_cascade_is_scored_on_its_validation_cases(trained: Path) -> None:
    conclusion = report_run(trained, configuration=SECOND, device="cpu", mirroring=False)
    assert conclusion.validation.n_cases == 3
    assert (trained / SECOND / "report.html").is_file()
