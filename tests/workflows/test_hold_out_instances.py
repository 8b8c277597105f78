"""Which pictures with instances are held out: groups stay whole, and an earlier split is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.errors import DatasetError
from delineate.formats.datasets.instance_dataset import InstanceDataset, open_instance_dataset
from delineate.workflows.hold_out_instances import FOLDS, hold_out, inherited


def tiles(folder: Path, *, grey: set[str]) -> InstanceDataset:
    """Ten tiles of four coloured patches each; some of the patches are grey, as one in the dark is."""
    for part in ("images", "instances"):
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for tile in range(10):
        for patch in range(4):
            name = f"tile_{tile}_{patch:03d}"
            picture = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            if name in grey:
                picture[:] = picture[..., :1]
            Image.fromarray(picture).save(folder / "images" / f"{name}.png")
            Image.fromarray(np.eye(16, dtype=np.uint8)).save(folder / "instances" / f"{name}.png")
    return open_instance_dataset(folder)


@pytest.mark.parametrize("grey", [set[str](), {f"tile_{tile}_000" for tile in range(10)}, {"tile_3_002"}])
def test_a_group_is_held_out_whole_or_not_at_all(tmp_path: Path, grey: set[str]) -> None:
    dataset = tiles(tmp_path / "tiles", grey=grey)
    (held,) = hold_out([dataset], tmp_path / "split.json", {})
    counts = {group: sum(name.startswith(group + "_") for name in held) for group in {c.group for c in dataset.cases}}
    assert set(counts.values()) == {0, 4}
    assert json.loads((tmp_path / "split.json").read_text()) == {"tiles": list(held)}


@pytest.mark.parametrize("grey", [set[str](), {f"tile_{tile}_{patch:03d}" for tile in (3, 4) for patch in range(4)}])
def test_every_picture_validates_once_in_all_folds(tmp_path: Path, grey: set[str]) -> None:
    dataset = tiles(tmp_path / "tiles", grey=grey)
    usual = hold_out([dataset], tmp_path / "split.json", {})
    held = [hold_out([dataset], tmp_path / f"{fold}.json", {}, fold)[0] for fold in range(FOLDS)]
    assert held[0] == usual[0]
    assert sorted(name for part in held for name in part) == sorted(case.case_id for case in dataset.cases)
    for part in held:
        assert len(part) % 4 == 0, "a group was divided"
    assert hold_out([dataset], tmp_path / "2.json", {}, 2) == (held[2],)


def test_a_fold_that_would_hold_out_nothing_is_refused(tmp_path: Path) -> None:
    dataset = tiles(tmp_path / "tiles", grey=set())
    few = replace(dataset, cases=tuple(case for case in dataset.cases if case.group in ("tile_0", "tile_1", "tile_2")))
    held = [hold_out([few], tmp_path / f"{fold}.json", {}, fold)[0] for fold in range(3)]
    assert sorted(len(part) for part in held) == [4, 4, 4]
    with pytest.raises(DatasetError, match="fold 3 would hold out nothing"):
        hold_out([few], tmp_path / "3.json", {}, 3)
    assert not (tmp_path / "3.json").exists()


def test_an_earlier_split_is_kept_as_far_as_it_is_there(tmp_path: Path) -> None:
    dataset = tiles(tmp_path / "tiles", grey=set())
    known = {"tiles": ["tile_1_000", "tile_1_001"], "others": ["x"]}
    assert hold_out([dataset], tmp_path / "split.json", known) == (("tile_1_000", "tile_1_001"),)
    assert inherited(dataset, {"tiles": ["tile_1_000", "gone"]}) == ("tile_1_000",)
    assert inherited(dataset, {"others": ["tile_1_000"]}) == ()
    assert hold_out([dataset], tmp_path / "split.json", {}) == (("tile_1_000", "tile_1_001"),)
    (tmp_path / "tiles").rename(tmp_path / "renamed")
    with pytest.raises(DatasetError, match="choose another output folder"):
        hold_out([open_instance_dataset(tmp_path / "renamed")], tmp_path / "split.json", {})
