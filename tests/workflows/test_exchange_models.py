"""nnU-Net's models in and out: every kind that is read, every fault that is told, every file that is written."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import delineate
from delineate.errors import ModelError, UnsafeModelError, UsageError
from delineate.formats.model_package import read_package
from delineate.formats.nnunet.model_zip import write_model_zip
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.torch_checkpoint import read_checkpoint
from delineate.networks import from_nnunet
from delineate.workflows.exchange_models import (
    ExportSettings,
    TrainingRecord,
    export_for_nnunet,
    export_model,
    import_model,
    numbered_name,
    plan_as_trained,
    read_model,
)
from formats.nnunet.trained_models import (
    LABELS,
    REGIONS,
    architecture,
    cascade_plan,
    checkpoint,
    configuration,
    make_trained_model,
    old_form,
    plan,
)

IMAGE = np.random.default_rng(0).normal(size=(18, 20, 17)).astype(np.float32)


def edit(file: Path, *path_and_value: object) -> None:
    """Set one value of a JSON file."""
    *path, value = path_and_value
    content = json.loads(file.read_text())
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file.write_text(json.dumps(content))


def labels_of(model: delineate.Model) -> np.ndarray:
    return model.predict(IMAGE, spacing_mm=(1.0, 1.0, 1.0)).labels.array


def loaded(path: Path, **options: object) -> delineate.Model:
    return delineate.load_model(path, device="cpu", precision="float32", **options)  # type: ignore[arg-type]


class TestReading:
    def test_a_trained_model_becomes_a_complete_package(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path, folds=("0", "1", "3"))
        package = read_model(folder)
        assert list(package.weights) == ["0", "1", "3"]
        assert package.mirror_axes == package.recipe.mirror_axes == (0, 1, 2)
        assert package.scheme == LABELS
        assert package.channel_names == ("MRI",)
        assert package.recipe.iterations == 250_000
        assert package.recipe.patch_size == (16, 16, 16)
        assert package.facts["trainer"] == "nnUNetTrainer_MyOwn"
        assert package.facts["pseudo_dice"] == {"0": 0.5, "1": 0.5, "3": 0.5}
        assert package.configuration == plan().configurations[0]

    def test_it_predicts_from_folder_results_zip_and_package_alike(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path / "results", folds=("0", "1"))
        write_model_zip(tmp_path / "model.zip", [folder])
        import_model(folder, tmp_path / "package")
        import_model(folder, tmp_path / "package.zip")
        expected = labels_of(loaded(folder))
        assert len(np.unique(expected)) > 1
        for path in (
            folder.parent,
            tmp_path / "results",
            *(tmp_path / n for n in ("model.zip", "package", "package.zip")),
        ):
            np.testing.assert_array_equal(labels_of(loaded(path)), expected, err_msg=str(path))

    def test_the_identity_changes_with_the_files(self, tmp_path) -> None:
        one, other = (make_trained_model(tmp_path / name, folds=folds) for name, folds in (("a", "0"), ("b", "01")))
        assert read_model(one).identity == read_model(one).identity != read_model(other).identity

    @pytest.mark.parametrize("kind", ["plain_unet", "residual_unet"])
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("scheme", [LABELS, REGIONS])
    def test_networks_dimensions_and_regions(self, tmp_path, kind, dims, scheme) -> None:
        name = "2d" if dims == 2 else "3d_fullres"
        of = plan(configuration(name, dims=dims, architecture=architecture(kind, dims)))
        axes = tuple(range(dims))
        folder = make_trained_model(tmp_path, of=of, name=name, scheme=scheme, inference_allowed_mirroring_axes=axes)
        model = loaded(folder, mirroring=False)
        assert model.package.mirror_axes == axes
        assert set(np.unique(labels_of(model))) <= {0, 1, 2}

    def test_a_cascade_has_a_channel_per_label_of_the_stage_before(self, tmp_path) -> None:
        package = read_model(make_trained_model(tmp_path, of=cascade_plan(), name="3d_cascade_fullres"))
        assert package.input_channels == 3
        assert package.configuration.previous_stage == "3d_lowres"

    def test_old_plans(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path)
        expected = labels_of(loaded(folder))
        plans = old_form(json.loads((folder / "plans.json").read_text()))
        plans["foreground_intensity_properties_by_modality"] = plans.pop("foreground_intensity_properties_per_channel")
        (folder / "plans.json").write_text(json.dumps(plans))
        np.testing.assert_array_equal(labels_of(loaded(folder)), expected)

    def test_no_mirror_axes_mean_no_mirroring(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path, inference_allowed_mirroring_axes=None)
        assert read_model(folder).mirror_axes == ()

    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
    def test_names_of_compiled_and_distributed_networks(self, tmp_path, prefix) -> None:
        folder = make_trained_model(tmp_path)
        file = folder / "fold_0" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        expected = from_nnunet(content["network_weights"])
        content["network_weights"] = {prefix + key: value for key, value in content["network_weights"].items()}
        torch.save(content, file)
        found = read_model(folder).weights["0"]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)

    def test_checkpoint_and_folds_are_chosen(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path, folds=("0", "all"))
        (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
        assert list(read_model(folder, checkpoint="checkpoint_best.pth").weights) == ["0"]
        assert list(read_model(folder, folds=["all"]).weights) == ["all"]
        with pytest.raises(ModelError, match=r"fold_0 has no checkpoint_final\.pth \(there is checkpoint_best\.pth;"):
            read_model(folder)
        with pytest.raises(UsageError, match=r"checkpoint_final\.pth; got '\.\./x\.pth'"):
            read_model(folder, checkpoint="../x.pth")

    def test_the_only_fold_may_be_all(self, tmp_path) -> None:
        assert list(read_model(make_trained_model(tmp_path, folds=("all",))).weights) == ["all"]

    def test_several_configurations_are_listed(self, tmp_path) -> None:
        for name in ("3d_lowres", "3d_fullres", "3d_cascade_fullres"):
            folder = make_trained_model(tmp_path, of=cascade_plan(), name=name)
        with pytest.raises(ModelError, match=r"nnUNetTrainer_MyOwn__nnUNetPlans__3d_lowres.*Choose one"):
            read_model(folder.parent)
        for path in (tmp_path, folder.parent):
            assert read_model(path, configuration="3d_lowres").configuration.name == "3d_lowres"
            assert read_model(path, configuration=folder.name).configuration.name == "3d_cascade_fullres"
        with pytest.raises(ModelError, match="'2d' fits 0 of them"):
            read_model(folder.parent, configuration="2d")

    def test_a_renamed_folder_is_read(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path / "results")
        folder.rename(tmp_path / "mine")
        assert read_model(tmp_path / "mine", configuration="3d_fullres").configuration.name == "3d_fullres"

    def test_another_configuration_that_is_not_understood_does_not_matter(self, tmp_path, caplog) -> None:
        folder = make_trained_model(tmp_path, of=cascade_plan())
        edit(folder / "plans.json", "configurations", "3d_lowres", "resampling_fn_data", "my_own")
        assert read_model(folder).configuration.name == "3d_fullres"
        assert "my_own" in caplog.text

    def test_a_reader_that_nnunet_does_not_have_is_told(self, tmp_path, caplog) -> None:
        folder = make_trained_model(tmp_path)
        read_model(folder)
        assert "image reader" not in caplog.text
        edit(folder / "plans.json", "image_reader_writer", "MyReader")
        read_model(folder)
        assert "image reader MyReader" in caplog.text

    def test_plans_changed_after_training_count_and_are_told(self, tmp_path, caplog) -> None:
        folder = make_trained_model(tmp_path)
        edit(folder / "plans.json", "configurations", "3d_fullres", "patch_size", [16, 16, 32])
        assert read_model(folder).configuration.patch_size == (16, 16, 32)
        assert "changed after training" in caplog.text

    def test_packages_are_of_one_configuration(self, tmp_path) -> None:
        import_model(make_trained_model(tmp_path), tmp_path / "package")
        assert read_model(tmp_path / "package", configuration="3d_fullres").name == "Dataset007_Toy"
        with pytest.raises(ModelError, match="asked for was '2d'"):
            read_model(tmp_path / "package", configuration="2d")

    def test_what_is_no_model_at_all(self, tmp_path) -> None:
        with pytest.raises(ModelError, match="There is no model"):
            read_model(tmp_path / "nowhere")
        with pytest.raises(ModelError, match="no trained model in"):
            read_model(tmp_path)


class TestFaults:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        return make_trained_model(tmp_path, folds=("0", "1", "2"))

    def test_all_of_them_are_told_at_once(self, folder) -> None:
        (folder / "dataset.json").unlink()
        (folder / "fold_0" / "checkpoint_final.pth").unlink()
        (folder / "fold_1" / "checkpoint_final.pth").write_bytes(b"PK and nothing more")
        edit(folder / "plans.json", "configurations", "3d_fullres", "patch_size", "large")
        with pytest.raises(ModelError) as caught:
            read_model(folder)
        for told in ("dataset.json does not exist", "fold_0 has no", "truncated", "patch_size': expected a list"):
            assert told in str(caught.value)

    def test_folds_of_different_configurations(self, folder) -> None:
        file = folder / "fold_1" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        content["init_args"]["configuration"] = "2d"
        torch.save(content, file)
        with pytest.raises(ModelError, match=r"different configurations.*fold 1: 2d"):
            read_model(folder)

    def test_folds_of_different_plans(self, folder) -> None:
        file = folder / "fold_2" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=False)
        content["init_args"]["plans"]["configurations"]["3d_fullres"]["spacing"] = [3.0, 1.0, 1.0]
        torch.save(content, file)
        with pytest.raises(ModelError, match=r"different plans.*fold 2: spacing \(3\.0"):
            read_model(folder)

    def test_weights_of_other_networks_in_two_folds(self, folder) -> None:
        content = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        content["network_weights"]["decoder.seg_layers.0.weight"] = torch.zeros(9, 4, 1, 1, 1)
        torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
        del content["network_weights"]["decoder.seg_layers.0.weight"]
        torch.save(content, folder / "fold_2" / "checkpoint_final.pth")
        with pytest.raises(ModelError, match=r"fold 0: The weights do not.*\(9, 4, 1.*; fold 2: .*is missing"):
            read_model(folder)

    def test_labels_edited_by_hand(self, folder) -> None:
        edit(folder / "dataset.json", "labels", "lung", 3)
        with pytest.raises(ModelError, match="fold 0: The weights do not belong"):
            read_model(folder)
        edit(folder / "dataset.json", "labels", "lung", 7)
        with pytest.raises(ModelError, match="consecutive"):
            read_model(folder)

    @pytest.mark.parametrize(
        ("path", "value", "told"),
        [
            (("patch_size",), [15, 16, 16], "multiple of the network's downsampling"),
            (("patch_size",), [10**7, 10**7, 10**7], "10000000x10000000x10000000 voxels cannot be meant"),
            (("architecture", "arch_kwargs", "features_per_stage"), [10**9, 10**9], "`features` must lie between"),
            (("spacing",), [1.0, -1.0, 1.0], "expected a number above 0"),
            (("normalization_schemes",), ["Mine"], "normalisation 'Mine' is not known"),
            (("architecture", "arch_kwargs", "kernel_sizes"), [[2, 3, 3], [3, 3, 3]], "must be odd"),
            (("architecture", "arch_kwargs", "features_per_stage"), [4, 16], "instead of"),
            (("architecture", "network_class_name"), "a.Mine", "network class 'a.Mine' is not known"),
            (("previous_stage",), "3d_lowres", "instead of"),
        ],
    )
    def test_plans_edited_into_nonsense(self, folder, path, value, told) -> None:
        edit(folder / "plans.json", "configurations", "3d_fullres", *path, value)
        with pytest.raises(ModelError, match=told):
            read_model(folder)

    def test_channels_that_do_not_fit(self, folder) -> None:
        edit(folder / "dataset.json", "channel_names", {"0": "CT", "1": "PET"})
        with pytest.raises(ModelError, match=r"normalises 1 channels and dataset\.json names 2"):
            read_model(folder)

    def test_mirror_axes_that_the_patch_does_not_have(self, tmp_path) -> None:
        folder = make_trained_model(tmp_path / "flat", inference_allowed_mirroring_axes=(0, 3))
        with pytest.raises(ModelError, match=r"mirror axes \(0, 3\) of a patch of 3 axes"):
            read_model(folder)

    def test_no_folds(self, folder) -> None:
        for fold in folder.glob("fold_*"):
            fold.rename(folder / f"other_{fold.name}")
        with pytest.raises(ModelError, match="has no folder fold_0"):
            read_model(folder)

    def test_a_fold_that_is_not_there(self, folder) -> None:
        with pytest.raises(ModelError, match="no fold '4', but 0, 1, 2"):
            read_model(folder, folds=["0", "4"])


class Payload:
    """Creates a file when a careless reader unpickles it."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


