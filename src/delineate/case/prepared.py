"""A case in the shape a network wants, and the trace by which results find their way back.

These are values only: who makes them stands in ``preprocessing``, how they are stored in ``formats.prepared_store``.
All axes are array axes *after* the plan's transposition unless a field says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.geometry.grid import Grid

OUTSIDE_LABEL = -1
"""Value of prepared labels where the image was zero in every channel, outside the body (nnU-Net's nonzero label)."""
ANNOTATED_KEY = -1
"""Key of ``Prepared.locations`` for voxels of any label but ignore; present if the scheme has an ignore label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """The steps from an image to its prepared array; enough to undo them.

    Attributes
    ----------
    grid
        The image's own grid, 2-D or 3-D (LPS mm).
    transpose
        ``transpose_forward`` of the plan: the original (z, y, x) axis of each prepared axis.
    spacing_mm
        Spacing before resampling (3 axes; a plane's absent axis has a very large one).
    prepared_spacing_mm
        Spacing after resampling.
    shape
        Shape before cropping.
    box
        The half-open ``(start, stop)`` per axis that the crop kept.
    prepared_shape
        Shape of the prepared array, channels not counted.
    """

    grid: Grid
    transpose: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    prepared_spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    box: tuple[tuple[int, int], ...]
    prepared_shape: tuple[int, ...]

    @property
    def cropped_shape(self) -> tuple[int, ...]:
        """Shape after cropping, before resampling."""
        return tuple(stop - start for start, stop in self.box)

    @property
    def is_plane(self) -> bool:
        """Whether the image was 2-D and got a slice axis of one voxel."""
        return self.grid.dims == 2

    def to_json(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_json` takes back."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Trace:
        """Return the trace that :meth:`to_json` described."""
        frozen = {name: _tuples(value) for name, value in values.items() if name != "grid"}
        grid = Grid(**{name: _tuples(value) for name, value in values["grid"].items()})
        return Trace(grid=grid, **frozen)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """One case, cropped, normalised and resampled.

    Attributes
    ----------
    array
        (channel, z, y, x) float32, also for planes and 2-D configurations.
    labels
        (z, y, x) int16 on the same grid, -1 outside the body; None if nobody drew any.
    trace
        The way back to the image's grid.
    locations
        Sampled voxels per structure: key -> (n, 3) int32 prepared indices (z, y, x). The keys are label values in label
        mode, 1-based positions of the structures in region mode, and :data:`ANNOTATED_KEY`.
    location_labels
        The label values that each key of ``locations`` stands for.
    """

    array: NDArray[np.float32]
    labels: NDArray[np.int16] | None
    trace: Trace
    locations: Mapping[int, NDArray[np.int32]] = field(default_factory=dict)
    location_labels: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
