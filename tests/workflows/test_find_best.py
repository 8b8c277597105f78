"""Comparison of configurations and pairs on merged cross-validation, and ensembles of what was trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import delineate
from delineate.cli.main import main
from delineate.errors import UsageError
from delineate.formats.datasets import Dataset
from delineate.formats.images import read_labels
from delineate.formats.model_package import read_package
from delineate.formats.nnunet.postprocessing_json import read_postprocessing
from delineate.formats.nnunet.summary_json import read_scores
from delineate.masks import PostprocessingStep, postprocess
from delineate.metrics import PostprocessingChoice
from delineate.metrics.postprocessing_choice import foreground_dice
from delineate.workflows import find_best as room
from delineate.workflows.ensemble_predictions import ensemble_folders, segment_files_with_ensemble
from delineate.workflows.find_best import BestConfiguration, find_best
from delineate.workflows.resume_run import train_run
from delineate.workflows.segment_folder import segment_files

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")


@pytest.fixture(scope="module")
def root(configurations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("best") / "run"
    shutil.copytree(configurations, root)
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> BestConfiguration:
    return find_best([root], root, device="cpu")


@pytest.fixture(scope="module")
def models(root: Path) -> list[delineate.Model]:
    return [delineate.load_model(root / name / "model", device="cpu", precision="float32") for name in CONFIGURATIONS]


def test_all_single_configurations_and_all_pairs_are_compared(found: BestConfiguration, dataset: Dataset) -> None:
    names = [contender.name for contender in found.contenders]
    assert len(names) == len(set(names)) == 6
    assert names[:3] == [f"delineate__nnUNetPlans__{name}" for name in CONFIGURATIONS]
    assert found.best.dice == max(contender.dice for contender in found.contenders)
    for contender in found.contenders:
        scores = read_scores(contender.folder / "summary.json")
        assert {case.case_id for case in scores} == {case.case_id for case in dataset.training}
        assert foreground_dice(scores) == pytest.approx(contender.dice, nan_ok=True)


def test_the_record_has_nnunets_form_and_the_instructions_run(
    found: BestConfiguration, root: Path, dataset: Dataset, tmp_path: Path
) -> None:
    record = json.loads((root / "inference_information.json").read_text())
    assert set(record) == {
        "folds",
        "dataset_name_or_id",
        "considered_models",
        "ensembling_allowed",
        "all_results",
        "best_model_or_ensemble",
    }
    assert record["best_model_or_ensemble"]["result_on_crossval_pre_pp"] == pytest.approx(found.best.dice)
    assert Path(record["best_model_or_ensemble"]["postprocessing_file"]).is_file()
    lines = (root / "inference_instructions.txt").read_text().splitlines()
    command = lines[lines.index("***Run inference like this:***") + 1].split()
    image = dataset.testing[0].images[0]
    words = [{"INPUT_FOLDER": str(image), "OUTPUT_FOLDER": str(tmp_path)}.get(word, word) for word in command[1:]]
    assert main([*words, "--device", "cpu"]) == 0
    assert len(list(tmp_path.glob("*.nii.gz"))) == 1


def test_comparing_again_predicts_nothing_again(
    found: BestConfiguration, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "predict_logits", None)
    monkeypatch.setattr("delineate.workflows.score_cases.stream_logits", None)
    again = find_best([root], root, device="cpu")
    assert [c.dice for c in again.contenders] == [c.dice for c in found.contenders]


def test_post_processing_of_a_single_winner_is_kept_in_its_package(
    root: Path, found: BestConfiguration, dataset: Dataset, tmp_path: Path
) -> None:
    copied = tmp_path / "run"
    shutil.copytree(root, copied)
    single = room._members([copied], "cpu")[0]
    steps = (PostprocessingStep(values=(1, 2)),)
    choice = PostprocessingChoice(steps=steps, before=found.choice.before, after=found.choice.after, reasons=())
    room._keep_postprocessing(single, choice)
    package = read_package(single.run.folder.model)
    assert package.postprocessing == steps
    assert package.network_identity == single.model.package.network_identity
    assert package.identity != single.model.package.identity
    # the same folds trained again change nothing
    name = single.model.package.configuration.name
    assert train_run(copied, folds=("0", "1"), configuration=name, device="cpu").package.postprocessing == steps
    model = delineate.load_model(single.run.folder.model, device="cpu")
    image = dataset.load(dataset.testing[0]).image
    plain = model.without_postprocessing().predict(image).labels.array
    np.testing.assert_array_equal(model.predict(image).labels.array, postprocess(plain, steps))


def test_different_validation_cases_cannot_be_compared(root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(root, copied)
    shutil.rmtree(copied / "2d" / "model")
    train_run(copied, folds=("0",), configuration="2d", device="cpu")
    with pytest.raises(UsageError, match="Train the missing folds"):
        find_best([copied], copied, device="cpu")
    with pytest.raises(UsageError, match="several times"):
        find_best([root, root], tmp_path, device="cpu")
    with pytest.raises(UsageError, match="found none"):
        find_best([tmp_path / "nothing"], tmp_path, device="cpu")


def test_models_and_their_stored_probabilities_give_the_same_ensemble(
    models: list[delineate.Model], dataset: Dataset, tmp_path: Path
) -> None:
    cases = dataset.testing
    folders = [tmp_path / name for name in CONFIGURATIONS]
    for model, folder in zip(models, folders, strict=True):
        segment_files(model, cases, folder, probabilities=True)
    from_folders = ensemble_folders(folders, tmp_path / "folders", probabilities=True)
    from_models = segment_files_with_ensemble(models, cases, tmp_path / "models")
    for stored, direct in zip(from_folders, from_models, strict=True):
        # stored probabilities are float16
        assert np.mean(read_labels(stored).array == read_labels(direct).array) > 0.999
    case_id = cases[0].case_id
    means = np.mean([np.load(f / f"{case_id}.npz")["probabilities"].astype(np.float32) for f in folders], axis=0)
    np.testing.assert_allclose(np.load(tmp_path / "folders" / f"{case_id}.npz")["probabilities"], means, atol=1e-3)
    np.testing.assert_array_equal(means.argmax(0), read_labels(from_folders[0]).array)


def test_the_commands(root: Path, models: list[delineate.Model], dataset: Dataset, tmp_path: Path) -> None:
    steps = tmp_path / "postprocessing.json"
    shutil.copy(next(root.glob("**/postprocessing.json")), steps)
    record = json.loads(steps.read_text())
    record["postprocessing_fns"] = ["remove_all_but_largest_component_from_segmentation"]
    record["postprocessing_kwargs"] = [{"labels_or_regions": [1, 2]}]
    steps.write_text(json.dumps(record))
    paths = [str(root / name / "model") for name in ("2d", "3d_fullres")]
    image = str(dataset.testing[0].images[0])
    out = tmp_path / "out"
    words = ["ensemble", *paths, "-i", image, "-o", str(out), "--device", "cpu", "--postprocessing", str(steps)]
    assert main(words) == 0
    (written,) = out.glob("*.nii.gz")
    labels = read_labels(written).array
    np.testing.assert_array_equal(labels, postprocess(labels, read_postprocessing(steps)))
    assert main(["ensemble", str(tmp_path), "-o", str(out)]) == 3
    assert main(["find-best", str(root), "--device", "cpu", "--no-ensembles", "-o", str(tmp_path / "best")]) == 0
    assert (tmp_path / "best" / "inference_information.json").is_file()
