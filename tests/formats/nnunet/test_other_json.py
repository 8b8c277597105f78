import json
from dataclasses import replace

import pytest
from planning.datasets import DATASETS

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import LabelError, PlanError
from delineate.formats.nnunet import (
    dataset_json,
    fingerprint_from_json,
    fingerprint_to_json,
    read_fingerprint,
    read_splits,
    scheme_from_json,
    splits_from_json,
    write_fingerprint,
    write_splits,
)
from delineate.formats.recipe_json import read_recipe, recipe_from_json, recipe_to_json, write_recipe
from delineate.planning.fingerprint import StructureFacts
from delineate.planning.machine import Machine
from delineate.planning.planner import plan_dataset
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import fast_recipe, standard_recipe
from delineate.planning.splits import make_splits

FACTS = StructureFacts(value=1, name="organ", cases=3, median_volume_mm3=12.5, smallest_volume_mm3=3.0)


def test_fingerprint_round_trip(tmp_path):
    fingerprint = replace(DATASETS["masked"].fingerprint(), structures=(FACTS,))
    write_fingerprint(tmp_path / "dataset_fingerprint.json", fingerprint)
    assert read_fingerprint(tmp_path / "dataset_fingerprint.json") == fingerprint
    nnunets = fingerprint_to_json(fingerprint, own_facts=False)
    assert nnunets == DATASETS["masked"].fingerprint_json()
    assert fingerprint_from_json(nnunets) == replace(fingerprint, structures=())


def test_fingerprint_faults_are_named():
    data = DATASETS["masked"].fingerprint_json()
    with pytest.raises(PlanError, match=r"f.json at 'spacings\[0\]\[1\]': expected a finite number, found None"):
        fingerprint_from_json({**data, "spacings": [[1.0, None, 1.0]]}, source="f.json")
    with pytest.raises(PlanError, match="9 spacings and 1 shapes"):
        fingerprint_from_json({**data, "shapes_after_crop": [[4, 4, 4]]})
    with pytest.raises(PlanError, match="'shapes_after_crop' is missing"):
        fingerprint_from_json({k: v for k, v in data.items() if k != "shapes_after_crop"})


SCHEMES = [
    LabelScheme.simple("liver", "tumour"),
    replace(LabelScheme.simple("liver", "tumour"), ignore=3),
    LabelScheme(
        structures=(Structure(name="whole", values=(1, 2, 3)), Structure(name="core", values=(3,))),
        region_order=(1, 3),
        ignore=4,
    ),
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_dataset_json_round_trip(scheme):
    data = dataset_json(
        channel_names=("CT", "PET"),
        scheme=scheme,
        training_cases=7,
        file_ending=".nrrd",
        name="X",
        reader_name="Tiff3DIO",
    )
    assert scheme_from_json(json.loads(json.dumps(data))) == scheme
    assert data["channel_names"] == {"0": "CT", "1": "PET"}
    assert data["labels"]["background"] == 0
    assert (data["numTraining"], data["file_ending"]) == (7, ".nrrd")
    assert data["overwrite_image_reader_writer"] == "Tiff3DIO"


def test_dataset_json_faults():
    with pytest.raises(PlanError, match="'labels' is missing"):
        scheme_from_json({})
    with pytest.raises(PlanError, match=r"d.json at 'labels.a': expected a whole number, found 'one'"):
        scheme_from_json({"labels": {"background": 0, "a": "one"}}, source="d.json")
    with pytest.raises(LabelError, match="consecutive"):
        scheme_from_json({"labels": {"background": 0, "a": 2}})


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


def _recipes():
    plan = plan_dataset(DATASETS["hippocampus_208"].fingerprint(), DATASETS["hippocampus_208"].facts())
    full = plan.configuration("3d_fullres")
    machine = Machine(device="cpu", cores=2, memory_bytes=2**34, bfloat16=True)
    standard = standard_recipe(full, machine)
    fast = replace(fast_recipe(standard, 500, 300.0), reasons=("It is 40×56×40 — because.",), seed=3)
    return full, standard, fast


def test_recipe_round_trip(tmp_path):
    full, standard, fast = _recipes()
    own = replace(full, name="3d_fullres_budget", inherits_from="3d_fullres", batch_size=4)
    for configuration, recipe in ((full, standard), (own, fast)):
        write_recipe(tmp_path / "recipe.json", configuration, recipe)
        assert read_recipe(tmp_path / "recipe.json") == (configuration, recipe)
        assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe
    assert "40×56×40 — because" in (tmp_path / "recipe.json").read_text(encoding="utf-8")


def test_recipe_defaults_and_faults():
    least = {"iterations": 10, "batch_size": 2, "patch_size": [8, 8]}
    assert recipe_from_json(least) == Recipe(iterations=10, batch_size=2, patch_size=(8, 8))
    for change, message in (
        ({"optimizer": "lion"}, "expected one of sgd, adamw, found 'lion'"),
        ({"iterations": "many"}, "r.json at 'iterations': expected a whole number"),
        ({"ema_decay": "high"}, "expected a finite number"),
    ):
        with pytest.raises(PlanError, match=message):
            recipe_from_json({**least, **change}, source="r.json")
    with pytest.raises(PlanError, match="incomplete.*'patch_size'"):
        recipe_from_json({"iterations": 10, "batch_size": 2})
