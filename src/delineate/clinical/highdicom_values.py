"""Values of this room as highdicom takes them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from highdicom.sr import CodedConcept

from delineate.clinical.coding import Code


def concept(code: Code) -> CodedConcept:
    """Return a code."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def person_name(name: str) -> str:
    """Return a name as DICOM's person name; one without components is a family name (PS3.5 6.2.1)."""
    text = " ".join(name.split())
    return text if "^" in text else f"{text}^"


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep advice about headers of archives from the user; what is wrong with them was told when they were read."""
    logger = logging.getLogger("highdicom")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
