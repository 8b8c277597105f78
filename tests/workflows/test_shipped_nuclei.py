"""The models of nuclei that come with the program: whole, small, licensed, and they find nuclei."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

import delineate
from delineate.formats.datasets.instance_dataset import open_instance_dataset
from delineate.formats.instance_package import WEIGHTS, read_instance_package
from delineate.metrics import average_precision, instance_overlap
from delineate.workflows.nuclei_model import SHIPPED, TYPED, UNTYPED

MOST_BYTES = 12 << 20


def discs(radius: int, spacing: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Bright blurred discs on a dark noisy ground, as nuclei in fluorescence look, and which is which."""
    y, x = np.mgrid[:256, :256]
    centres = np.arange(spacing // 2, 256 - radius, spacing)
    instances = np.zeros((256, 256), np.int32)
    for row in centres:
        for column in centres:
            instances[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = instances.max() + 1
    noise = np.random.default_rng(0).normal(12, 3, instances.shape)
    return np.clip(ndimage.gaussian_filter((instances > 0) * 120.0, 1.5) + noise, 0, 255).astype(np.uint8), instances


@pytest.mark.parametrize("name", [UNTYPED, TYPED])
def test_they_are_whole_small_and_licensed(name: str) -> None:
    package = read_instance_package(SHIPPED / name)
    assert (SHIPPED / name / WEIGHTS).stat().st_size < MOST_BYTES
    assert package.name == name
    assert package.licence == "Apache-2.0"
    assert bool(package.type_names) == (name == TYPED)
    card = (SHIPPED / name / "card.md").read_text(encoding="utf-8")
    assert all(words in card for words in ("CC0-1.0", "Apache-2.0", "CoNSeP", "BBBC038", "Held-out pictures"))
    assert set(package.facts["held_out"]) == {"dsb2018_nuclei", "consep_nuclei"}


@pytest.mark.parametrize(("radius", "spacing"), [(6, 20), (10, 32), (18, 60)])
def test_clear_nuclei_of_any_usual_size_are_found_one_by_one(radius: int, spacing: int) -> None:
    picture, instances = discs(radius, spacing)
    found, table = delineate.load_nuclei_model(device="cpu").segment(picture)
    overlap = instance_overlap(found, instances)
    assert len(table) == int(found.max())
    assert average_precision([overlap], thresholds=(0.6,))[0] == 1.0


def test_held_out_fluorescence_is_segmented_as_the_card_says() -> None:
    data = os.environ.get("DELINEATE_DATA")
    if not data:
        pytest.skip("DELINEATE_DATA is not set")
    model = delineate.load_nuclei_model(device="cpu")
    held = set(model.package.facts["held_out"]["dsb2018_nuclei"])
    dataset = open_instance_dataset(Path(data) / "dsb2018_nuclei")
    cases = [dataset.load(files) for files in dataset.cases if files.case_id in held]
    grey = [case for case in cases if np.ptp(case.picture.mean(axis=(0, 1))) < 1][::6]
    scores = [
        average_precision([instance_overlap(model.segment(c.picture)[0], c.instances)], thresholds=(0.5,))[0]
        for c in grey
    ]
    assert len(grey) >= 8
    assert np.mean(scores) > 0.7
