"""What a dataset.json declares: channels, labels, regions, ignore; both spellings (nnU-Net v2, and MSD and nnU-Net v1).

All faults of the file are collected and told at once. Knows JSON values; looks at no image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delineate.case import LabelScheme, Structure
from delineate.case.labels import BACKGROUND_NAME, IGNORE_NAME
from delineate.errors import DatasetError, LabelError


@dataclass(kw_only=True)
class Declaration:
    """A dataset.json under examination: its content and the faults found so far."""

    path: Path
    content: dict[str, Any]
    faults: list[str] = field(default_factory=list)

    def finish(self) -> None:
        """Stop here if the file has faults.

        Raises
        ------
        DatasetError
            With all faults found.
        """
        if self.faults:
            raise DatasetError(f"{self.path} has {len(self.faults)} fault(s); correct the file.", self.faults)


def read_declaration(path: Path) -> Declaration:
    """Read a JSON object.

    Raises
    ------
    DatasetError
        If the file is not there or is not a JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a JSON file; there is none of that name.") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected a JSON object; the file cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected a JSON object {{...}}; found a {type(content).__name__}.")
    return Declaration(path=path, content=content)


def declared_channels(declaration: Declaration) -> tuple[str, ...]:
    """Return the channel names of ``channel_names`` or ``modality`` ({"0": "CT"}) in channel order."""
    names = declaration.content.get("channel_names", declaration.content.get("modality"))
    if isinstance(names, list):
        names = {str(i): name for i, name in enumerate(names)}
    if not isinstance(names, Mapping) or not names:
        declaration.faults.append(f'expected "channel_names": {{"0": "CT", ...}} (or "modality"); found {names!r}')
        return ("image",)
    if sorted(names) != sorted(str(i) for i in range(len(names))):
        declaration.faults.append(f"channels must be numbered from 0 without gaps; found {sorted(names)}")
        return tuple(str(name) for name in names.values())
    return tuple(str(names[str(i)]) for i in range(len(names)))


def declared_scheme(declaration: Declaration) -> LabelScheme:
    """Return the label scheme; a placeholder if it has faults, which are then in ``declaration.faults``."""
    labels = declaration.content.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        declaration.faults.append(f'expected "labels": {{"background": 0, "liver": 1, ...}}; found {labels!r}')
        return LabelScheme.simple("unknown")
    try:
        values = {name: _values(value) for name, value in _by_name(labels).items()}
        return _scheme(values, declaration.content.get("regions_class_order"))
    except (LabelError, ValueError, TypeError) as error:
        declaration.faults.append(f"labels: {error}")
        return LabelScheme.simple("unknown")


def declared_count(declaration: Declaration, found: int) -> int:
    """Return ``numTraining``, or the number found if the file does not say."""
    count = declaration.content.get("numTraining", found)
    if not isinstance(count, int) or count < 0:
        declaration.faults.append(f'"numTraining" must be a whole number; found {count!r}')
        return found
    return count


def _by_name(labels: Mapping[str, Any]) -> dict[str, Any]:
    """Turn {"1": "liver"} (MSD, nnU-Net v1) into {"liver": 1}; leave {"liver": 1} as it is."""
    if all(str(key).lstrip("-").isdigit() for key in labels) and all(isinstance(v, str) for v in labels.values()):
        if len(set(labels.values())) != len(labels):
            raise LabelError(f"names must be unique; found {list(labels.values())}.")
        return {str(name): int(value) for value, name in labels.items()}
    return {str(name): value for name, value in labels.items()}


def _values(value: Any) -> tuple[int, ...]:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    if not all(isinstance(n, int | str) and not isinstance(n, bool) for n in numbers):
        raise LabelError(f"a label is a whole number or a list of them; found {value!r}.")
    return tuple(int(n) for n in numbers)


def _scheme(values: dict[str, tuple[int, ...]], order: Any) -> LabelScheme:
    background = next((name for name in values if name.casefold() == BACKGROUND_NAME), None)
    zero = background or next((name for name, v in values.items() if v == (0,)), None)
    if zero is None or values.pop(zero) != (0,):
        raise LabelError('the background must be declared as 0: "background": 0.')
    ignore = values.pop(IGNORE_NAME, None)
    structures = tuple(Structure(name=name, values=v) for name, v in values.items())
    regions = any(len(s.values) > 1 for s in structures)
    if not regions:
        structures = tuple(sorted(structures, key=lambda s: s.values))
    region_order = tuple(int(v) for v in order) if regions and order is not None else None
    return LabelScheme(structures=structures, ignore=ignore[0] if ignore else None, region_order=region_order)
