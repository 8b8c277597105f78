"""Reading foreign JSON: every value is taken through a node that knows where it stands and complains by name."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delineate.errors import PlanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    """A value of a JSON document and the path to it.

    Every reading method raises :class:`~delineate.errors.PlanError` naming file and key if the value is not of the
    kind that is asked for.
    """

    value: Any
    source: str
    """File name, for messages."""
    path: str = ""

    def child(self, key: str) -> Node:
        """Return the value under a key that must be there.

        Raises
        ------
        PlanError
            If this is not an object or the key is missing.
        """
        found = self.get(key)
        if found is None:
            raise self.wrong(f"the key '{key}' is missing")
        return found

    def get(self, key: str) -> Node | None:
        """Return the value under a key, or None if the key is missing.

        Raises
        ------
        PlanError
            If this is not an object.
        """
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"expected an object, found {_shown(self.value)}")
        if key not in self.value:
            return None
        return Node(value=self.value[key], source=self.source, path=f"{self.path}.{key}" if self.path else key)

    def keys(self) -> tuple[str, ...]:
        """Return the keys of an object, in the order of the file.

        Raises
        ------
        PlanError
            If this is not an object.
        """
        if not isinstance(self.value, Mapping):
            raise self.wrong(f"expected an object, found {_shown(self.value)}")
        return tuple(str(key) for key in self.value)

    def items(self) -> Iterator[Node]:
        """Yield the elements of a list.

        Raises
        ------
        PlanError
            If this is not a list.
        """
        if not isinstance(self.value, list | tuple):
            raise self.wrong(f"expected a list, found {_shown(self.value)}")
        for index, value in enumerate(self.value):
            yield Node(value=value, source=self.source, path=f"{self.path}[{index}]")

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self.wrong(f"expected a text, found {_shown(self.value)}")
        return self.value

    def file_name(self) -> str:
        """Return a string that can be a part of a file name: it leads nowhere else."""
        text = self.text()
        if text in ("", ".", "..") or any(letter in text for letter in "/\\\0"):
            raise self.wrong(f"expected a name that can stand in a file name, found {_shown(text)}")
        return text

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.wrong(f"expected true or false, found {_shown(self.value)}")
        return self.value

    def integer(self) -> int:
        """Return a whole number; 3.0 counts as 3."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or self.value != int(self.number()):
            raise self.wrong(f"expected a whole number, found {_shown(self.value)}")
        return int(self.value)

    def number(self) -> float:
        """Return a finite number; a whole number stays an int."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise self.wrong(f"expected a finite number, found {_shown(self.value)}")
        return self.value

    def integers(self) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        return tuple(node.integer() for node in self.items())

    def numbers(self) -> tuple[float, ...]:
        """Return a list of finite numbers."""
        return tuple(node.number() for node in self.items())

    def wrong(self, what: str) -> PlanError:
        """Return the error that says what is wrong here."""
        where = f" at '{self.path}'" if self.path else ""
        return PlanError(f"{self.source}{where}: {what}.")


def read_document(path: Path) -> Node:
    """Read a JSON file.

    Raises
    ------
    PlanError
        If the file is missing, cannot be read, or is not JSON.
    """
    try:
        return Node(value=json.loads(path.read_text(encoding="utf-8")), source=str(path))
    except FileNotFoundError as error:
        raise PlanError(f"{path} does not exist.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} cannot be read: {error}.") from error
    except RecursionError as error:
        raise PlanError(f"{path} is nested too deeply to be what it should be. Write it again.") from error
    except json.JSONDecodeError as error:
        raise PlanError(
            f"{path} is not valid JSON (line {error.lineno}: {error.msg}). The file may be cut short; write it again."
        ) from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
