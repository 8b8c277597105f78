"""Model packages: round trips, replacement whole or not at all, and every damaged, foreign or hostile package."""

import hashlib
import json
import logging
import os
import pickle
import stat
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import ModelError, ResourceError, UnsafeModelError, UsageError
from delineate.formats import model_package
from delineate.formats.model_package import DOCUMENT, UNSAVED, ModelPackage, read_package, write_package
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, Plan
from delineate.planning.recipe import Recipe

REGIONS = LabelScheme(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    ignore=3,
    region_order=(1, 2),
)


def configuration():
    architecture = Architecture(
        kind="plain_unet",
        dims=3,
        features=(8, 16),
        kernel_sizes=((3, 3, 3),) * 2,
        strides=((1, 1, 1), (2, 2, 2)),
        encoder_blocks=(2, 2),
        decoder_convs=(2,),
    )
    return Configuration(
        name="3d_fullres",
        data_identifier="nnUNetPlans_3d_fullres",
        spacing_mm=(1.0, 0.7, 0.7),
        patch_size=(40, 56, 40),
        batch_size=9,
        median_shape=(36.0, 50.0, 35.0),
        normalization=("zscore", "ct"),
        use_mask_for_norm=(False, False),
        architecture=architecture,
        batch_dice=False,
    )


def plan():
    statistics = IntensityStatistics(
        mean=1.5, median=1.0, std=2.0, min=-3.0, max=9.0, percentile_99_5=8.0, percentile_00_5=-2.0
    )
    return Plan(
        dataset_name="Dataset004_Hippocampus",
        plans_name="nnUNetPlans",
        planner_name="ExperimentPlanner",
        image_reader="SimpleITKIO",
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        original_median_spacing_mm=(1.0, 1.0, 1.0),
        original_median_shape=(36, 50, 35),
        intensities=(statistics, statistics),
        configurations=(configuration(),),
    )


def package(**changes):
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(4, 4, generator=generator)
    first = {"a.weight": shared, "a.again": shared, "b.weight": torch.randn(3, 5, generator=generator).t()}
    values = {
        "name": "Hippocampus",
        "software": "delineate 0.1.0",
        "plan": plan(),
        "configuration": replace(configuration(), patch_size=(32, 32, 32), batch_size=4, inherits_from="3d"),
        "recipe": Recipe(iterations=100, batch_size=4, patch_size=(32, 32, 32), mirror_axes=(0, 1), reasons=("short",)),
        "scheme": LabelScheme.simple("anterior", "posterior"),
        "channel_names": ("MRI", "CT"),
        "file_ending": ".nii.gz",
        "mirror_axes": (0, 1),
        "weights": {"0": first, "all": {"a.weight": torch.ones(2, dtype=torch.bfloat16)}},
        "facts": {"training_cases": 208, "dice": {"0": np.float32(0.5)}, "lost": float("nan"), "times": (1, 2.5)},
        "fingerprint": {"spacings": [[1.0, 1.0, 1.0]]},
        "licence": "CC-BY-SA 4.0",
        **changes,
    }
    return ModelPackage(**values)


FIELDS = ("name", "software", "plan", "configuration", "recipe", "scheme", "channel_names", "file_ending")
FIELDS_TOO = ("mirror_axes", "fingerprint", "licence")


