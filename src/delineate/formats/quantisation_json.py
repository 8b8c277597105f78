"""The verdict on 8-bit integers as JSON beside ``model.json``: ranges and numbers only, nothing to execute."""

from __future__ import annotations

import json
import math
from typing import Any

from delineate.formats.nnunet.json_node import Node
from delineate.planning.quantisation import Quantisation, StructureCheck

QUANTISATION = "quantisation.json"
FORMAT = "delineate-quantisation"
FORMAT_VERSION = 1


def quantisation_to_json(quantisation: Quantisation) -> str:
    """Return the text of the file."""
    floating, integer = quantisation.seconds
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "verdict": quantisation.verdict(),
        "passed": quantisation.passed,
        "cases": quantisation.cases,
        "out_of_fold": quantisation.out_of_fold,
        "largest_drop": quantisation.largest_drop,
        "agreement": quantisation.agreement,
        "seconds": {"floating": floating, "integer": integer},
        "structures": [
            {"name": one.name, "floating": _finite(one.floating), "integer": _finite(one.integer)}
            for one in quantisation.structures
        ],
        "weights": dict(quantisation.weights),
        "ranges": {
            fold: {layer: list(span) for layer, span in layers.items()} for fold, layers in quantisation.ranges.items()
        },
    }
    return json.dumps(content, indent=1, allow_nan=False)


def quantisation_from_json(text: bytes) -> Quantisation:
    """Return what the file says; whether int8 passed is worked out from its numbers.

    Raises
    ------
    PlanError
        If the text is not such a file; names what is wrong.
    """
    node = _document(text)
    weights, ranges, seconds = node.child("weights"), node.child("ranges"), node.child("seconds")
    return Quantisation(
        weights={fold: weights.child(fold).text() for fold in weights.keys()},
        ranges={
            fold: {layer: _range(ranges.child(fold).child(layer)) for layer in ranges.child(fold).keys()}
            for fold in ranges.keys()
        },
        structures=tuple(
            StructureCheck(
                name=one.child("name").text(), floating=_dice(one, "floating"), integer=_dice(one, "integer")
            )
            for one in node.child("structures").items()
        ),
        cases=node.child("cases").integer(),
        out_of_fold=node.child("out_of_fold").flag(),
        largest_drop=node.child("largest_drop").number(),
        agreement=node.child("agreement").number(),
        seconds=(seconds.child("floating").number(), seconds.child("integer").number()),
    )


def _document(text: bytes) -> Node:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    node = Node(value=value, source=QUANTISATION)
    kind, version = node.child("format").text(), node.child("format_version").integer()
    if (kind, version) != (FORMAT, FORMAT_VERSION):
        raise node.wrong(f"expected the format {FORMAT} {FORMAT_VERSION}, found {kind} {version}")
    return node


def _range(node: Node) -> tuple[float, float]:
    found = node.numbers()
    if len(found) != 2 or not all(map(math.isfinite, found)) or found[0] > found[1]:
        raise node.wrong("expected two numbers, the smaller first")
    return found[0], found[1]


def _dice(node: Node, key: str) -> float:
    found = node.get(key)
    return math.nan if found is None or found.value is None else found.number()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
