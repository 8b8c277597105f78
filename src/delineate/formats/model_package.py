"""A trained model as a folder, or as a zip of that folder: one JSON with everything that is known, and weights.

    model.json              plan, configuration, recipe, labels, channels, facts of the training, hashes of the weights
    fold_0.safetensors      the weights of one fold; as many files as there are folds
    trust.json              what is ordinary for the model; absent in packages that were not calibrated
    quantisation.json       only where int8 was checked: ranges of the layers, and what the check has found
    previous/               only in a cascade: the package of the stage before, in the same form

Nothing in a package is ever executed: weights are safetensors, which hold numbers only, and any other file that lies
there (a pickle, a script) is left alone. Every file of weights is compared with its SHA-256 before it is used. A zip is
read in memory; nothing of it is unpacked to the disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delineate.case.labels import LabelScheme
from delineate.errors import InputError, ModelError, PlanError, UsageError
from delineate.execution.atomic import atomic_path, remove_abandoned, write_text
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.json_node import Node
from delineate.formats.nnunet.plans_json import configuration_to_json, plan_to_json
from delineate.formats.package_document import (
    FOLD_NAME,
    FORMAT,
    FORMAT_VERSION,
    LARGEST_DOCUMENT,
    ContentHash,
    checked_document,
    chosen_folds,
    content_hash,
    hashes_of_weights,
    package_values,
    verified,
)
from delineate.formats.package_source import DOCUMENT, PREVIOUS, PackageSource, opened_package
from delineate.formats.quantisation_json import QUANTISATION, quantisation_from_json, quantisation_to_json
from delineate.formats.recipe_json import recipe_to_json
from delineate.formats.trust_json import trust_from_json, trust_to_json
from delineate.masks.postprocessing import PostprocessingStep
from delineate.metrics.trust import TrustReference
from delineate.planning.plan import Configuration, Plan
from delineate.planning.quantisation import Quantisation
from delineate.planning.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

__all__ = [
    "DOCUMENT",
    "PREVIOUS",
    "TRUST",
    "UNSAVED",
    "ModelPackage",
    "read_package",
    "store_quantisation",
    "weight_hashes",
    "write_package",
]

TRUST = "trust.json"
UNSAVED = "not saved"

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""Equal packages give equal zips."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelPackage:
    """A trained model: values only; the networks are built elsewhere."""

    name: str
    """What the model is called: the data set, usually."""
    software: str
    """Program and version that trained it."""
    plan: Plan
    configuration: Configuration
    """The one that was trained; in full, because a budget may have changed it against the plan's."""
    recipe: Recipe
    scheme: LabelScheme
    channel_names: tuple[str, ...]
    file_ending: str
    """Of the training images, with the dot; predictions get the same."""
    mirror_axes: tuple[int, ...] = ()
    """Patch axes that may be flipped in prediction."""
    weights: Mapping[str, Mapping[str, Tensor]]
    """Fold (``0`` ... ``4``, ``all``) -> parameter name -> tensor on the CPU."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is worth knowing of the training: numbers of cases, seconds, scores; plain JSON values."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the training data, to tell whether a new image resembles them; plain JSON values."""
    postprocessing: tuple[PostprocessingStep, ...] = ()
    """What is done to label maps after prediction; chosen on cross-validation."""
    previous: ModelPackage | None = None
    """The stage before, in a cascade: its label map is an input of this one. A cascade without it needs that label map
    with every image."""
    trust: TrustReference | None = None
    """What is ordinary for the model, to tell when not to trust it, and the temperature of its probabilities; None: it
    was not calibrated."""
    quantisation: Quantisation | None = None
    """Whether and how these very weights may be computed in int8; None: nobody has checked it."""
    licence: str = ""
    """Under which terms the weights may be used; empty: not stated."""
    identity: str = UNSAVED
    """Name and SHA-256 of ``model.json``, which holds the hashes of the weights; set by writing and reading."""
    network_identity: str = UNSAVED
    """As ``identity``, but equal for packages that differ in post-processing and calibration only: whatever decides
    what the networks say."""

    @property
    def input_channels(self) -> int:
        """What the network takes: image channels, and one per label of the previous stage in a cascade (nnU-Net)."""
        return self.configuration.input_channels(self.scheme)


