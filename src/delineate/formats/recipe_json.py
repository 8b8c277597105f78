"""A training recipe as JSON: every field under its own name; and ``recipe.json``, what a run trains and how.

``recipe.json`` is made for a person to read: the reasons first, then the recipe, then the configuration.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from delineate.errors import PlanError
from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.formats.nnunet.plans_json import configuration_from_json, configuration_to_json
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Recipe

logger = logging.getLogger(__name__)


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as a dictionary of plain JSON values."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in dataclasses.asdict(recipe).items()}


def recipe_from_json(data: Mapping[str, Any], *, source: str = "recipe") -> Recipe:
    """Return the recipe of a dictionary; absent fields take their defaults, unknown ones are left out with a warning.

    Raises
    ------
    PlanError
        If a field without a default is absent, or a value is not of its field's kind; names the field.
    """
    node = Node(value=data, source=source)
    hints = get_type_hints(Recipe)
    surplus = [key for key in node.keys() if key not in hints]
    if surplus:
        logger.warning("%s has fields that this version does not know; left out: %s", source, ", ".join(surplus))
    values = {key: _value(node.child(key), hints[key]) for key in node.keys() if key in hints}
    for key in ("iterations", "iterations_per_epoch", "batch_size"):
        if key in values and values[key] < 1:
            raise node.child(key).wrong(f"expected a number from 1, found {values[key]}")
    if any(size < 1 for size in values.get("patch_size", ())):
        raise node.child("patch_size").wrong(f"expected numbers from 1, found {values['patch_size']}")
    try:
        return Recipe(**values)
    except TypeError as error:
        raise PlanError(f"{source}: the recipe is incomplete: {error}.") from error


def write_recipe(path: Path, configuration: Configuration, recipe: Recipe) -> None:
    """Write ``recipe.json``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    data = recipe_to_json(recipe)
    document = {
        "reasons": data.pop("reasons"),
        "recipe": data,
        "configuration_name": configuration.name,
        "inherits_from": configuration.inherits_from,
        "configuration": configuration_to_json(configuration),
    }
    write_text(path, json.dumps(document, indent=4, ensure_ascii=False))


def read_recipe(path: Path) -> tuple[Configuration, Recipe]:
    """Read a ``recipe.json``.

    Raises
    ------
    PlanError
        If the file is missing, not JSON, or a field is missing or wrong; names file and field.
    """
    root = read_document(path)
    name, parent = root.child("configuration_name").text(), root.get("inherits_from")
    written = dict(_object(root.child("configuration")))
    if parent is not None and parent.value is not None:
        written["inherits_from"] = parent.text()
    recipe = {**_object(root.child("recipe")), "reasons": root.child("reasons").value}
    return configuration_from_json(name, written, source=str(path)), recipe_from_json(recipe, source=str(path))


def _object(node: Node) -> Mapping[str, Any]:
    node.keys()  # complains if it is not an object
    found: Mapping[str, Any] = node.value
    return found


def _value(node: Node, hint: Any) -> Any:
    """Return a value of the kind that a type annotation asks for."""
    readers = {int: node.integer, float: node.number, bool: node.flag, str: node.text}
    if hint in readers:
        return readers[hint]()
    if get_origin(hint) in (Union, types.UnionType):
        inner = next(kind for kind in get_args(hint) if kind is not types.NoneType)
        return None if node.value is None else _value(node, inner)
    if get_origin(hint) is Literal:
        return _choice(node, get_args(hint))
    return tuple(_value(item, get_args(hint)[0]) for item in node.items())


def _choice(node: Node, allowed: tuple[str, ...]) -> str:
    if node.text() not in allowed:
        raise node.wrong(f"expected one of {', '.join(allowed)}, found '{node.value}'")
    return node.text()
