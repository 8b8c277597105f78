"""Packages of models of instances: what is written is read, with or without a scorer; damage is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from delineate.errors import ModelError
from delineate.formats.instance_package import DOCUMENT, FORMAT_VERSION, WEIGHTS, read_instance_package
from instance_models import SCORED, SMALL, write_model


def test_a_scorer_is_kept_beside_the_network(tmp_path: Path) -> None:
    plain = read_instance_package(write_model(tmp_path / "plain"))
    scored = read_instance_package(write_model(tmp_path / "scored", decoding=SCORED))
    assert plain.decoding == SMALL
    assert scored.decoding.scorer is not None
    assert SCORED.scorer is not None
    assert replace(scored.decoding, scorer=None) == replace(SCORED, scorer=None)
    assert scored.decoding.scorer.least == SCORED.scorer.least
    kept = scored.decoding.scorer.arrays()
    assert all(np.array_equal(kept[name], values) for name, values in SCORED.scorer.arrays().items())
    assert scored.weights.keys() == plain.weights.keys()
    assert all(torch.equal(scored.weights[name], tensor) for name, tensor in plain.weights.items())
    assert scored.identity != plain.identity


def rewrite(folder: Path, **changes) -> None:
    document = json.loads((folder / DOCUMENT).read_bytes())
    (folder / DOCUMENT).write_text(json.dumps(document | changes))


def test_packages_of_before_are_read_and_later_ones_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    rewrite(folder, format_version=3)
    assert read_instance_package(folder).decoding == SMALL
    for version in (2, FORMAT_VERSION + 1):
        rewrite(folder, format_version=version)
        with pytest.raises(ModelError, match=rf"version 3 or {FORMAT_VERSION}; found delineate-instances {version}"):
            read_instance_package(folder)


def test_damage_is_told(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", decoding=SCORED)
    document = json.loads((folder / DOCUMENT).read_bytes())
    told = {name: value for name, value in document["decoding"].items() if name != "least_worth"}
    rewrite(folder, decoding=told)
    with pytest.raises(ModelError, match=r"damaged.*least_worth"):
        read_instance_package(folder)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    with pytest.raises(ModelError, match="hash"):
        read_instance_package(folder)
