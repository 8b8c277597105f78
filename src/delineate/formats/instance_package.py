"""A trained model of instances as a folder: ``model.json`` and ``weights.safetensors``; nothing in it is executed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.errors import ModelError, ResourceError
from delineate.execution.atomic import atomic_path
from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.instance_decoding import Decoding

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = "delineate-instances"
FORMAT_VERSION = 4
READABLE = (3, 4)
"""Version 3 had no scorer of candidates."""
SCORER = "scorer."
"""Tensors of this prefix are the scorer's, the others the network's."""
DOCUMENT = "model.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstancePackage:
    """A trained model of instances: values only; the network is built elsewhere."""

    name: str
    software: str
    licence: str
    type_names: tuple[str, ...]
    """Of types 1, 2, ...; empty: instances have no types."""
    widths: tuple[int, ...]
    """Channels per stage of the network."""
    decoding: Decoding
    typical_pixels: float
    """Median diameter, in pixels, of the instances that it was trained on; pictures are brought to this size."""
    pixel_um: float | None
    """Micrometres per pixel of the training pictures; None: not told, or different ones."""
    weights: Mapping[str, Tensor]
    zoom: float = 1.0
    """Pictures of the kind that it was trained on are made so many times larger before the network sees them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Data, splits, scores, command: plain JSON values."""
    identity: str = "not saved"


def write_instance_package(target: Path, package: InstancePackage) -> InstancePackage:
    """Write a package as a folder; it appears whole or not at all.

    Raises
    ------
    ResourceError
        If the folder stands already, cannot be written, or the disk is full.
    """
    from safetensors.torch import save

    if target.exists():
        raise ResourceError(f"{target} exists already; choose another folder or remove it.")
    tensors = {**package.weights, **_scorer_tensors(package.decoding)}
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": package.name,
        "software": package.software,
        "licence": package.licence,
        "type_names": list(package.type_names),
        "widths": list(package.widths),
        "decoding": package.decoding.settings,
        "typical_pixels": package.typical_pixels,
        "pixel_um": package.pixel_um,
        "zoom": package.zoom,
        "facts": package.facts,
        "weights": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)},
    }
    document = json.dumps(content, indent=1, allow_nan=False).encode()
    with atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / WEIGHTS).write_bytes(data)
        (temporary / DOCUMENT).write_bytes(document)
    return read_instance_package(target)


def is_instance_package(folder: Path) -> bool:
    """Say whether a folder is a model of instances."""
    try:
        return bool(json.loads((folder / DOCUMENT).read_bytes()).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def read_instance_package(folder: Path) -> InstancePackage:
    """Read a package.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of another format or version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        document = (folder / DOCUMENT).read_bytes()
        content, data = json.loads(document), (folder / WEIGHTS).read_bytes()
        version = (content["format"], content["format_version"])
        if version[0] != FORMAT or version[1] not in READABLE:
            raise ModelError(
                f"{folder}: expected {FORMAT} version {' or '.join(map(str, READABLE))}; found {version[0]} "
                f"{version[1]}. Train it again with this version of the program, or use the version that wrote it."
            )
        if hashlib.sha256(data).hexdigest() != content["weights"]["sha256"]:
            raise ModelError(f"{folder / WEIGHTS} is damaged: its hash is not the one in {DOCUMENT}. Copy it again.")
        tensors = load(data)
        return InstancePackage(
            name=str(content["name"]),
            software=str(content["software"]),
            licence=str(content["licence"]),
            type_names=tuple(map(str, content["type_names"])),
            widths=tuple(map(int, content["widths"])),
            decoding=_decoding_of(content["decoding"], tensors),
            typical_pixels=float(content["typical_pixels"]),
            pixel_um=None if content["pixel_um"] is None else float(content["pixel_um"]),
            weights={name: tensor for name, tensor in tensors.items() if not name.startswith(SCORER)},
            zoom=float(content.get("zoom", 1.0)),
            facts=content["facts"],
            identity=f"{content['name']} {hashlib.sha256(document).hexdigest()}",
        )
    except OSError as error:
        raise ModelError(
            f"{folder}: expected a model of instances ({DOCUMENT}, {WEIGHTS}); {error.strerror}."
        ) from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the model is damaged ({type(error).__name__}: {error}). Copy it again.") from error


def _scorer_tensors(decoding: Decoding) -> dict[str, Tensor]:
    import torch

    if decoding.scorer is None:
        return {}
    return {f"{SCORER}{name}": torch.from_numpy(values) for name, values in decoding.scorer.arrays().items()}


def _decoding_of(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Decoding:
    """Return the decoding that a document tells, with the scorer whose tensors there are."""
    plain = Decoding(**{one.name: told[one.name] for one in fields(Decoding) if one.name != "scorer"})
    named = {name.removeprefix(SCORER): tensor.numpy() for name, tensor in tensors.items() if name.startswith(SCORER)}
    if not named:
        return plain
    return replace(plain, scorer=CandidateScorer.of_arrays(named, told))
