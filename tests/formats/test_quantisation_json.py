"""The verdict on int8 in a package: round trip, bound to the weights, damage."""

import json
import math
import shutil
import zipfile
from dataclasses import replace

import pytest
import torch

from delineate.errors import ModelError
from delineate.formats.model_package import read_package, store_quantisation, weight_hashes, write_package
from delineate.formats.quantisation_json import QUANTISATION, quantisation_from_json, quantisation_to_json
from delineate.planning.quantisation import Quantisation, StructureCheck
from formats.test_model_package import package


def verdict(weights):
    return Quantisation(
        weights=weights,
        ranges={fold: {"encoder.stages.0": (-0.5, 3.25)} for fold in weights},
        structures=(
            StructureCheck(name="whole", floating=0.9, integer=0.899),
            StructureCheck(name="core", floating=math.nan, integer=math.nan),
        ),
        cases=7,
        out_of_fold=False,
        largest_drop=0.005,
        agreement=0.998,
        seconds=(4.0, 2.0),
    )


@pytest.fixture
def folder(tmp_path):
    write_package(tmp_path / "model", package())
    return tmp_path / "model"


def test_a_round_trip_changes_nothing():
    text = quantisation_to_json(verdict({"0": "f" * 64})).encode()
    assert quantisation_to_json(quantisation_from_json(text)).encode() == text
    assert quantisation_from_json(text).passed


def test_the_verdict_is_read_with_the_model_and_kept_in_copies(folder, caplog):
    store_quantisation(folder, verdict(weight_hashes(folder)))
    found = read_package(folder)
    assert found.quantisation is not None
    assert found.quantisation.structures[0].integer == 0.899
    assert not caplog.records
    write_package(folder.parent / "copy.zip", found)
    assert read_package(folder.parent / "copy.zip").quantisation is not None


def test_the_verdict_counts_for_these_weights_only(folder):
    store_quantisation(folder, verdict(weight_hashes(folder)))
    found = read_package(folder)
    changed = {f: {n: t + 1 for n, t in w.items()} for f, w in found.weights.items()}
    write_package(folder.parent / "other", replace(found, weights=changed))
    assert not (folder.parent / "other" / QUANTISATION).exists()
    write_package(folder.parent / "alien", replace(found, weights=changed, quantisation=None))
    shutil.copy(folder / QUANTISATION, folder.parent / "alien")
    assert read_package(folder.parent / "alien").quantisation is None
    assert torch.is_tensor(next(iter(next(iter(found.weights.values())).values())))


def test_one_fold_of_several_has_no_verdict(folder):
    hashes = weight_hashes(folder)
    assert len(hashes) > 1
    store_quantisation(folder, verdict(hashes))
    assert read_package(folder, folds=[next(iter(hashes))]).quantisation is None


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("format", "poem", "format"),
        ("ranges", {"0": {"a": [2.0, 1.0]}}, "smaller first"),
        ("cases", "many", "whole number"),
        ("structures", {}, "list"),
        ("weights", None, "weights"),
    ],
)
def test_a_damaged_verdict_is_told(folder, key, value, told):
    store_quantisation(folder, verdict(weight_hashes(folder)))
    content = json.loads((folder / QUANTISATION).read_text())
    (folder / QUANTISATION).write_text(json.dumps({**content, key: value}))
    with pytest.raises(ModelError, match=told):
        read_package(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_no_json_is_told(folder, text):
    (folder / QUANTISATION).write_text(text)
    with pytest.raises(ModelError, match=QUANTISATION):
        read_package(folder)


def test_a_forged_pass_is_worked_out_again(folder):
    bad = replace(verdict(weight_hashes(folder)), structures=(StructureCheck(name="whole", floating=0.9, integer=0.1),))
    store_quantisation(folder, bad)
    text = (folder / QUANTISATION).read_text().replace('"passed": false', '"passed": true')
    (folder / QUANTISATION).write_text(text)
    found = read_package(folder).quantisation
    assert found is not None
    assert not found.passed


def test_a_zip_is_read_with_its_verdict(folder, tmp_path):
    store_quantisation(folder, verdict(weight_hashes(folder)))
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"m/{file.name}")
    assert read_package(tmp_path / "m.zip").quantisation is not None
