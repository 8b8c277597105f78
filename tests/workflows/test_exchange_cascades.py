"""Cascades of nnU-Net: two folders side by side become one package that predicts alone, and the other way round."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import delineate
from delineate.case import LabelScheme
from delineate.cli.main import main
from delineate.errors import UnsafeModelError, UsageError
from delineate.formats.images import read_labels, write_image, write_labels
from delineate.formats.model_package import ModelPackage, read_package
from delineate.formats.nnunet.plans_json import read_plan
from delineate.workflows.exchange_models import export_for_nnunet, export_model, import_model, read_model
from delineate.workflows.model import as_image
from formats.nnunet.trained_models import REGIONS, cascade_plan, make_trained_model

FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"
IMAGE = np.random.default_rng(0).normal(size=(18, 20, 17)).astype(np.float32)
SPACING_MM = (1.0, 1.0, 1.0)


def make_stages(results: Path, *, first: tuple[str, ...] = ("0", "1"), second: tuple[str, ...] = ("0", "1")) -> Path:
    """Write both stages; return the folder of the second."""
    make_trained_model(results, of=cascade_plan(), name=FIRST, folds=first)
    return make_trained_model(results, of=cascade_plan(), name=SECOND, folds=second)


def first_of(second: Path) -> Path:
    return second.with_name(second.name.replace(SECOND, FIRST))


def loaded(path: Path, **options: object) -> delineate.Model:
    return delineate.load_model(path, device="cpu", precision="float32", mirroring=False, **options)  # type: ignore[arg-type]


def labels_of(model: delineate.Model) -> np.ndarray:
    return model.predict(IMAGE, spacing_mm=SPACING_MM).labels.array


def same_weights(one: ModelPackage, other: ModelPackage) -> bool:
    pairs = [(one.weights, other.weights)]
    if one.previous is not None and other.previous is not None:
        pairs.append((one.previous.weights, other.previous.weights))
    return all(
        left.keys() == right.keys() and all(torch.equal(left[f][k], right[f][k]) for f in left for k in left[f])
        for left, right in pairs
    )


class TestReading:
    def test_the_stage_beside_it_is_read_and_predicted(self, tmp_path) -> None:
        folder = make_stages(tmp_path)
        alone = loaded(folder)
        first = loaded(first_of(folder)).predict(IMAGE, spacing_mm=SPACING_MM).labels
        assert alone.package.previous is not None
        assert alone.package.previous.configuration.name == FIRST
        assert len(np.unique(first.array)) > 1
        given = alone.predict(IMAGE, spacing_mm=SPACING_MM, previous=first).labels.array
        np.testing.assert_array_equal(labels_of(alone), given)
        other = alone.predict(IMAGE, spacing_mm=SPACING_MM, previous=replace(first, array=1 - (first.array > 0)))
        assert (other.labels.array != given).any()

    def test_settings_reach_the_first_stage(self, tmp_path) -> None:
        model = delineate.load_model(make_stages(tmp_path), device="cpu").with_step(0.8).rounded_as_nnunet()
        stage = model.without_mirroring().previous
        assert isinstance(stage, delineate.Model)
        assert (stage.tiling.step, stage.tiling.mirror_axes, stage.rounding) == (0.8, (), "nnunet")

    def test_air_is_left_out_of_both_stages(self, tmp_path) -> None:
        model = delineate.load_model(make_stages(tmp_path), device="cpu").without_air(-950.0)
        assert isinstance(model.previous, delineate.Model)
        assert (model.air_below_hu, model.previous.air_below_hu) == (-950.0, -950.0)

    @pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
    @pytest.mark.filterwarnings("ignore")
    def test_openvino_runs_both_stages(self, tmp_path) -> None:
        model = loaded(make_stages(tmp_path))
        elsewhere = model.on_openvino()
        assert isinstance(elsewhere.previous, delineate.Model)
        assert type(elsewhere.previous.ensemble.backend).__name__ == "OpenVinoBackend"
        np.testing.assert_array_equal(labels_of(elsewhere), labels_of(model))

    def test_folds_are_the_same_in_both_stages(self, tmp_path) -> None:
        folder = make_stages(tmp_path, first=("0", "1", "2"))
        for folds, expected in ((None, ["0", "1"]), (["1"], ["1"])):
            package = read_model(folder, folds=folds)
            assert package.previous is not None
            assert list(package.previous.weights) == list(package.weights) == expected

    def test_the_identity_tells_of_both_stages(self, tmp_path) -> None:
        folder = make_stages(tmp_path)
        both = read_model(folder).identity
        shutil.rmtree(first_of(folder))
        assert both.startswith(read_model(folder).identity + " after Dataset007_Toy")

    def test_zips_and_results_folders(self, tmp_path) -> None:
        folder = make_stages(tmp_path / "results")
        export_model(folder, tmp_path / "model.zip", "nnunet-zip")
        expected = labels_of(loaded(folder))
        for path in (tmp_path / "results", tmp_path / "model.zip"):
            np.testing.assert_array_equal(labels_of(loaded(path, configuration=SECOND)), expected, err_msg=str(path))

    def test_it_is_found_from_a_relative_path(self, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(make_stages(tmp_path))
        assert read_model(Path()).previous is not None

    def test_without_it_label_maps_are_asked_for(self, tmp_path) -> None:
        folder = make_stages(tmp_path)
        expected = labels_of(loaded(folder))
        first = loaded(first_of(folder)).predict(IMAGE, spacing_mm=SPACING_MM).labels
        shutil.rmtree(first_of(folder))
        model = loaded(folder)
        assert model.package.previous is None
        with pytest.raises(UsageError, match=r"without its stage before, 3d_lowres.*--previous FOLDER.*lies beside"):
            labels_of(model)
        given = model.predict(IMAGE, spacing_mm=SPACING_MM, previous=first).labels.array
        np.testing.assert_array_equal(given, expected)

    def test_a_stage_that_lacks_folds_is_left_and_told(self, tmp_path, caplog) -> None:
        folder = make_stages(tmp_path, first=("0",))
        assert read_model(folder).previous is None
        assert "needs the label maps" in caplog.text
        assert "no fold '1'" in caplog.text

    def test_a_stage_of_other_labels_is_left_and_told(self, tmp_path, caplog) -> None:
        folder = make_trained_model(tmp_path, of=cascade_plan(), name=SECOND)
        make_trained_model(tmp_path, of=cascade_plan(), name=FIRST, scheme=LabelScheme.simple("organ", "cyst"))
        assert read_model(folder).previous is None
        assert "labels differ" in caplog.text

    def test_nothing_of_a_malicious_first_stage_is_run(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path, of=cascade_plan(), name=SECOND)
        make_trained_model(tmp_path, of=cascade_plan(), name=FIRST, _best_ema=Payload(tmp_path / "owned"))
        with pytest.raises(UnsafeModelError, match="system"):
            read_model(folder)
        assert not (tmp_path / "owned").exists()


class Payload:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


class TestPackages:
    def test_import_keeps_both_stages(self, tmp_path, capsys) -> None:
        folder = make_stages(tmp_path / "results")
        assert main(["import", str(folder), "-o", str(tmp_path / "package")]) == 0
        assert "first stage  3d_lowres: predicts alone" in capsys.readouterr().out
        np.testing.assert_array_equal(labels_of(loaded(tmp_path / "package")), labels_of(loaded(folder)))
        assert same_weights(read_package(tmp_path / "package"), read_model(folder))

    def test_import_says_that_the_first_stage_is_missing(self, tmp_path, capsys) -> None:
        folder = make_trained_model(tmp_path / "results", of=cascade_plan(), name=SECOND)
        assert main(["import", str(folder), "-o", str(tmp_path / "package")]) == 0
        assert "first stage  3d_lowres: not found; predict with --previous" in capsys.readouterr().out

    @pytest.mark.parametrize("scheme", [None, REGIONS])
    def test_export_writes_both_stages(self, tmp_path, scheme) -> None:
        options = {} if scheme is None else {"scheme": scheme}
        for name in (FIRST, SECOND):
            folder = make_trained_model(tmp_path / "theirs", of=cascade_plan(), name=name, **options)
        import_model(folder, tmp_path / "package")
        written = export_model(tmp_path / "package", tmp_path / "results", "nnunet", dataset_id=12)
        names = [f"nnUNetTrainer__nnUNetPlans__{name}" for name in (SECOND, FIRST)]
        assert written == tmp_path / "results" / "Dataset012_Toy" / names[0]
        assert sorted(path.name for path in written.parent.iterdir()) == names
        plans = [read_plan(written.parent / name / "plans.json") for name in names]
        assert plans[0] == plans[1]
        assert same_weights(read_model(written), read_model(folder))
        np.testing.assert_array_equal(labels_of(loaded(written)), labels_of(loaded(folder)))

    def test_a_stage_that_a_budget_made_smaller_is_in_both_plans(self, tmp_path) -> None:
        package = read_model(make_stages(tmp_path / "theirs"))
        assert package.previous is not None
        small = replace(package.previous.configuration, name=f"{FIRST}_budget", inherits_from=FIRST, batch_size=3)
        recipe = replace(package.previous.recipe, batch_size=3)
        before = replace(package.previous, configuration=small, recipe=recipe)
        written = export_for_nnunet(replace(package, previous=before), tmp_path / "results")
        for folder in (written, first_of(written)):
            assert read_plan(folder / "plans.json").configuration(FIRST).batch_size == 3
        assert read_model(written).previous is not None

    def test_both_stages_have_one_trainer(self, tmp_path) -> None:
        package = read_model(make_stages(tmp_path / "theirs"))
        assert package.previous is not None
        one = replace(package, mirror_axes=())
        written = export_for_nnunet(one, tmp_path / "results")
        found = read_model(written)
        assert found.previous is not None
        assert (found.mirror_axes, found.previous.mirror_axes) == ((), (0, 1, 2))
        none = replace(one, previous=replace(package.previous, mirror_axes=()))
        assert export_for_nnunet(none, tmp_path / "results").name.startswith("nnUNetTrainerNoMirroring__")

    def test_nothing_is_written_if_one_of_them_is_there(self, tmp_path) -> None:
        package = read_model(make_stages(tmp_path / "theirs"))
        written = export_for_nnunet(package, tmp_path / "results")
        shutil.rmtree(first_of(written))
        with pytest.raises(UsageError, match=f"{SECOND} exists already"):
            export_for_nnunet(package, tmp_path / "results")
        assert not first_of(written).exists()


class TestNnunetCommand:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        write_image(tmp_path / "images" / "a_0000.nii.gz", as_image(IMAGE, SPACING_MM, channels=1))
        return make_stages(tmp_path / "results")

    def predict(self, folder: Path, out: Path, *words: str) -> int:
        images = str(folder.parents[2] / "images")
        options = ["-i", images, "-o", str(out), "-m", str(folder), "-f", "0", "1", "-device", "cpu", "--disable_tta"]
        return main(["nnunet", "predict_from_modelfolder", *options, *words])

    def test_a_cascade_takes_the_label_maps_of_its_first_stage(self, folder, tmp_path) -> None:
        assert self.predict(first_of(folder), tmp_path / "first") == 0
        given = ["-prev_stage_predictions", str(tmp_path / "first")]
        assert self.predict(folder, tmp_path / "given", *given) == 0
        assert self.predict(folder, tmp_path / "alone") == 0
        first, two, alone = (read_labels(tmp_path / n / "a.nii.gz").array for n in ("first", "given", "alone"))
        np.testing.assert_array_equal(two, alone)
        arguments = json.loads((tmp_path / "given" / "predict_from_raw_data_args.json").read_text())
        assert arguments["folder_with_segs_from_prev_stage"] == str(tmp_path / "first")
        changed = replace(read_labels(tmp_path / "first" / "a.nii.gz"), array=(first == 0).astype(np.uint8))
        write_labels(tmp_path / "first" / "a.nii.gz", changed)
        assert self.predict(folder, tmp_path / "other", *given) == 0
        assert (read_labels(tmp_path / "other" / "a.nii.gz").array != two).any()

    def test_what_is_missing_is_told(self, folder, tmp_path, capsys) -> None:
        (tmp_path / "empty").mkdir()
        words = ["-prev_stage_predictions", str(tmp_path / "empty")]
        assert self.predict(folder, tmp_path / "out", *words) != 0
        assert "expected the previous stage's label map a.nii.gz" in capsys.readouterr().err
        assert self.predict(first_of(folder), tmp_path / "out", *words) == 2
        assert "takes no label maps" in capsys.readouterr().err
        shutil.rmtree(first_of(folder))
        assert self.predict(folder, tmp_path / "out") == 2
        told = capsys.readouterr().err
        assert "-prev_stage_predictions" in told
        assert "beside it" in told
