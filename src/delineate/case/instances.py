"""Objects that were found in a picture, each by itself: a table of columns and an outline for every one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceTable:
    """Instances of one picture in the order of their numbers.

    Raises
    ------
    ValueError
        If columns, outlines and types do not have one entry per instance.
    """

    columns: Mapping[str, NDArray[np.float64]]
    """See :func:`delineate.masks.instance_shapes.measure_instances`; ``label`` is the number in the label map.
    ``confidence``, if a model tells it, is the IoU with a true instance that can be expected, 0 where below 0.5."""
    outlines: tuple[NDArray[np.float64], ...]
    """(n, 2) vertices (y, x) per instance along pixel edges; the picture's upper left corner is (0, 0), so the centre
    of the first pixel is (0.5, 0.5), as in QuPath."""
    types: NDArray[np.int64]
    """0 where no type is known."""
    type_names: tuple[str, ...]
    """Of types 1, 2, ..."""
    type_shares: NDArray[np.float64]
    """Mean probability of the type over the instance's pixels; NaN without types."""
    pixel_um: float | None
    """Micrometres per pixel; None: lengths are pixels."""

    def __post_init__(self) -> None:
        sizes = {len(self.outlines), len(self.types), len(self.type_shares), *(len(c) for c in self.columns.values())}
        if len(sizes) > 1:
            raise ValueError(f"Every part of a table of instances needs one entry per instance; got {sorted(sizes)}.")

    def __len__(self) -> int:
        return len(self.outlines)

    def type_name(self, index: int) -> str:
        """Return the name of an instance's type; ``nucleus`` is not assumed: empty if there is none."""
        kind = int(self.types[index])
        return self.type_names[kind - 1] if kind else ""
