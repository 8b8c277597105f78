"""Phantoms: synthetic patients whose truth is known exactly. Knows no files and no training."""

from delineate.phantoms.scanner import SCANNERS, Scanner
from delineate.phantoms.torso import STRUCTURES, make_torso, torso_scheme

__all__ = ["SCANNERS", "STRUCTURES", "Scanner", "make_torso", "torso_scheme"]
