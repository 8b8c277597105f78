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
import io
import json
import logging
import math
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from delineate.case.labels import LabelScheme
from delineate.errors import InputError, ModelError, PlanError, UsageError
from delineate.execution.atomic import atomic_path, write_text
from delineate.formats.instance_package import FORMAT as INSTANCES
from delineate.formats.nnunet.dataset_json import dataset_json, scheme_from_json
from delineate.formats.nnunet.json_node import Node
from delineate.formats.nnunet.plans_json import (
    configuration_from_json,
    configuration_to_json,
    plan_from_json,
    plan_to_json,
)
from delineate.formats.nnunet.postprocessing_json import steps_from_json
from delineate.formats.quantisation_json import QUANTISATION, quantisation_from_json, quantisation_to_json
from delineate.formats.recipe_json import recipe_from_json, recipe_to_json
from delineate.formats.trust_json import trust_from_json, trust_to_json
from delineate.formats.zip_entries import LARGEST_INFLATION, check_entries
from delineate.masks.postprocessing import PostprocessingStep
from delineate.metrics.trust import TrustReference
from delineate.planning.plan import Configuration, Plan
from delineate.planning.quantisation import Quantisation
from delineate.planning.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

FORMAT = "delineate-model"
FORMAT_VERSION = 1
DOCUMENT = "model.json"
TRUST = "trust.json"
PREVIOUS = "previous"
"""Sub-folder of a cascade that holds the package of the stage before."""
UNSAVED = "not saved"

LARGEST_DOCUMENT = 64 * 2**20
"""Bytes; a `model.json` has some tens of kilobytes."""

_FOLD = re.compile(r"[A-Za-z0-9_-]+")
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
    with _opened(path) as source:
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
    with _opened(folder) as source:
        node = _checked_document(folder, source.read(DOCUMENT, LARGEST_DOCUMENT))
    try:
        return {fold: found.sha256 for fold, found in _hashes(node).items()}
    except PlanError as error:
        raise ModelError(f"The model {folder} cannot be used: {error}") from error


def _read(path: Path, source: _Source, folds: Sequence[str] | None) -> tuple[ModelPackage, bytes]:
    """Return a package and its document; of a cascade also what stands in its sub-folder."""
    raw = source.read(DOCUMENT, LARGEST_DOCUMENT)
    node = _checked_document(path, raw)
    try:
        hashes = _hashes(node)
        chosen = _chosen(path, hashes, folds)
        values = _values(node)
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


def _read_previous(path: Path, source: _Source, expected: str) -> ModelPackage:
    package, raw = _read(path, source, None)
    if hashlib.sha256(raw).hexdigest() != expected:
        raise ModelError(f"{path / DOCUMENT} is not the file that the cascade was trained with. Copy the model again.")
    if package.previous is not None:
        raise ModelError(f"{path} is a cascade itself; a cascade has two stages. Copy the model again.")
    return package


def _read_trust(path: Path, source: _Source, node: Node) -> TrustReference | None:
    entry = node.get("trust")
    if entry is None:
        return None
    try:
        expected = _hash(entry)
        data = _verified(path, TRUST, source.read(TRUST, expected.size), expected)
        return trust_from_json(data, source=TRUST)
    except PlanError as error:
        raise ModelError(f"The model {path} cannot be used: {error}") from error


def _read_quantisation(path: Path, source: _Source, hashes: Mapping[str, str]) -> Quantisation | None:
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hash:
    sha256: str
    size: int


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
    wrong = [fold for fold in package.weights if not _FOLD.fullmatch(fold)]
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


# --- reading


class _Source(Protocol):
    def names(self) -> list[str]: ...

    def read(self, name: str, limit: int) -> bytes: ...

    def within(self, folder: str) -> _Source: ...


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.root.iterdir())

    def read(self, name: str, limit: int) -> bytes:
        file = self.root / name
        if not file.is_file():
            raise _missing(self.root, name, self.names())
        size = file.stat().st_size
        if size > limit:
            raise ModelError(f"{file} has {size} bytes, more than the {limit} that can be right. The model is damaged.")
        return file.read_bytes()

    def within(self, folder: str) -> _Folder:
        if not (self.root / folder).is_dir():
            raise _missing(self.root, f"{folder}/{DOCUMENT}", self.names())
        return _Folder(self.root / folder)


