"""Words for durations and amounts of memory, as people type them."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "hour": 3600, "hours": 3600, "d": 86400, "day": 86400, "days": 86400}
_BYTES = {"mb": 10**6, "mib": 2**20, "gb": 10**9, "gib": 2**30, "m": 2**20, "g": 2**30}
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")
STANDARD = "standard"


def budget(text: str) -> float | None:
    """Return seconds for ``20min``, ``2h``, ``90s`` and so on; None for ``standard`` (nnU-Net's own schedule)."""
    if text.strip().lower() == STANDARD:
        return None
    seconds = _amount(text, _SECONDS)
    if seconds is None or seconds <= 0:
        raise argparse.ArgumentTypeError(f"a budget is a time such as 20min, 2h or 90s, or 'standard'; got '{text}'")
    return seconds


def memory(text: str) -> int:
    """Return bytes for ``8GB``, ``512MiB`` and so on."""
    amount = _amount(text, _BYTES)
    if amount is None or amount <= 0:
        raise argparse.ArgumentTypeError(f"an amount of memory is such as 8GB or 512MiB; got '{text}'")
    return int(amount)


def spoken(seconds: float) -> str:
    """Return a duration as people say it: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def _amount(text: str, units: dict[str, int]) -> float | None:
    match = _QUANTITY.fullmatch(text.lower())
    if match is None or match[2] not in units:
        return None
    return float(match[1]) * units[match[2]]
