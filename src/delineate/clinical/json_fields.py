"""Fields of a JSON object that a person wrote: each is asked for once, and all faults are gathered.

A wrong field gives a harmless value of its type and a fault; whoever reads the object raises all faults at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Word = TypeVar("Word", bound=str)


@dataclass(kw_only=True, slots=True)
class Fields:
    """An object under examination."""

    content: Mapping[str, Any]
    faults: list[str]
    """Shared by an object and its parts."""
    where: str = ""
    """Path of a part, such as ``primary.``."""
    _asked: set[str] = field(default_factory=set)

    def part(self, name: str, *, optional: bool = False) -> Fields:
        """Return an object within the object; an empty one if it is missing."""
        found = self._get(name, {} if optional else None)
        if not isinstance(found, Mapping):
            self._fault(name, "an object {...}", found)
            # what is missing as a whole is told once, not field by field
            return Fields(content={}, faults=[], where=f"{self.where}{name}.")
        return Fields(content=found, faults=self.faults, where=f"{self.where}{name}.")

    def constant(self, name: str, wanted: str) -> None:
        """Require a text."""
        if self._get(name) != wanted:
            self._fault(name, f"'{wanted}'", self.content.get(name))

    def text(self, name: str) -> str:
        """Return a text that is not empty."""
        found = self._get(name)
        if isinstance(found, str) and found.strip():
            return found.strip()
        self._fault(name, "a text", found)
        return ""

    def texts(self, name: str, *, least: int) -> tuple[str, ...]:
        """Return different texts."""
        found = self._get(name, [] if least == 0 else None)
        fits = isinstance(found, list) and all(isinstance(v, str) and v.strip() for v in found)
        if fits and len(found) >= least and len(set(found)) == len(found):
            return tuple(found)
        self._fault(name, f"a list of {least or 'any number of'} or more different texts", found)
        return ()

    def word(self, name: str, known: Sequence[Word]) -> Word:
        """Return one of the known words."""
        found = self._get(name)
        if found in known:
            return known[known.index(found)]
        self._fault(name, f"one of {', '.join(known)}", found)
        return known[0]

    def words(self, name: str, known: Sequence[Word]) -> tuple[Word, ...]:
        """Return one or more different known words."""
        found = self._get(name)
        if isinstance(found, list) and found and all(v in known for v in found) and len(set(found)) == len(found):
            return tuple(known[known.index(v)] for v in found)
        self._fault(name, f"a list of different words of {', '.join(known)}", found)
        return ()

    def labels(self, name: str) -> dict[str, int]:
        """Return an object of one or more names with label values of 1 or more."""
        found = self._get(name)
        if isinstance(found, Mapping) and found and all(_is_integer(v) and v > 0 for v in found.values()):
            return dict(found)
        self._fault(name, 'names with label values of 1 or more, {"liver": 1}', found)
        return {}

    def sayings(self, name: str) -> dict[str, str]:
        """Return an object of texts; empty if missing."""
        found = self._get(name, {})
        if isinstance(found, Mapping) and all(isinstance(v, str) for v in found.values()):
            return dict(found)
        self._fault(name, "an object of texts", found)
        return {}

    def number(self, name: str, *, default: float | None = None, **bounds: float) -> float:
        """Return a number within ``low``, ``high`` (included), ``above``, ``below`` (excluded)."""
        found = self._get(name, default)
        if _is_number(found) and _within(found, bounds):
            return float(found)
        if default is not None and found == default:
            return default
        self._fault(name, "a number" + _bounds_in_words(bounds), found)
        return 1.0

    def optional_number(self, name: str, **bounds: float) -> float | None:
        """Return a number within bounds, or None if it is missing or null."""
        if self.content.get(name) is None:
            self._asked.add(name)
            return None
        return self.number(name, default=None, **bounds)

    def integer(self, name: str, *, default: int | None = None, **bounds: float) -> int:
        """Return a whole number within bounds."""
        found = self._get(name, default)
        if _is_integer(found) and _within(found, bounds):
            return int(found)
        self._fault(name, "a whole number" + _bounds_in_words(bounds), found)
        return 1

    def optional_integer(self, name: str, **bounds: float) -> int | None:
        """Return a whole number within bounds, or None if it is missing or null."""
        if self.content.get(name) is None:
            self._asked.add(name)
            return None
        return self.integer(name, default=None, **bounds)

    def integers(self, name: str, *, default: tuple[int, ...], **bounds: float) -> tuple[int, ...]:
        """Return one or more whole numbers within bounds."""
        found = self._get(name, list(default))
        if isinstance(found, list) and found and all(_is_integer(v) and _within(v, bounds) for v in found):
            return tuple(found)
        self._fault(name, "a list of whole numbers" + _bounds_in_words(bounds), found)
        return default

    def refuse_unknown(self) -> None:
        """Note fields that nobody asked for: misspelt, or of another version."""
        self.faults += [
            f"{self.where}{name}: is no field of a protocol" for name in self.content if name not in self._asked
        ]

    def _get(self, name: str, default: Any = None) -> Any:
        self._asked.add(name)
        return self.content.get(name, default)

    def _fault(self, name: str, wanted: str, found: Any) -> None:
        got = "nothing" if found is None else f"{found!r}"
        self.faults.append(f"{self.where}{name}: expected {wanted}; found {got[:80]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(value: float, bounds: Mapping[str, float]) -> bool:
    return (
        value >= bounds.get("low", -math.inf)
        and value <= bounds.get("high", math.inf)
        and value > bounds.get("above", -math.inf)
        and value < bounds.get("below", math.inf)
    )


def _bounds_in_words(bounds: Mapping[str, float]) -> str:
    words = {"low": "at least", "high": "at most", "above": "above", "below": "below"}
    return "".join(f", {words[name]} {bound:g}" for name, bound in bounds.items())
