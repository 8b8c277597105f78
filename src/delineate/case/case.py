"""A case: one examination of one patient, loaded into memory."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.case.image import Image, LabelMap


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One examination: an image and, if somebody drew it, the reference label map."""

    case_id: str
    patient_id: str
    """Cases of one patient never fall on both sides of a split."""
    image: Image
    labels: LabelMap | None = None
