"""CT phantoms of the torso: a random patient in a scanner, with the exact truth as labels.

Every voxel is sampled at several points; its attenuation is their mean (partial volume), its label their majority.
The same seed gives the same patient, the same seed and scan number the same voxels. Knows no files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from delineate.case import Case, Image, LabelMap, LabelScheme
from delineate.errors import UsageError
from delineate.geometry.grid import Grid
from delineate.phantoms.anatomy import STRUCTURES, Anatomy, Tissue, random_anatomy
from delineate.phantoms.scanner import AIR_HU, SCANNERS, Scanner
from delineate.phantoms.shapes import Box, sample_points

__all__ = ["STRUCTURES", "make_torso", "paint", "torso_scheme"]

SAMPLES_PER_AXIS = 2
"""Sample points per voxel and axis: 8 per voxel."""
POINTS_AT_ONCE = 1_500_000
"""Sample points that are painted together; bounds the memory for fine grids."""
CENTER_MM = (0.0, 4.0, 12.0)
"""World point (LPS mm) in the middle of the volume, before the patient's own shift on the table."""


def torso_scheme(structures: Sequence[str] = STRUCTURES) -> LabelScheme:
    """Return the label scheme: the structures in the given order, valued 1, 2, 3, ...

    Raises
    ------
    UsageError
        If a structure is unknown or none is given.
    """
    unknown = [name for name in structures if name not in STRUCTURES]
    if unknown or not structures:
        raise UsageError(f"A torso phantom has the structures {', '.join(STRUCTURES)}; asked for {list(structures)}.")
    return LabelScheme.simple(*structures)


def make_torso(
    seed: int,
    scanner: Scanner = SCANNERS[0],
    *,
    scan: int = 0,
    scale: float = 1.0,
    structures: Sequence[str] = STRUCTURES,
    samples: int = SAMPLES_PER_AXIS,
) -> Case:
    """Return a CT of a random patient with its labels.

    Parameters
    ----------
    seed
        The patient: anatomy, contrast phase, lesion.
    scanner
        Grid, resolution, noise.
    scan
        Number of the examination: another position on the table and other noise, the same patient.
    scale
        Multiplies the scanner's voxel size: 1 is about 60x47x45 voxels of 6 mm, 0.2 a fine CT.
    structures
        Which structures get labels, in the order of their values.
    samples
        Sample points per voxel and axis.

    Returns
    -------
    Case
        Image ``(1, z, y, x)`` int16 in HU, labels ``(z, y, x)`` uint8, both on the scanner's grid (LPS mm).

    Raises
    ------
    UsageError
        If a structure is unknown.
    """
    scheme = torso_scheme(structures)
    anatomy = random_anatomy(np.random.default_rng([seed, 0]))
    generator = np.random.default_rng([seed, 1, scan])
    shift = generator.normal(0, 4, 3).clip(-8, 8)
    x, y, z = (float(c + s) for c, s in zip(CENTER_MM, shift, strict=True))
    grid = scanner.grid((x, y, z), scale)
    hu, labels = paint(anatomy, grid, scheme, samples)
    image = Image(array=scanner.acquire(hu, grid, generator)[None], grid=grid)
    return Case(
        case_id=f"torso_{seed:04d}_{scan}",
        patient_id=f"torso_{seed:04d}",
        image=image,
        labels=LabelMap(array=labels, grid=grid, scheme=scheme),
    )


def paint(
    anatomy: Anatomy, grid: Grid, scheme: LabelScheme, samples: int = SAMPLES_PER_AXIS
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return exact attenuation and labels of an anatomy on a grid.

    Returns
    -------
    hu
        ``(z, y, x)`` float32, the mean over the sample points of each voxel.
    labels
        ``(z, y, x)`` uint8, the value with most sample points (of equals the centre's).
    """
    values = {structure.name: structure.values[0] for structure in scheme.structures}
    hu, labels = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
    step = max(1, POINTS_AT_ONCE // (samples**3 * grid.shape[1] * grid.shape[2]))
    for start in range(0, grid.shape[0], step):
        slab = slice(start, min(start + step, grid.shape[0]))
        painted = _painted(anatomy.tissues, anatomy.bent(*sample_points(grid, samples, slab)))
        centres = _painted(anatomy.tissues, anatomy.bent(*sample_points(grid, 1, slab)))
        hu[slab], labels[slab] = _pooled(painted, centres, anatomy.tissues, values)
    return hu, labels


def _painted(tissues: Sequence[Tissue], points: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Return for every point the number of its tissue, counted from 1; 0 is air."""
    painted = np.zeros(points[0].shape, np.uint8)
    extents = _extents(points)
    for number, tissue in enumerate(tissues, start=1):
        part = _part(extents, tissue.solid.box)
        if part is not None:
            painted[part][tissue.solid.inside(*(coordinate[part] for coordinate in points))] = number
    return painted


def _extents(points: Sequence[NDArray[np.float32]]) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return per array axis the lowest and highest world coordinates of each of its planes, each ``(xyz, plane)``."""
    others = [(1, 2), (0, 2), (0, 1)]
    return [
        (np.stack([p.min(axis=axes) for p in points]), np.stack([p.max(axis=axes) for p in points])) for axes in others
    ]


def _part(
    extents: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], box: Box
) -> tuple[slice, slice, slice] | None:
    """Return the part of the array that holds all points of a box of world coordinates, or None if there are none."""
    low, high = (np.asarray(corner)[:, None] for corner in box)
    slices = []
    for lowest, highest in extents:
        touching = np.flatnonzero(((highest >= low) & (lowest <= high)).all(axis=0))
        if not touching.size:
            return None
        slices.append(slice(int(touching[0]), int(touching[-1]) + 1))
    return slices[0], slices[1], slices[2]


def _pooled(
    painted: NDArray[np.uint8], centres: NDArray[np.uint8], tissues: Sequence[Tissue], values: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return mean attenuation and majority label of each voxel; ties go to the label of its centre."""
    hu_of = np.array([AIR_HU, *(tissue.hu for tissue in tissues)], np.float32)
    label_of = np.array([0, *(values.get(tissue.structure or "", 0) for tissue in tissues)], np.uint8)
    z, y, x = centres.shape
    samples = painted.shape[0] // z
    blocks = painted.reshape(z, samples, y, samples, x, samples).transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, -1)
    labels, middle = label_of[blocks], label_of[centres]
    votes = [2 * (labels == v).sum(axis=-1, dtype=np.uint16) + (middle == v) for v in range(len(values) + 1)]
    return hu_of[blocks].mean(axis=-1), np.argmax(np.stack(votes), axis=0).astype(np.uint8)
