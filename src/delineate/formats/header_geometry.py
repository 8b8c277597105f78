"""What the header of an image file says of its grid, before it becomes one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """What ITK says of a header; axes in ITK's order, x first; LPS mm."""

    size: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    origin_mm: tuple[float, ...]
    direction: tuple[float, ...]
    """Row-major matrix whose columns are the directions of the axes."""
    double: bool = False
    """Whether ITK would give rescaled values in double precision."""
