"""Codes of structures: what a label is called in SNOMED, in TG-263 and in radiotherapy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Code:
    """A coded concept of DICOM: value, scheme (``SCT``, ``DCM``, ``99...``), meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CodedStructure:
    """One structure of a label map with everything that exports say of it."""

    name: str
    """As in the label scheme."""
    values: tuple[int, ...]
    """Label values; several are a region."""
    label: str
    """TG-263 name where there is one, else the name cut to what DICOM allows."""
    category: Code
    """CID 7150: anatomical structure, morphologically abnormal structure, ..."""
    type: Code
    """CID 7151."""
    laterality: Code | None
    interpreted_type: str
    """RT ROI Interpreted Type: ``ORGAN``, ``GTV``, ...; empty if unknown."""
    colour: tuple[int, int, int]
    tracking_id: str
    tracking_uid: str
