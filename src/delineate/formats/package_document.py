"""``model.json`` of a model package, read: what it says, and the hashes that its other files must have."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delineate.errors import ModelError, PlanError
from delineate.formats.instance_package import FORMAT as INSTANCES
from delineate.formats.nnunet.dataset_json import scheme_from_json
from delineate.formats.nnunet.json_node import Node
from delineate.formats.nnunet.plans_json import configuration_from_json, plan_from_json
from delineate.formats.nnunet.postprocessing_json import steps_from_json
from delineate.formats.package_source import DOCUMENT
from delineate.formats.recipe_json import recipe_from_json
from delineate.masks.postprocessing import PostprocessingStep

FORMAT = "delineate-model"
FORMAT_VERSION = 1
LARGEST_DOCUMENT = 64 * 2**20
"""Bytes; a `model.json` has some tens of kilobytes."""
FOLD_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class ContentHash:
    """What the content of a file must be: SHA-256, and number of bytes."""

    sha256: str
    size: int


def checked_document(path: Path, raw: bytes) -> Node:
    """Return the document in the package at ``path``; ModelError if it is damaged or of another version."""
    try:
        node = Node(value=json.loads(raw), source=DOCUMENT)
        kind, version = node.child("format").text(), node.child("format_version").integer()
    except (ValueError, PlanError, RecursionError) as error:
        raise ModelError(
            f"{path}: {DOCUMENT} is not the description of a model: {error}. It may be cut short; copy the model again."
        ) from error
    if kind == INSTANCES:
        raise ModelError(f"{path} is a model of single objects; use `delineate nuclei PICTURES -o OUT --model {path}`.")
    if kind != FORMAT or version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has the format '{kind}' {version}; this version reads '{FORMAT}' {FORMAT_VERSION}. "
            "Use the version of Delineate that wrote it, or a newer one."
        )
    return node


def package_values(node: Node) -> dict[str, Any]:
    """Return the fields of a package that stand in its document: all but weights, calibration and identity.

    Raises
    ------
    PlanError
        If a field is missing or holds what cannot be right.
    InputError
        If the labels contradict each other.
    """
    dataset, configuration = node.child("dataset"), node.child("configuration")
    channels = dataset.child("channel_names")
    name = configuration.child("name").text()
    return {
        "name": node.child("name").text(),
        "software": node.child("software").text(),
        "licence": node.child("licence").text(),
        "mirror_axes": node.child("mirror_axes").integers(),
        "channel_names": tuple(channels.child(str(i)).text() for i in range(len(channels.keys()))),
        "scheme": scheme_from_json(dataset.value, source=DOCUMENT),
        "file_ending": dataset.child("file_ending").file_name(),
        "plan": plan_from_json(_object(node, "plan"), source=DOCUMENT),
        "configuration": configuration_from_json(name, configuration.value, source=DOCUMENT),
        "recipe": recipe_from_json(_object(node, "recipe"), source=DOCUMENT),
        "postprocessing": _steps(node),
        "facts": _object(node, "facts"),
        "fingerprint": _object(node, "fingerprint"),
    }


def _steps(node: Node) -> tuple[PostprocessingStep, ...]:
    entries = node.get("postprocessing")  # packages of version 0.1.0 have none
    return () if entries is None else steps_from_json([entry.integers() for entry in entries.items()], entries)


def _object(node: Node, key: str) -> dict[str, Any]:
    found = node.child(key)
    return {name: found.value[name] for name in found.keys()}


def hashes_of_weights(node: Node) -> dict[str, ContentHash]:
    """Return fold -> what its file of weights must be; PlanError if that does not stand there."""
    entries = node.child("weights")
    hashes = {}
    for fold in entries.keys():
        if not FOLD_NAME.fullmatch(fold):
            raise entries.wrong(f"'{fold}' cannot be the name of a fold")
        hashes[fold] = content_hash(entries.child(fold))
    return hashes


def content_hash(entry: Node) -> ContentHash:
    """Return what an entry says that a file must be; PlanError if it does not say it."""
    return ContentHash(sha256=entry.child("sha256").text(), size=entry.child("bytes").integer())


def chosen_folds(path: Path, hashes: Mapping[str, ContentHash], folds: Sequence[str] | None) -> tuple[str, ...]:
    """Return the folds to read, all where none are asked for; ModelError for one that is not there."""
    chosen = tuple(hashes) if folds is None else tuple(folds)
    lacking = [fold for fold in chosen if fold not in hashes]
    if lacking or not chosen:
        raise ModelError(f"The model {path} has the folds {', '.join(hashes)}; asked for was {', '.join(lacking)}.")
    return chosen


def verified(path: Path, name: str, data: bytes, expected: ContentHash) -> bytes:
    """Return the content of a file if it is what the document describes; else ModelError."""
    if len(data) < expected.size:
        raise ModelError(
            f"{path}: {name} is cut short: {len(data)} of {expected.size} bytes are there. Copy the model again."
        )
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise ModelError(f"{path}: {name} is not the file that {DOCUMENT} describes (SHA-256). Copy the model again.")
    return data
