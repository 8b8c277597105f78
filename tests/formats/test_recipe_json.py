"""The recipe as JSON: round trip, defaults, and every way in which a file can be wrong."""

import json
import logging

import pytest

from delineate.errors import PlanError
from delineate.formats.recipe_json import recipe_from_json, recipe_to_json
from delineate.planning.recipe import Recipe

PLAIN = Recipe(iterations=100, batch_size=2, patch_size=(8, 8, 8))
RICH = Recipe(
    iterations=7,
    batch_size=4,
    patch_size=(40, 56),
    optimizer="adamw",
    ema_decay=0.99,
    precision="bfloat16",
    mirror_axes=(0, 1),
    budget_seconds=1200.0,
    reasons=("because", "therefore"),
)


@pytest.mark.parametrize("recipe", [PLAIN, RICH])
def test_round_trip_through_text(recipe):
    assert recipe_from_json(json.loads(json.dumps(recipe_to_json(recipe)))) == recipe


def test_absent_fields_take_their_defaults():
    assert recipe_from_json({"iterations": 100, "batch_size": 2, "patch_size": [8, 8, 8]}) == PLAIN


def test_unknown_fields_are_left_out_and_told(caplog):
    with caplog.at_level(logging.WARNING):
        assert recipe_from_json({**recipe_to_json(PLAIN), "moon": 1}) == PLAIN
    assert "moon" in caplog.text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"optimizer": "lion"}, "expected one of sgd, adamw, found 'lion'"),
        ({"iterations": "many"}, "iterations"),
        ({"channels_last": 1}, "true or false"),
        ({"patch_size": 8}, "patch_size"),
        ({"ema_decay": "x"}, "ema_decay"),
    ],
)
def test_wrong_values_name_their_field(change, sentence):
    with pytest.raises(PlanError, match=sentence):
        recipe_from_json({**recipe_to_json(PLAIN), **change})


def test_an_incomplete_recipe_is_told():
    with pytest.raises(PlanError, match="incomplete"):
        recipe_from_json({"iterations": 3})