def write_package(target: Path, package: ModelPackage) -> ModelPackage:
    """Write a package as a folder, or as one file if ``target`` ends in ``.zip``; whole or not at all.

    An older package of that name is replaced.

    Returns
    -------
    ModelPackage
        The same package with its identity.

    Raises
    ------
    UsageError
        If the target exists and is no model package, there is no fold, or a fold's name cannot be a file name.
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    _check_writable(target, package)
    remove_abandoned(target.parent, target.name)
    with atomic_path(target) as temporary:
        if target.suffix == ".zip":
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                document = _write_files(package, lambda name, data: _put(archive, name, data))
        else:
            document = _write_files(package, lambda name, data: _store(temporary / name, data))
            _make_room(target)
    identity, network_identity = _identities(package.name, document)
    return replace(package, identity=identity, network_identity=network_identity)


def read_package(path: Path, *, folds: Sequence[str] | None = None) -> ModelPackage:
    """Read a package from a folder or a zip.

    Parameters
    ----------
    path
        Folder with ``model.json``, or a zip that holds these files, at its top or in one folder.
    folds
        Which folds' weights to read; None: all.

    Raises
    ------
    ModelError
        If the package is missing, incomplete, damaged, of another version, or lacks a fold.
    UnsafeModelError
        If a zip holds links or names that lead out of it.
    """
    with opened_package(path) as source:
        return _read(path, source, folds)[0]


def store_quantisation(folder: Path, quantisation: Quantisation) -> Path:
    """Write the verdict on int8 into the folder of a package and return the file.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    write_text(folder / QUANTISATION, quantisation_to_json(quantisation))
    return folder / QUANTISATION


def weight_hashes(folder: Path) -> dict[str, str]:
    """Return fold -> SHA-256 of its weights, as the document in the folder of a package says.

    Raises
    ------
    ModelError
        If there is no package in the folder, or it is damaged.
    """
    with opened_package(folder) as source:
        node = checked_document(folder, source.read(DOCUMENT, LARGEST_DOCUMENT))
    try:
        return {fold: found.sha256 for fold, found in hashes_of_weights(node).items()}
    except PlanError as error:
        raise ModelError(f"The model {folder} cannot be used: {error}") from error


def _read(path: Path, source: PackageSource, folds: Sequence[str] | None) -> tuple[ModelPackage, bytes]:
    """Return a package and its document; of a cascade also what stands in its sub-folder."""
    raw = source.read(DOCUMENT, LARGEST_DOCUMENT)
    node = checked_document(path, raw)
    try:
        hashes = hashes_of_weights(node)
        chosen = chosen_folds(path, hashes, folds)
        values = package_values(node)
        stage = node.get("previous")
        expected = None if stage is None else stage.child("sha256").text()
    except (PlanError, InputError) as error:
        raise ModelError(f"The model {path} cannot be used: {error}") from error
    if expected is not None and values["configuration"].previous_stage is None:
        raise ModelError(
            f"The model {path} holds a stage before it, but is no cascade. Copy or export the model again."
        )
    previous = None if expected is None else _read_previous(path / PREVIOUS, source.within(PREVIOUS), expected)
    own = {*map(_file_name, hashes), QUANTISATION, *((PREVIOUS,) if expected else ())}
    own |= {TRUST} if node.get("trust") else set()
    _warn_of_surplus(path, source.names(), own)
    weights = {fold: _read_weights(path, source, fold, hashes[fold]) for fold in chosen}
    quantisation = _read_quantisation(path, source, {fold: hashes[fold].sha256 for fold in chosen})
    identity, network_identity = _identities(values["name"], raw)
    found = {**values, "weights": weights, "previous": previous, "quantisation": quantisation}
    found["trust"] = _read_trust(path, source, node)
    return ModelPackage(**found, identity=identity, network_identity=network_identity), raw


def _read_previous(path: Path, source: PackageSource, expected: str) -> ModelPackage:
    package, raw = _read(path, source, None)
    if hashlib.sha256(raw).hexdigest() != expected:
        raise ModelError(f"{path / DOCUMENT} is not the file that the cascade was trained with. Copy the model again.")
    if package.previous is not None:
        raise ModelError(f"{path} is a cascade itself; a cascade has two stages. Copy the model again.")
    return package


def _read_trust(path: Path, source: PackageSource, node: Node) -> TrustReference | None:
    entry = node.get("trust")
    if entry is None:
        return None
    try:
        expected = content_hash(entry)
        data = verified(path, TRUST, source.read(TRUST, expected.size), expected)
        return trust_from_json(data, source=TRUST)
    except PlanError as error:
        raise ModelError(f"The model {path} cannot be used: {error}") from error


def _read_quantisation(path: Path, source: PackageSource, hashes: Mapping[str, str]) -> Quantisation | None:
    """Return the verdict on int8 if there is one on just these weights."""
    if QUANTISATION not in source.names():
        return None
    try:
        found = quantisation_from_json(source.read(QUANTISATION, LARGEST_DOCUMENT))
    except PlanError as error:
        raise ModelError(f"The model {path} cannot be used: {error} Remove that file or quantise again.") from error
    if dict(found.weights) != dict(hashes):
        logger.info("The verdict on int8 in %s is one on other weights or folds; it does not count.", path)
        return None
    return found


