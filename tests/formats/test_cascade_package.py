"""The package of a cascade holds the stage before it, whole and checked; and post-processing is one of its values."""

import json
import logging
import zipfile
from dataclasses import replace

import pytest
import torch

from delineate.errors import ModelError, UnsafeModelError, UsageError
from delineate.formats.model_package import DOCUMENT, PREVIOUS, read_package, write_package
from delineate.masks import PostprocessingStep
from formats.test_model_package import configuration, package

STEPS = (PostprocessingStep(values=(1, 2)), PostprocessingStep(values=(2,)))


def cascade(**changes):
    first = package(configuration=replace(configuration(), name="3d_lowres", next_stage="3d_cascade_fullres"))
    second = replace(configuration(), name="3d_cascade_fullres", previous_stage="3d_lowres")
    return package(configuration=second, previous=first, postprocessing=STEPS, **changes)


@pytest.mark.parametrize("name", ["model", "model.zip"])
def test_both_stages_come_back(tmp_path, name):
    written = write_package(tmp_path / name, cascade())
    found = read_package(tmp_path / name)
    assert found.identity == written.identity
    assert found.network_identity == written.network_identity
    assert found.postprocessing == STEPS
    assert found.input_channels == 2 + 2
    assert found.previous is not None
    assert found.previous.configuration.name == "3d_lowres"
    assert found.previous.input_channels == 2
    for fold, weights in cascade().previous.weights.items():
        for key, tensor in weights.items():
            assert torch.equal(found.previous.weights[fold][key], tensor)


def test_folds_are_chosen_of_the_second_stage_only(tmp_path):
    write_package(tmp_path / "model", cascade())
    found = read_package(tmp_path / "model", folds=["0"])
    assert set(found.weights) == {"0"}
    assert set(found.previous.weights) == {"0", "all"}


def test_a_zip_may_hold_the_model_in_a_folder(tmp_path, caplog):
    write_package(tmp_path / "model", cascade())
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for path in sorted((tmp_path / "model").rglob("*")):
            archive.write(path, f"download/{path.relative_to(tmp_path / 'model')}")
    with caplog.at_level(logging.WARNING):
        assert read_package(tmp_path / "model.zip").previous is not None
    assert not caplog.records


def test_post_processing_changes_the_identity_but_not_that_of_the_networks(tmp_path):
    with_steps = write_package(tmp_path / "a", cascade())
    without = write_package(tmp_path / "b", replace(cascade(), postprocessing=()))
    assert with_steps.identity != without.identity
    assert with_steps.network_identity == without.network_identity
    other = write_package(tmp_path / "c", replace(cascade(), weights={"0": {"a": torch.zeros(1)}}))
    assert other.network_identity != without.network_identity


def test_a_stage_that_is_missing_exchanged_or_damaged_is_refused(tmp_path):
    write_package(tmp_path / "model", cascade())
    stage = tmp_path / "model" / PREVIOUS
    document = json.loads((stage / DOCUMENT).read_text())
    (stage / DOCUMENT).write_text(json.dumps({**document, "licence": "another"}))
    with pytest.raises(ModelError, match="trained with"):
        read_package(tmp_path / "model")
    (stage / DOCUMENT).unlink()
    with pytest.raises(ModelError, match="no trained model in"):
        read_package(tmp_path / "model")
    stage.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="previous"):
        read_package(tmp_path / "model")


def test_damaged_weights_of_the_stage_are_refused(tmp_path):
    write_package(tmp_path / "model", cascade())
    weights = tmp_path / "model" / PREVIOUS / "fold_0.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        read_package(tmp_path / "model")


def test_only_a_cascade_has_a_stage_before_it(tmp_path):
    with pytest.raises(UsageError, match="no stage before"):
        write_package(tmp_path / "model", package(previous=package()))
    write_package(tmp_path / "model", cascade())
    document = json.loads((tmp_path / "model" / DOCUMENT).read_text())
    del document["configuration"]["previous_stage"]
    (tmp_path / "model" / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="no cascade"):
        read_package(tmp_path / "model")


def test_a_cascade_of_a_cascade_is_refused(tmp_path):
    write_package(tmp_path / "model", cascade())
    inner = write_package(tmp_path / "model" / PREVIOUS, cascade())
    document = json.loads((tmp_path / "model" / DOCUMENT).read_text())
    assert inner.identity.endswith(document["previous"]["sha256"]) is False
    document["previous"]["sha256"] = inner.identity.rpartition(":")[2]
    (tmp_path / "model" / DOCUMENT).write_text(json.dumps(document))
    with pytest.raises(ModelError, match="two stages"):
        read_package(tmp_path / "model")


def test_names_in_the_stage_that_lead_out_of_a_zip_are_refused(tmp_path):
    write_package(tmp_path / "model.zip", cascade())
    with zipfile.ZipFile(tmp_path / "model.zip", "a") as archive:
        archive.writestr(f"{PREVIOUS}/../../evil", b"x")
    with pytest.raises(UnsafeModelError):
        read_package(tmp_path / "model.zip")


@pytest.mark.parametrize("steps", [[[]], [[0]], ["liver"], 3])
def test_post_processing_without_sense_is_refused(tmp_path, steps):
    write_package(tmp_path / "model", package())
    document = json.loads((tmp_path / "model" / DOCUMENT).read_text())
    (tmp_path / "model" / DOCUMENT).write_text(json.dumps({**document, "postprocessing": steps}))
    with pytest.raises(ModelError, match="postprocessing"):
        read_package(tmp_path / "model")


def test_packages_without_post_processing_are_read(tmp_path):
    write_package(tmp_path / "model", package())
    document = json.loads((tmp_path / "model" / DOCUMENT).read_text())
    del document["postprocessing"]
    (tmp_path / "model" / DOCUMENT).write_text(json.dumps(document))
    assert read_package(tmp_path / "model").postprocessing == ()
