from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import delineate
from delineate.errors import DatasetError, ImageReadError, ModelError, SomeCasesFailed, UsageError
from delineate.formats.datasets import CaseFiles, Dataset
from delineate.workflows.evaluate_model import EvaluationRequest, evaluate_model
from delineate.workflows.run_dataset import RunOutcome
from delineate.workflows.segment_folder import find_images, segment_files


@pytest.fixture(scope="module")
def model(finished: RunOutcome) -> delineate.Model:
    return delineate.load_model(finished.folder.model, device="cpu", mirroring=False)


def test_file_image_and_array_give_the_same_mask(model: delineate.Model, dataset: Dataset) -> None:
    case = dataset.testing[0]
    image = dataset.load(case).image
    from_file = model.predict(case.images[0]).labels
    from_image = model.predict(image).labels
    from_array = model.predict(image.array, spacing_mm=image.grid.spacing_mm).labels
    np.testing.assert_array_equal(from_file.array, from_image.array)
    np.testing.assert_array_equal(from_file.array, from_array.array)
    assert from_file.grid.matches(image.grid)


def test_a_bare_volume_needs_no_channel_axis(model: delineate.Model, dataset: Dataset) -> None:
    image = dataset.load(dataset.testing[0]).image
    result = model.predict(image.array[0], spacing_mm=image.grid.spacing_mm)
    assert result.labels.array.shape == image.grid.shape


def test_probabilities_sum_to_one_and_agree_with_the_mask(model: delineate.Model, dataset: Dataset) -> None:
    result = model.predict(dataset.load(dataset.testing[0]).image, probabilities=True)
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1.0, atol=1e-3)
    np.testing.assert_array_equal(result.probabilities.argmax(axis=0), result.labels.array)


def test_arrays_without_a_fitting_spacing_are_refused(model: delineate.Model) -> None:
    with pytest.raises(UsageError, match="spacing_mm"):
        model.predict(np.zeros((8, 8, 8), np.float32))
    with pytest.raises(UsageError, match="channel"):
        model.predict(np.zeros((2, 8, 8, 8), np.float32), spacing_mm=(1.0, 1.0, 1.0))


def test_an_image_of_one_voxel_gives_a_mask_of_one_voxel(model: delineate.Model) -> None:
    result = model.predict(np.full((1, 1, 1), 40.0, np.float32), spacing_mm=(6.0, 6.0, 6.0))
    assert result.labels.array.shape == (1, 1, 1)


def test_provenance_names_model_and_settings(model: delineate.Model, dataset: Dataset) -> None:
    result = model.predict(dataset.load(dataset.testing[0]).image, case_id="one")
    assert result.case_id == "one"
    assert result.provenance.settings["mirror_axes"] == []
    assert "delineate" in result.provenance.software


def test_a_missing_fold_and_a_missing_model_are_told(finished: RunOutcome, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="7"):
        delineate.load_model(finished.folder.model, folds=["7"])
    with pytest.raises(ModelError):
        delineate.load_model(tmp_path / "nothing")


def test_a_bad_file_among_good_ones_fails_alone(model: delineate.Model, dataset: Dataset, tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"not an image")
    cases = (CaseFiles(case_id="bad", patient_id="bad", images=(bad,)), dataset.testing[0])
    with pytest.raises(SomeCasesFailed) as caught:
        segment_files(model, cases, tmp_path / "out")
    assert "bad" in caught.value.diagnostics()
    assert (tmp_path / "out" / f"{dataset.testing[0].case_id}.nii.gz").is_file()
    assert not (tmp_path / "out" / "bad.nii.gz").exists()


def test_channels_are_found_by_their_numbers(tmp_path: Path) -> None:
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    found = find_images(tmp_path, 2)
    assert [(f.case_id, len(f.images)) for f in found] == [("a", 2), ("b", 2)]


def test_numbers_in_the_names_of_images_with_one_channel_are_names(tmp_path: Path) -> None:
    for name in ("scan_2023.nii.gz", "scan_2024.nii.gz", "a_0000.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    assert [found.case_id for found in find_images(tmp_path, 1)] == ["a", "scan_2023", "scan_2024"]
    (tmp_path / "a_0001.nii.gz").write_bytes(b"x")  # a second channel of a
    assert [len(found.images) for found in find_images(tmp_path, 1)] == [2, 1, 1]


def test_evaluation_of_a_folder_writes_summary_and_report(finished: RunOutcome, phantoms: Path, tmp_path: Path) -> None:
    request = EvaluationRequest(predictions=finished.folder.test_predictions, references=phantoms)
    evaluation = evaluate_model(request, tmp_path / "evaluation")
    assert finished.test is not None
    dice = [row.metrics["dice"].mean for row in evaluation.table]
    assert sum(dice) / len(dice) == pytest.approx(finished.test.foreground_dice)
    assert (tmp_path / "evaluation" / "summary.json").is_file()


def test_evaluation_without_predictions_says_what_was_expected(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="named like"):
        evaluate_model(EvaluationRequest(predictions=tmp_path, references=phantoms), tmp_path / "evaluation")


def test_a_truncated_image_names_its_file(model: delineate.Model, dataset: Dataset, tmp_path: Path) -> None:
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(dataset.testing[0].images[0].read_bytes()[:500])
    with pytest.raises(ImageReadError, match=r"cut\.nii\.gz"):
        model.predict(cut)
