"""The nouns: images, label maps, label schemes, cases, results. No I/O, no torch."""

from delineate.case.case import Case
from delineate.case.image import Image, LabelMap
from delineate.case.labels import LabelScheme, Structure
from delineate.case.result import Provenance, Result

__all__ = ["Case", "Image", "LabelMap", "LabelScheme", "Provenance", "Result", "Structure"]