def _file_name(fold: str) -> str:
    return f"fold_{fold}.safetensors"


def _identities(name: str, document: bytes) -> tuple[str, str]:
    content = {key: value for key, value in json.loads(document).items() if key not in ("postprocessing", "trust")}
    network = json.dumps(content, sort_keys=True).encode()
    whole, part = (hashlib.sha256(data).hexdigest() for data in (document, network))
    return f"{name} sha256:{whole}", f"{name} sha256:{part}"


# --- writing


def _check_writable(target: Path, package: ModelPackage) -> None:
    _check_content(package)
    if target.is_dir() and any(target.iterdir()) and not (target / DOCUMENT).is_file():
        raise UsageError(f"{target} holds other files and no model; choose a new folder for the model.")


def _check_content(package: ModelPackage) -> None:
    if not package.weights:
        raise UsageError(f"A model package needs the weights of at least one fold; '{package.name}' has none.")
    wrong = [fold for fold in package.weights if not FOLD_NAME.fullmatch(fold)]
    if wrong:
        raise UsageError(f"Folds are named by letters, digits, '-' and '_'; got {wrong}.")
    if package.previous is not None:
        if package.configuration.previous_stage is None:
            raise UsageError(
                f"The configuration {package.configuration.name} has no stage before it; got a model of one."
            )
        _check_content(package.previous)


def _write_files(package: ModelPackage, put: Callable[[str, bytes], None]) -> bytes:
    """Write the weights one fold after the other, then the document; return the document."""
    from safetensors.torch import save

    hashes = {}
    for fold, weights in package.weights.items():
        data = save({name: _detached(tensor) for name, tensor in weights.items()})
        put(_file_name(fold), data)
        hashes[fold] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    verdict, digests = package.quantisation, {fold: one["sha256"] for fold, one in hashes.items()}
    if verdict is not None and dict(verdict.weights) == digests:
        put(QUANTISATION, quantisation_to_json(verdict).encode())
    content = {**_document(package), "weights": hashes}
    if package.trust is not None:
        trust = trust_to_json(package.trust).encode()
        put(TRUST, trust)
        content["trust"] = {"sha256": hashlib.sha256(trust).hexdigest(), "bytes": len(trust)}
    if package.previous is not None:
        before = _write_files(package.previous, lambda name, data: put(f"{PREVIOUS}/{name}", data))
        content["previous"] = {"sha256": hashlib.sha256(before).hexdigest()}
    document = json.dumps(content, indent=2, allow_nan=False).encode()
    put(DOCUMENT, document)
    return document


def _detached(tensor: Tensor) -> Tensor:
    """Return a copy of its own memory: tensors may share theirs, files cannot."""
    import torch

    return torch.as_tensor(tensor).detach().cpu().clone(memory_format=torch.contiguous_format)


def _document(package: ModelPackage) -> dict[str, Any]:
    cases = package.facts.get("training_cases", 0)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": package.name,
        "software": package.software,
        "licence": package.licence,
        "mirror_axes": list(package.mirror_axes),
        "dataset": dataset_json(
            channel_names=package.channel_names,
            scheme=package.scheme,
            training_cases=cases,
            file_ending=package.file_ending,
        ),
        "plan": plan_to_json(package.plan),
        "configuration": _configuration(package.configuration),
        "recipe": recipe_to_json(package.recipe),
        "postprocessing": [list(step.values) for step in package.postprocessing],
        "facts": _plain(package.facts),
        "fingerprint": _plain(package.fingerprint),
    }


def _configuration(configuration: Configuration) -> dict[str, Any]:
    parent = configuration.inherits_from
    origin = {} if parent is None else {"inherits_from": parent}
    return {"name": configuration.name, **origin, **configuration_to_json(configuration)}


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: keys as text, numpy numbers as numbers, what is not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _store(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def _put(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)


def _make_room(target: Path) -> None:
    """Move an older package out of the way; it goes only now that the new one is complete beside it."""
    if target.is_dir():
        retired = Path(tempfile.mkdtemp(prefix=".replaced-", dir=target.parent))
        target.replace(retired / target.name)
        shutil.rmtree(retired, ignore_errors=True)


def _warn_of_surplus(path: Path, names: Sequence[str], own: Set[str]) -> None:
    surplus = [name for name in names if name != DOCUMENT and name not in own]
    if surplus:
        logger.warning("The model %s holds other files, which are not opened: %s", path, ", ".join(surplus))


def _read_weights(path: Path, source: PackageSource, fold: str, expected: ContentHash) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = _file_name(fold)
    data = verified(path, name, source.read(name, expected.size), expected)
    try:
        weights: dict[str, Tensor] = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: {name} holds no weights in safetensors format: {error}.") from error
    return weights
