"""What was found in a pile of DICOM files, and what was done about it; never silent, never with a patient's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["refused", "repaired", "note"]
"""``refused``: no volume is made; ``repaired``: a volume is made and the repair recorded; ``note``: worth knowing."""
SHOWN_FILES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One trouble of a series."""

    code: str
    """Stable, for programs: ``MISSING_SLICES``, ``GANTRY_TILT``, ..."""
    severity: Severity
    words: str
    """For a person: what was expected, what was found, what to do."""
    files: tuple[str, ...] = ()
    """Names of the files concerned, the first few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesReport:
    """One series, or one part of a series that makes a volume."""

    series_uid: str
    description: str
    modality: str
    part: str
    """Which part of the series: ``temporal position 2``, ``b-value 800``, ``echo 1``; empty for the only one."""
    n_files: int
    n_planes: int
    accepted: bool
    findings: tuple[Finding, ...]
    pixel_sha256: str
    """Of the volume's values in the order of its planes; empty if none was made."""
    plane_shape: tuple[int, int] = (0, 0)
    """Rows, columns."""
    spacing_mm: tuple[float, float, float] | None = None
    """Distance of planes, of rows, of columns; None if no volume is made."""


def finding(code: str, severity: Severity, words: str, files: Sequence[str] = ()) -> Finding:
    """Return a finding that names the first few of its files, each once."""
    return Finding(code=code, severity=severity, words=words, files=tuple(dict.fromkeys(files))[:SHOWN_FILES])


def is_refused(findings: Sequence[Finding]) -> bool:
    """Say whether one of the findings forbids a volume."""
    return any(one.severity == "refused" for one in findings)
