"""Topology of masks: components, tunnels, cavities, the Euler number; and the centre line.

Two voxels of the mask are neighbours if they touch by a face, an edge or a corner; two voxels outside it only by a
face. Outside the array is outside the mask. Knows boolean arrays; no spacing, no label values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from delineate.errors import GeometryError
from delineate.masks.components import label_components
from delineate.masks.surfaces import bounding_box


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """Betti numbers of one mask, all 0 for an empty one."""

    components: int
    tunnels: int
    """Handles through a volume: 1 for a ring; always 0 in a plane."""
    cavities: int
    """Closed holes: bubbles in a volume, holes in a plane."""
    volumetric: bool
    """Whether the mask had three axes."""

    @property
    def euler(self) -> int:
        """Euler number: components - tunnels + cavities of a volume, components - holes of a plane."""
        return self.components - self.tunnels + self.cavities if self.volumetric else self.components - self.cavities


def topology(mask: NDArray[np.bool_]) -> Topology:
    """Count components, tunnels and cavities.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.

    Raises
    ------
    GeometryError
        If the mask has neither 2 nor 3 axes.

    References
    ----------
    J. Toriwaki, H. Yonekura, Euler number and connectivity indexes of a three dimensional digital picture, Forma 17
    (2002), through scikit-image's ``measure.euler_number``; tunnels follow from the other three numbers.
    """
    if mask.ndim not in (2, 3):
        raise GeometryError(f"Topology needs a mask of 2 or 3 axes; got shape {mask.shape}.")
    box = bounding_box(mask)
    volumetric = mask.ndim == 3
    if box is None:
        return Topology(components=0, tunnels=0, cavities=0, volumetric=volumetric)
    padded = np.pad(mask[box], 1)
    components = len(label_components(padded)[1])
    # the outside is one of the components of the complement
    cavities = len(label_components(~padded, by_faces=True)[1]) - 1
    euler = int(euler_number(padded, connectivity=mask.ndim)) if volumetric else components - cavities  # type: ignore[no-untyped-call]
    tunnels = components + cavities - euler if volumetric else 0
    return Topology(components=components, tunnels=tunnels, cavities=cavities, volumetric=volumetric)


def centre_line(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin a mask to lines of one voxel that keep its connectivity; every component keeps at least one voxel.

    Parameters
    ----------
    mask
        (z, y, x) or (y, x) bool.

    Returns
    -------
    NDArray
        Bool, the shape of ``mask``.

    References
    ----------
    T.-C. Lee et al., Building skeleton models via 3-D medial surface axis thinning algorithms, CVGIP 56 (1994), for
    volumes; T. Y. Zhang, C. Y. Suen, CACM 27 (1984), for planes; both through scikit-image's ``skeletonize``.
    """
    line = np.zeros(mask.shape, np.bool_)
    box = bounding_box(mask)
    if box is not None:
        thinned = skeletonize(np.pad(mask[box], 1))[(slice(1, -1),) * mask.ndim]  # type: ignore[no-untyped-call]
        line[box] = _with_lost_components(np.asarray(thinned, np.bool_), mask[box])
    return line


def _with_lost_components(line: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # thinning makes blocks of 2 x 2 x 2 voxels vanish
    numbered, sizes = label_components(mask)
    kept = np.zeros(len(sizes) + 1, np.bool_)
    kept[numbered[line]] = True
    line = line.copy()
    for number in np.flatnonzero(~kept[1:]) + 1:
        voxels = np.argwhere(numbered == number)
        middle = np.linalg.norm(voxels - voxels.mean(axis=0), axis=1).argmin()
        line[tuple(voxels[middle])] = True
    return line
