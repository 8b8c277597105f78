"""Which model finds nuclei: one that the user names, or the one that comes with the program."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import delineate
from delineate.errors import ModelError, UsageError
from delineate.formats.instance_package import DOCUMENT
from delineate.training.machine import AUTO
from delineate.workflows.hovernet_model import load_hovernet_model
from delineate.workflows.segment_instances import InstanceModel, load_instance_model

SHIPPED = Path(delineate.__file__).parent / "models"
"""The models that come with the program, a folder each."""
STANDARD = "nuclei"
"""The one that is taken when none is named."""


def open_nuclei_model(
    path: Path | None = None,
    *,
    types: Path | None = None,
    device: str = AUTO,
    precision: str = AUTO,
    published_decoding: bool = False,
) -> InstanceModel:
    """Read a model of nuclei.

    Parameters
    ----------
    path
        A package that ``delineate run`` wrote, or a run's folder; or a checkpoint of HoVer-Net; or the name of a model
        that comes with the program (``nuclei``, ``nuclei-typed``), unless a model lies at a path called so. None:
        ``nuclei``.
    types
        JSON with the names of its types; None: as the model names them.
    device, precision
        Where and in which number format it computes.
    published_decoding
        HoVer-Net: decode as the published program does.

    Raises
    ------
    ModelError
        If there is no such model, or it is damaged.
    UsageError
        If the names do not fit the model's types.
    """
    folder = _found(path)
    if not (folder / DOCUMENT).is_file() and (folder / "model" / DOCUMENT).is_file():
        folder = folder / "model"
    if folder.is_file():
        model = load_hovernet_model(folder, device=device, published=published_decoding)
    else:
        model = load_instance_model(folder, device=device, precision=precision)
    return model if types is None else with_type_names(model, read_type_names(types))


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with this installation."""
    return tuple(sorted(document.parent.name for document in SHIPPED.glob(f"*/{DOCUMENT}")))


def _found(path: Path | None) -> Path:
    named = path or Path(STANDARD)
    models = shipped_models()
    if path is not None and (path.is_file() or (path / DOCUMENT).is_file() or (path / "model" / DOCUMENT).is_file()):
        return path
    if str(named) in models:
        return SHIPPED / named
    if path is not None and path.is_dir():
        return path
    known = f"This installation comes with {', '.join(models) or 'no model of nuclei'}."
    raise ModelError(
        f"{named}: expected a model that `delineate run` trained on pictures with instances (its package, or the run's "
        f"folder), a checkpoint of HoVer-Net, or a name; found nothing. {known} Name another with --model."
    )


def load_nuclei_model(path: Path | str | None = None, *, device: str = AUTO, precision: str = AUTO) -> InstanceModel:
    """Read a model of nuclei, by place or by name, for ``segment(picture)``; see :func:`open_nuclei_model`."""
    return open_nuclei_model(None if path is None else Path(path), device=device, precision=precision)


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
