"""Which model finds nuclei: one that the user names, or the one that comes with the program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import delineate
from delineate.errors import ModelError, UsageError
from delineate.formats.instance_package import DOCUMENT
from delineate.inference.instance_maps import InstancePredictor
from delineate.training.machine import AUTO
from delineate.workflows.hovernet_model import load_hovernet_model
from delineate.workflows.segment_instances import InstanceModel, load_instance_model

SHIPPED = Path(delineate.__file__).parent / "models"
"""Where the models that come with the program lie, each in a folder of its name."""
UNTYPED, TYPED = "nuclei", "nuclei-typed"
"""Their names: for every picture, and for haematoxylin and eosin with the types of its training."""


def open_nuclei_model(
    path: Path | None = None,
    *,
    types: Path | None = None,
    typed: bool = False,
    device: str = AUTO,
    precision: str = AUTO,
    published_decoding: bool = False,
    tta: bool = False,
    confidence: float | None = None,
) -> InstanceModel:
    """Read a model of nuclei.

    Parameters
    ----------
    path
        A package that ``delineate run`` wrote, or a run's folder; a checkpoint of HoVer-Net; or the name of a model of
        the program, ``nuclei`` or ``nuclei-typed``. None: one of these, by ``types`` and ``typed``.
    types
        JSON with the names of its types; None: as the model names them.
    typed
        The types of nuclei are wanted.
    device, precision
        Where and in which number format it computes.
    published_decoding
        HoVer-Net: decode as the published program does.
    tta
        Average over the eight orientations of a picture (test-time augmentation); not with HoVer-Net.
    confidence
        Nuclei are told that have more, from 0 to 1; None: what was best on the held-out pictures of the training.

    Raises
    ------
    ModelError
        If there is no model, or it is damaged.
    UsageError
        If the names of the types do not fit the model, or it has none and types are wanted; or a confidence is asked
        for that it does not tell.
    """
    folder = find_package(path or Path(TYPED if typed or types is not None else UNTYPED))
    if folder.is_file() and tta:
        raise UsageError(f"--tta is for models of `delineate run`; {folder} is a checkpoint of HoVer-Net.")
    if folder.is_file():
        model = load_hovernet_model(folder, device=device, published=published_decoding)
    elif published_decoding:
        raise UsageError(
            f"--published-decoding is for checkpoints of HoVer-Net; {folder} is a model of `delineate run`."
        )
    else:
        model = load_instance_model(folder, device=device, precision=precision, tta=tta)
    if confidence is not None:
        model = surer_than(model, confidence)
    if typed and not model.package.type_names:
        raise UsageError(f"The model {model.package.name} tells no types; leave --typed away, or use another model.")
    return model if types is None else with_type_names(model, read_type_names(types))


def find_package(path: Path) -> Path:
    """Return the folder (or checkpoint) that a path means: itself, a run's model, or a model of the program by name.

    Raises
    ------
    ModelError
        If it is the name of a model that does not come with this installation.
    """
    inner = path / "model"
    if path.is_file() or (path / DOCUMENT).is_file():
        return path
    if (inner / DOCUMENT).is_file():
        return inner
    if str(path) not in (UNTYPED, TYPED):
        return path
    if not (SHIPPED / path / DOCUMENT).is_file():
        raise ModelError(
            f"This installation has no model {path} (expected in {SHIPPED / path}). Name one with --model: a "
            "package that `delineate run` trained on pictures with instances."
        )
    return SHIPPED / path


def load_nuclei_model(
    path: Path | str | None = None,
    *,
    device: str = AUTO,
    precision: str = AUTO,
    tta: bool = False,
    confidence: float | None = None,
) -> InstanceModel:
    """Read a model of nuclei for ``segment(picture)``; see :func:`open_nuclei_model`."""
    folder = None if path is None else Path(path)
    return open_nuclei_model(folder, device=device, precision=precision, tta=tta, confidence=confidence)


def surer_than(model: InstanceModel, confidence: float) -> InstanceModel:
    """Return the model that tells the nuclei with more than a confidence.

    Raises
    ------
    UsageError
        If it is not a number from 0 to below 1, or the model tells none.
    """
    if not 0 <= confidence < 1:
        raise UsageError(f"A confidence lies from 0 to below 1; got {confidence}.")
    predictor = model.predictor
    if not isinstance(predictor, InstancePredictor) or predictor.decoding.scorer is None:
        raise UsageError(
            f"The model {model.package.name} tells no confidence. Leave --confidence away, or train the model again "
            "with this version of the program."
        )
    decoding = replace(predictor.decoding, scorer=predictor.decoding.scorer.surer_than(confidence))
    return replace(model, predictor=replace(predictor, decoding=decoding))


def with_type_names(model: InstanceModel, names: tuple[str, ...]) -> InstanceModel:
    """Return the model with other names of its types.

    Raises
    ------
    UsageError
        If there are not as many as types.
    """
    known = model.package.type_names
    if len(names) != len(known):
        raise UsageError(f"The model tells {len(known)} types ({', '.join(known) or 'none'}); got {len(names)} names.")
    return replace(model, package=replace(model.package, type_names=names))


def read_type_names(path: Path) -> tuple[str, ...]:
    """Read names of types 1, 2, ...: ``{"1": "name"}``, or HoVer-Net's ``{"1": ["name", [r, g, b]]}``; 0 is left out.

    Raises
    ------
    UsageError
        If the file is missing or has another form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        numbered = {int(key): value for key, value in content.items() if int(key) > 0}
        if sorted(numbered) != list(range(1, len(numbered) + 1)):
            raise ValueError(f"numbers {sorted(numbered)}")
        return tuple(str(v if isinstance(v, str) else v[0]) for _, v in sorted(numbered.items()))
    except (OSError, ValueError, AttributeError, TypeError, IndexError, KeyError) as error:
        raise UsageError(f'{path}: expected names of types, {{"1": "inflammatory", "2": ...}}; {error}.') from error