def assert_equal(found, expected):
    for name in FIELDS + FIELDS_TOO:
        assert getattr(found, name) == getattr(expected, name), name
    assert list(found.weights) == list(expected.weights)
    for fold, weights in expected.weights.items():
        assert set(found.weights[fold]) == set(weights)
        for name, tensor in weights.items():
            assert found.weights[fold][name].dtype == tensor.dtype
            torch.testing.assert_close(found.weights[fold][name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("file", ["model", "model.zip"])
def test_round_trip(tmp_path, file):
    written = write_package(tmp_path / file, package())
    found = read_package(tmp_path / file)
    assert_equal(found, package())
    assert found.facts == {"training_cases": 208, "dice": {"0": 0.5}, "lost": None, "times": [1, 2.5]}
    assert found.identity == written.identity
    assert found.identity.startswith("Hippocampus sha256:")
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


def test_regions_and_the_ignore_label(tmp_path):
    write_package(tmp_path / "model", package(scheme=REGIONS))
    assert read_package(tmp_path / "model").scheme == REGIONS


def test_a_package_has_no_identity_before_it_is_written():
    assert package().identity == UNSAVED


def test_equal_packages_give_equal_files(tmp_path):
    first, second = (write_package(tmp_path / name, package()) for name in ("a.zip", "b.zip"))
    assert first.identity == second.identity
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_only_some_folds(tmp_path):
    write_package(tmp_path / "model", package())
    (tmp_path / "model" / "fold_0.safetensors").unlink()
    assert list(read_package(tmp_path / "model", folds=["all"]).weights) == ["all"]
    with pytest.raises(ModelError, match="has the folds 0, all; asked for was 7"):
        read_package(tmp_path / "model", folds=["7"])


def test_a_zip_of_the_folder(tmp_path):
    write_package(tmp_path / "model", package())
    with zipfile.ZipFile(tmp_path / "made by hand.zip", "w") as archive:
        for file in (tmp_path / "model").iterdir():
            archive.write(file, f"model/{file.name}")
    assert_equal(read_package(tmp_path / "made by hand.zip"), package())


@pytest.mark.parametrize("file", ["model", "model.zip"])
def test_an_older_package_is_replaced(tmp_path, file):
    write_package(tmp_path / file, package())
    write_package(tmp_path / file, package(name="newer", weights={"1": {"w": torch.zeros(1)}}))
    assert read_package(tmp_path / file).name == "newer"
    assert list(read_package(tmp_path / file).weights) == ["1"]
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


@pytest.mark.parametrize("file", ["model", "model.zip"])
def test_when_writing_fails_the_older_package_stays(tmp_path, file, monkeypatch):
    write_package(tmp_path / file, package())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model_package, "_document", full)
    with pytest.raises(ResourceError, match="disk is full"):
        write_package(tmp_path / file, package(name="newer"))
    assert read_package(tmp_path / file).name == "Hippocampus"
    assert [entry.name for entry in tmp_path.iterdir()] == [file]


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(UsageError, match="holds other files"):
        write_package(tmp_path, package())
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(("weights", "sentence"), [({}, "at least one fold"), ({"../0": {}}, r"\.\./0")])
def test_impossible_folds_are_told(tmp_path, weights, sentence):
    with pytest.raises(UsageError, match=sentence):
        write_package(tmp_path / "model", package(weights=weights))


# --- damaged


@pytest.fixture
def folder(tmp_path):
    write_package(tmp_path / "model", package())
    return tmp_path / "model"


def edit(folder, **changes):
    document = json.loads((folder / DOCUMENT).read_text())
    document.update(changes)
    (folder / DOCUMENT).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))


def test_nothing_there(tmp_path):
    with pytest.raises(ModelError, match="There is no model at"):
        read_package(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    with pytest.raises(ModelError, match=r"expected model\.json, .* found neither"):
        read_package(tmp_path)


def test_a_folder_of_nnunet(tmp_path):
    (tmp_path / "plans.json").write_text("{}")
    with pytest.raises(ModelError, match="nothing was trained with them yet"):
        read_package(tmp_path)


def test_missing_weights(folder):
    (folder / "fold_0.safetensors").unlink()
    with pytest.raises(ModelError, match=r"fold_0\.safetensors is missing"):
        read_package(folder)


@pytest.mark.parametrize("keep", [0, 1, 50])
def test_weights_cut_short(folder, keep):
    file = folder / "fold_0.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelError, match=rf"fold_0\.safetensors is cut short: {keep} of"):
        read_package(folder)


def test_weights_that_grew(folder):
    with (folder / "fold_0.safetensors").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(ModelError, match=r"more than the \d+ that can be right"):
        read_package(folder)


def test_one_changed_bit(folder):
    file = folder / "fold_0.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        read_package(folder)


def test_weights_that_are_a_pickle_are_not_opened(folder):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / "exploded"),)

    data = pickle.dumps(Bomb())
    (folder / "fold_0.safetensors").write_bytes(data)
    hashes = {"0": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}}
    edit(folder, weights=hashes)
    with pytest.raises(ModelError, match="no weights in safetensors format"):
        read_package(folder)
    assert not (folder / "exploded").exists()


