"""What reports say of a structure in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delineate.clinical.results import DraftResult
from delineate.masks.diameters import longest_diameter, longest_diameter_in_plane


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureMeasures:
    """Measurements of one structure."""

    name: str
    volume_ml: float
    """Voxels times the volume of one."""
    diameter_mm: float
    """Largest distance of two points of the structure, voxels taken as boxes."""
    diameter_in_plane_mm: float
    """The same within one image plane."""


def measure_structures(draft: DraftResult) -> tuple[StructureMeasures, ...]:
    """Return the measurements of every structure, in the order of the draft."""
    labels, grid = draft.result.labels.array, draft.source.grid
    spacing = (grid.spacing_mm[0], grid.spacing_mm[1], grid.spacing_mm[2])
    found = []
    for structure in draft.structures:
        mask = np.isin(labels, structure.values)
        found.append(
            StructureMeasures(
                name=structure.name,
                volume_ml=float(mask.sum()) * grid.voxel_volume_mm3 / 1000,
                diameter_mm=longest_diameter(mask, spacing),
                diameter_in_plane_mm=longest_diameter_in_plane(mask, spacing)[0],
            )
        )
    return tuple(found)
