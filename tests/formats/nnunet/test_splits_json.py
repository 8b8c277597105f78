import json

import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import (
    read_splits,
    splits_from_json,
    write_splits,
)
from delineate.planning.splits import make_splits


def test_splits_round_trip(tmp_path):
    splits = make_splits([f"c{i}" for i in range(12)])
    write_splits(tmp_path / "splits_final.json", splits)
    assert read_splits(tmp_path / "splits_final.json") == splits
    assert set(json.loads((tmp_path / "splits_final.json").read_text())[0]) == {"train", "val"}


def test_splits_faults():
    with pytest.raises(PlanError, match=r"s.json at '\[1\]': this fold has 1 cases to train and 0 to validate"):
        splits_from_json([{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": []}], source="s.json")
    with pytest.raises(PlanError, match="expected a list"):
        splits_from_json({"train": []})
