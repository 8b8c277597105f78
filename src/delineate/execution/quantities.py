"""Durations and amounts of memory as people write them."""

from __future__ import annotations

import re

from delineate.errors import UsageError

STANDARD = "standard"
"""The budget that means nnU-Net's own schedule."""

_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_BYTES = {"mb": 1e6, "mib": 2.0**20, "gb": 1e9, "gib": 2.0**30, "m": 2.0**20, "g": 2.0**30}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")


def read_budget(text: str) -> float | None:
    """Return seconds for ``20min``, ``2h``, ``90s`` and so on; None for ``standard``.

    Raises
    ------
    UsageError
        If the text is not a time.
    """
    if text.strip().lower() == STANDARD:
        return None
    seconds = _amount(text, _SECONDS)
    if seconds is None:
        raise UsageError(f"A budget is a time such as 20min, 2h or 90s, or 'standard'; got '{text}'.")
    return seconds


def read_memory(text: str) -> int:
    """Return bytes for ``8GB``, ``512MiB`` and so on.

    Raises
    ------
    UsageError
        If the text is not an amount of memory.
    """
    amount = _amount(text, _BYTES)
    if amount is None:
        raise UsageError(f"An amount of memory is such as 8GB or 512MiB; got '{text}'.")
    return int(amount)


def spoken_seconds(seconds: float) -> str:
    """Return a duration as people say it: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _amount(text: str, units: dict[str, float]) -> float | None:
    match = _QUANTITY.fullmatch(text.lower())
    if match is None or match[2] not in units or float(match[1]) <= 0:
        return None
    return float(match[1]) * units[match[2]]