def test_other_files_are_left_alone_and_told(folder, caplog):
    (folder / "network.py").write_text("raise SystemExit")
    (folder / "weights.pth").write_bytes(b"not even a pickle")
    with caplog.at_level(logging.WARNING):
        assert_equal(read_package(folder), package())
    assert "network.py, weights.pth" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '"model"', '{"format": "delineate-model"}', "\xff"])
def test_a_document_that_is_none(folder, text):
    (folder / DOCUMENT).write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match="not the description of a model"):
        read_package(folder)


@pytest.mark.parametrize("changes", [{"format_version": 2}, {"format": "other"}])
def test_another_version(folder, changes):
    edit(folder, **changes)
    with pytest.raises(ModelError, match=r"this version reads 'delineate-model' 1"):
        read_package(folder)


@pytest.mark.parametrize(
    "key", ["name", "software", "plan", "configuration", "recipe", "dataset", "weights", "mirror_axes", "facts"]
)
@pytest.mark.parametrize("value", [None, 3])
def test_a_document_with_a_field_missing_or_wrong(folder, key, value):
    edit(folder, **{key: value})
    with pytest.raises(ModelError, match="cannot be used"):
        read_package(folder)


def test_contradictory_labels(folder):
    edit(folder, dataset={"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 5}, "file_ending": ".mha"})
    with pytest.raises(ModelError, match="consecutive"):
        read_package(folder)


def test_channels_that_are_no_numbers(folder):
    edit(folder, dataset={"channel_names": {"MRI": 0}, "labels": {"background": 0, "a": 1}, "file_ending": ".mha"})
    with pytest.raises(ModelError, match="channel"):
        read_package(folder)


def test_a_fold_that_leads_elsewhere(folder):
    edit(folder, weights={"../secret": {"sha256": "0", "bytes": 1}})
    with pytest.raises(ModelError, match=r"\.\./secret"):
        read_package(folder)


# --- hostile or broken zips


def zip_with(path, extra=(), *, source=None):
    """Write a good package as a zip, and more entries: (ZipInfo or name, bytes)."""
    files = {} if source is None else {file.name: file.read_bytes() for file in sorted(source.iterdir())}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (*files.items(), *extra):
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../evil", "C:\\evil", "..\\evil"])
def test_names_that_lead_out_of_the_zip(tmp_path, folder, name):
    with pytest.raises(UnsafeModelError, match="leads out of it"):
        read_package(zip_with(tmp_path / "model.zip", [(name, b"")], source=folder))
    assert not (tmp_path / "evil.txt").exists()


def test_links_in_a_zip(tmp_path, folder):
    link = zipfile.ZipInfo("fold_1.safetensors")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafeModelError, match=r"a link, 'fold_1\.safetensors'"):
        read_package(zip_with(tmp_path / "model.zip", [(link, b"/etc/passwd")], source=folder))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name(tmp_path, folder):
    with pytest.raises(UnsafeModelError, match="several files of one name"):
        read_package(zip_with(tmp_path / "model.zip", [(DOCUMENT, b"{}")], source=folder))


def test_a_zip_that_inflates_without_end(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(DOCUMENT, b" " * 10_000_000)
    with pytest.raises(ModelError, match="would become 10000000 bytes"):
        read_package(tmp_path / "model.zip")


def test_a_zip_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"expected model\.json, .* found neither"):
        read_package(zip_with(tmp_path / "model.zip", [("readme.txt", b"hello")]))


@pytest.mark.parametrize("keep", [0, 10, 1000, -30])
def test_a_zip_cut_short(tmp_path, folder, keep):
    whole = zip_with(tmp_path / "model.zip", source=folder)
    whole.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ModelError, match="no readable zip"):
        read_package(whole)


def test_a_changed_byte_in_a_zip(tmp_path, folder):
    whole = zip_with(tmp_path / "model.zip", source=folder)
    data = bytearray(whole.read_bytes())
    data[200] ^= 255
    whole.write_bytes(data)
    with pytest.raises(ModelError):
        read_package(whole)


def test_a_pickle_in_place_of_a_zip(tmp_path):
    (tmp_path / "model.zip").write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(ModelError, match="no readable zip"):
        read_package(tmp_path / "model.zip")