@dataclass(frozen=True, slots=True)
class _Zip:
    path: Path
    archive: zipfile.ZipFile
    prefix: str

    def names(self) -> list[str]:
        files = [i.filename for i in self.archive.infolist() if not i.is_dir()]
        inside = (name.removeprefix(self.prefix) for name in files if name.startswith(self.prefix))
        return sorted({name.split("/")[0] if name.startswith(f"{PREVIOUS}/") else name for name in inside})

    def read(self, name: str, limit: int) -> bytes:
        try:
            info = self.archive.getinfo(self.prefix + name)
        except KeyError as error:
            raise _missing(self.path, name, self.names()) from error
        if info.file_size > limit or info.file_size > LARGEST_INFLATION * max(info.compress_size, 1024):
            raise ModelError(
                f"{self.path}: {name} would become {info.file_size} bytes, which cannot be right. The model is refused."
            )
        return self.archive.read(info)

    def within(self, folder: str) -> _Zip:
        return _Zip(self.path, self.archive, f"{self.prefix}{folder}/")


def _missing(path: Path, name: str, found: Sequence[str]) -> ModelError:
    if name == DOCUMENT:
        plans = "there are plans, but nothing was trained with them yet" if "plans.json" in found else "found neither"
        return ModelError(
            f"There is no trained model in {path}: expected {DOCUMENT}, or plans.json and fold_0 to fold_4 of nnU-Net; "
            f"{plans}. Train it, copy it again if it was cut short, or give another folder or zip."
        )
    return ModelError(f"The model {path} is incomplete: {name} is missing. Copy or export the model again.")


@contextmanager
def _opened(path: Path) -> Iterator[_Source]:
    if path.is_dir():
        yield _Folder(path)
        return
    if not path.is_file():
        raise ModelError(
            f"There is no model at {path}. Give the folder or the zip of a model or of a run, or nnU-Net's."
        )
    try:
        with zipfile.ZipFile(io.BytesIO() if path.stat().st_size == 0 else path) as archive:
            check_entries(path, archive.infolist())
            yield _Zip(path, archive, _prefix(archive))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(
            f"{path} is no readable zip of a model: {error}. It may be cut short or of another kind; copy it again."
        ) from error


def _prefix(archive: zipfile.ZipFile) -> str:
    """Return the folder inside the zip in which the model lies, with its slash; empty if at the top."""
    found = [PurePosixPath(name) for name in archive.namelist() if PurePosixPath(name).name == DOCUMENT]
    depth = min((len(p.parts) for p in found), default=0)
    shallow = [p for p in found if len(p.parts) == depth]
    return f"{shallow[0].parent}/" if depth == 2 and len(shallow) == 1 else ""


def _checked_document(path: Path, raw: bytes) -> Node:
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


def _values(node: Node) -> dict[str, Any]:
    """Return the fields of a package but for weights and identity."""
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


def _hashes(node: Node) -> dict[str, _Hash]:
    entries = node.child("weights")
    hashes = {}
    for fold in entries.keys():
        if not _FOLD.fullmatch(fold):
            raise entries.wrong(f"'{fold}' cannot be the name of a fold")
        hashes[fold] = _hash(entries.child(fold))
    return hashes


def _hash(entry: Node) -> _Hash:
    return _Hash(sha256=entry.child("sha256").text(), size=entry.child("bytes").integer())


def _chosen(path: Path, hashes: Mapping[str, _Hash], folds: Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(hashes) if folds is None else tuple(folds)
    lacking = [fold for fold in chosen if fold not in hashes]
    if lacking or not chosen:
        raise ModelError(f"The model {path} has the folds {', '.join(hashes)}; asked for was {', '.join(lacking)}.")
    return chosen


def _warn_of_surplus(path: Path, names: Sequence[str], own: Set[str]) -> None:
    surplus = [name for name in names if name != DOCUMENT and name not in own]
    if surplus:
        logger.warning("The model %s holds other files, which are not opened: %s", path, ", ".join(surplus))


def _read_weights(path: Path, source: _Source, fold: str, expected: _Hash) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    name = _file_name(fold)
    data = _verified(path, name, source.read(name, expected.size), expected)
    try:
        weights: dict[str, Tensor] = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: {name} holds no weights in safetensors format: {error}.") from error
    return weights


def _verified(path: Path, name: str, data: bytes, expected: _Hash) -> bytes:
    """Return the content of a file if it is what the document describes."""
    if len(data) < expected.size:
        raise ModelError(
            f"{path}: {name} is cut short: {len(data)} of {expected.size} bytes are there. Copy the model again."
        )
    if hashlib.sha256(data).hexdigest() != expected.sha256:
        raise ModelError(f"{path}: {name} is not the file that {DOCUMENT} describes (SHA-256). Copy the model again.")
    return data
