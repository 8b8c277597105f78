"""Values that take the place of others: dummies of every value representation, shifted dates, texts of known words."""

from __future__ import annotations

import re
from collections.abc import Set
from datetime import date, timedelta
from functools import cache
from importlib import resources
from typing import Any

from delineate.clinical.deidentify_keys import Keys

DUMMIES: dict[str, Any] = {
    "AS": "000Y",
    "AT": 0,
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "IS": "0",
    "PN": "ANONYMOUS",
    "TM": "000000",
    "UR": "urn:removed",
}
NUMBERS = ("FL", "FD", "SL", "SS", "SV", "UL", "US", "UV")
BYTES = ("OB", "OD", "OF", "OL", "OV", "OW", "UN")
OLDEST_AGE = 89
"""Years; older ages are told as 90 (HIPAA, 45 CFR 164.514(b)(2)(i)(C))."""
_WORD = re.compile(r"\w+(?:\.\d+)?")
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,2})?(mm|cm|ms|s|sec|min|kv|hz|t|d|w)?", re.IGNORECASE)
_DATE_LIKE = re.compile(r"\d+(?:\s*[./:-]\s*\d+){2,}|\d+[/:]\d+|\d+-\d+")


def dummy(vr: str, tag: int, original: str, keys: Keys) -> Any:
    """Return a value without meaning that its representation allows."""
    if vr in NUMBERS:
        return 0
    if vr in BYTES:
        return bytes(8)
    return DUMMIES.get(vr) or keys.label(tag, original)


def shifted(vr: str, text: str, days: int) -> str | None:
    """Return a date or date-time moved by days, times of day as they are; None if it cannot be moved."""
    if vr == "TM":
        return text
    digits = text.replace(".", "") if re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", text) else text
    if not re.match(r"\d{8}", digits) or (vr == "DA" and len(digits) != 8):
        return None
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{day.year:04d}{day.month:02d}{day.day:02d}{digits[8:]}"


def age_told(text: str) -> str:
    """Return an age as it may be kept: above 89 years it is 90."""
    found = re.fullmatch(r"(\d{3})Y", text)
    return "090Y" if found and int(found.group(1)) > OLDEST_AGE else text


def known_words_only(text: str, words: Set[str]) -> str:
    """Return the words of a text that are known, and short numbers that are no part of a date.

    Parameters
    ----------
    text
        What a person may have typed.
    words
        Known words, in lower case.
    """
    kept = [
        word
        for word in _WORD.findall(_DATE_LIKE.sub(" ", text).replace("_", " "))
        if word.lower() in words or _NUMBER.fullmatch(word)
    ]
    return " ".join(kept) if any(word.lower() in words for word in kept) else ""


@cache
def shipped_words() -> frozenset[str]:
    """Return the words of acquisition and anatomy that a cleaned text may keep, in lower case."""
    text = resources.files(__package__).joinpath("deidentify_words.txt").read_text(encoding="utf-8")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.lower().split())
