import json
from dataclasses import replace

import pytest

from delineate.errors import PlanError
from delineate.formats.recipe_json import read_recipe, recipe_from_json, recipe_to_json, write_recipe
from delineate.planning.machine import Machine
from delineate.planning.planner import plan_dataset
from delineate.planning.recipe import Recipe
from delineate.planning.schedule import fast_recipe, standard_recipe
from planning.datasets import DATASETS


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
    with pytest.raises(PlanError, match=r"incomplete.*'patch_size'"):
        recipe_from_json({"iterations": 10, "batch_size": 2})