class TestMaliciousModels:
    @pytest.mark.parametrize("form", ["folder", "zip"])
    def test_nothing_of_a_checkpoint_is_run(self, tmp_path, form) -> None:
        victim = tmp_path / "owned"
        path = make_trained_model(tmp_path / "results", folds=("0", "1"), _best_ema=Payload(victim))
        if form == "zip":
            write_model_zip(tmp_path / "model.zip", [path])
            path = tmp_path / "model.zip"
        with pytest.raises(UnsafeModelError, match="system"):
            loaded(path)
        assert not victim.exists()
        torch.load(
            tmp_path
            / "results"
            / "Dataset007_Toy"
            / "nnUNetTrainer_MyOwn__nnUNetPlans__3d_fullres"
            / "fold_0"
            / "checkpoint_final.pth",
            weights_only=False,
        )
        assert victim.exists()  # the payload is real

    @pytest.mark.parametrize("name", ["../escaped.json", "/tmp/escaped.json", "a/../../escaped.json", "a\\..\\b.json"])
    def test_a_zip_that_leads_out_of_its_root(self, tmp_path, name) -> None:
        write_model_zip(tmp_path / "model.zip", [make_trained_model(tmp_path / "results")])
        with zipfile.ZipFile(tmp_path / "model.zip", "a") as archive:
            archive.writestr(name, "{}")
        with pytest.raises(UnsafeModelError, match="leads out of it"):
            loaded(tmp_path / "model.zip")
        assert not list(tmp_path.rglob("escaped*"))


