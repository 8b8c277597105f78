"""What became of one item of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from delineate.errors import DelineateError

Item = TypeVar("Item")
Output = TypeVar("Output")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Generic[Item, Output]):
    """What became of one item: ``value`` if ``error`` is None."""

    item: Item
    value: Output | None = None
    error: DelineateError | None = None