class TestWriting:
    @pytest.fixture
    def package(self, tmp_path):
        folder = make_trained_model(tmp_path / "theirs", folds=("0", "1"), channels=("T1", "T2"), scheme=REGIONS)
        return read_model(folder)

    def test_what_is_written_is_read_back(self, tmp_path, package) -> None:
        folder = export_for_nnunet(package, tmp_path / "results")
        assert folder == tmp_path / "results" / "Dataset007_Toy" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
        again = read_model(folder)
        for name in ("plan", "configuration", "scheme", "channel_names", "file_ending", "mirror_axes"):
            assert getattr(again, name) == getattr(package, name), name
        for fold, weights in package.weights.items():
            assert weights.keys() == again.weights[fold].keys()
            assert all(torch.equal(tensor, again.weights[fold][key]) for key, tensor in weights.items())

    def test_every_file_that_nnunet_wants(self, tmp_path, package) -> None:
        folder = export_for_nnunet(package, tmp_path / "results")
        names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        per_fold = ("checkpoint_final.pth", "debug.json", "progress.png", "validation/summary.json")
        assert names == {
            "plans.json",
            "dataset.json",
            "dataset_fingerprint.json",
            *(f"fold_{fold}/{name}" for fold in "01" for name in per_fold),
        }
        summary = json.loads((folder / "fold_0/validation/summary.json").read_text())
        assert summary["mean"].keys() == {"(1, 2)", "2"}
        with Pillow.open(folder / "fold_0" / "progress.png") as picture:
            assert picture.size[0] > 100

    def test_checkpoints_hold_plain_values_only(self, tmp_path, package) -> None:
        file = export_for_nnunet(package, tmp_path / "results") / "fold_1" / "checkpoint_final.pth"
        content = torch.load(file, weights_only=True)  # torch's own restricted reader, no allow-list of ours
        assert content["trainer_name"] == "nnUNetTrainer"
        assert content["inference_allowed_mirroring_axes"] == (0, 1, 2)
        assert content["init_args"]["fold"] == 1
        assert content["current_epoch"] == 0
        assert set(content) == set(checkpoint({}, {}, "", {}, "0"))

    def test_the_record_of_training_is_kept(self, tmp_path, package) -> None:
        history = tuple(
            {
                "step": 250 * i,
                "seconds": 10.0 * i,
                "loss": 1.0 / i,
                "dice": {"whole": 0.5, "core": None},
                "mean_dice": 0.5,
                "smoothed_dice": 0.1 * i,
                "learning_rate": 0.01,
            }
            for i in (1, 2, 3)
        )
        settings = ExportSettings(records={"0": TrainingRecord(history=history, summary={"mean": {}})})
        folder = export_for_nnunet(package, tmp_path / "results", settings)
        content = read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")
        assert content["current_epoch"] == 3
        assert content["_best_ema"] == pytest.approx(0.3)
        assert {len(values) for values in content["logging"].values()} == {3}
        assert content["logging"]["epoch_start_timestamps"] == [0.0, 10.0, 20.0]
        assert json.loads((folder / "fold_0/validation/summary.json").read_text()) == {"mean": {}}

    def test_without_mirroring_the_trainer_is_the_one_that_does_not_mirror(self, tmp_path, package) -> None:
        folder = export_for_nnunet(replace(package, mirror_axes=()), tmp_path / "results")
        assert folder.name.startswith("nnUNetTrainerNoMirroring__")
        assert read_checkpoint(folder / "fold_0/checkpoint_final.pth")["inference_allowed_mirroring_axes"] is None

    def test_a_budgets_configuration_goes_under_the_standard_name(self, tmp_path, package) -> None:
        small = replace(
            package.configuration, name="3d_fullres_budget", inherits_from="3d_fullres", patch_size=(16, 32, 16)
        )
        recipe = replace(package.recipe, batch_size=5)
        changed = replace(package, configuration=small, recipe=recipe)
        folder = export_for_nnunet(changed, tmp_path / "results")
        assert folder.name.endswith("__3d_fullres")
        found = read_plan(folder / "plans.json").configuration("3d_fullres")
        assert (found.patch_size, found.batch_size) == ((16, 32, 16), 5)
        assert [c.name for c in read_plan(folder / "plans.json").configurations] == ["3d_fullres"]

    def test_a_cascade_keeps_its_stages(self, tmp_path) -> None:
        package = read_model(make_trained_model(tmp_path / "a", of=cascade_plan(), name="3d_cascade_fullres"))
        of, name = plan_as_trained(package)
        assert name == "3d_cascade_fullres"
        assert of == package.plan
        again = read_model(export_for_nnunet(package, tmp_path / "b"))
        assert again.configuration == package.configuration

    @pytest.mark.parametrize(
        ("name", "number", "expected"),
        [
            ("Dataset004_Hippocampus", None, "Dataset004_Hippocampus"),
            ("Dataset004_Hippocampus", 12, "Dataset012_Hippocampus"),
            ("my torsos (2)", None, "Dataset900_my_torsos_2"),
            ("torsos", 3, "Dataset003_torsos"),
            ("///", None, "Dataset900_Model"),
        ],
    )
    def test_names_of_data_sets(self, name, number, expected) -> None:
        assert numbered_name(name, number) == expected

    def test_numbers_have_three_digits(self) -> None:
        with pytest.raises(UsageError, match="between 1 and 999; got 1000"):
            numbered_name("a", 1000)

    def test_a_network_that_nnunet_lacks(self, tmp_path, package) -> None:
        foreign = replace(package.configuration, architecture=replace(package.configuration.architecture, kind="vnet"))
        with pytest.raises(ModelError, match="network that nnU-Net does not have"):
            export_for_nnunet(replace(package, configuration=foreign), tmp_path / "results")
        assert not (tmp_path / "results").exists()

    def test_nothing_is_overwritten(self, tmp_path, package) -> None:
        export_for_nnunet(package, tmp_path / "results")
        with pytest.raises(UsageError, match="exists already"):
            export_for_nnunet(package, tmp_path / "results")

    @pytest.mark.parametrize(
        ("form", "out"), [("nnunet", "a"), ("nnunet-zip", "a.zip"), ("package", "a"), ("package-zip", "a.zip")]
    )
    def test_every_form(self, tmp_path, form, out) -> None:
        folder = make_trained_model(tmp_path / "theirs")
        written = export_model(folder, tmp_path / out, form)
        np.testing.assert_array_equal(labels_of(loaded(written)), labels_of(loaded(folder)))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([out, "theirs"])

    @pytest.mark.parametrize(("form", "out"), [("nnunet", "a.zip"), ("nnunet-zip", "a"), ("package-zip", "a.tar")])
    def test_names_fit_the_form(self, tmp_path, form, out) -> None:
        with pytest.raises(UsageError, match=r"ending in \.zip"):
            export_model(tmp_path, tmp_path / out, form)


def test_import_keeps_everything(tmp_path) -> None:
    folder = make_trained_model(tmp_path / "theirs", folds=("0", "1"))
    written = import_model(folder, tmp_path / "package", folds=["1"])
    found = read_package(tmp_path / "package")
    assert list(found.weights) == ["1"]
    assert found.identity == written.identity
    assert found.facts["trainer"] == "nnUNetTrainer_MyOwn"
