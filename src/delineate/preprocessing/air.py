"""Which parts of a prepared CT show nothing but air, so that no network need look at them.

The rule looks at the original image in Hounsfield units, not at the prepared one, whose normalisation cuts off low
values. A box of the prepared grid is air if every original voxel within it and within :data:`MARGIN` voxels around it
(inside the crop; the network sees nothing beyond) is below the threshold in every channel. Knows no tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from delineate.case.image import Image
from delineate.case.labels import LabelScheme
from delineate.case.prepared import Trace
from delineate.geometry.crop import crop
from delineate.preprocessing.steps import lift

AIR_HU = -900.0
"""Default threshold: lung tissue lies above about -900 HU, air outside the body at -1000 HU."""
MARGIN = 8
"""Original voxels around a box that must be air too: cubic resampling carries less than 1e-4 of a voxel further."""
SURE_LOGIT = 10.0
"""Logit of what nobody looked at: probability of background above 0.9999."""


def air_finder(image: Image, trace: Trace, *, below_hu: float = AIR_HU) -> Callable[[tuple[slice, ...]], bool]:
    """Return a function that says of a box ``(z, y, x)`` of the prepared grid whether the image shows only air there.

    Parameters
    ----------
    image
        (channel, z, y, x) or (channel, y, x) in Hounsfield units, as it was before :func:`prepare`.
    trace
        How it was prepared.
    below_hu
        Every original voxel must be below this.
    """
    spatial = tuple(axis + 1 for axis in trace.transpose)
    cropped = crop(lift(image.array, image.grid).transpose(0, *spatial), trace.box)

    def is_air(box: tuple[slice, ...]) -> bool:
        within = tuple(
            _original(part, small, large)
            for part, small, large in zip(box, trace.prepared_shape, trace.cropped_shape, strict=True)
        )
        return bool((cropped[(slice(None), *within)] < below_hu).all())

    return is_air


def background_logits(scheme: LabelScheme) -> tuple[float, ...]:
    """Return one logit per head that says background for sure: its own head in label mode, no region in region mode."""
    first = -SURE_LOGIT if scheme.has_regions else SURE_LOGIT
    return (first, *(-SURE_LOGIT,) * (scheme.head_count - 1))


def _original(part: slice, small: int, large: int) -> slice:
    """Return the original voxels of an axis that a range of prepared voxels covers, with the margin."""
    start = math.floor(part.start * large / small) - MARGIN
    return slice(max(0, start), math.ceil(part.stop * large / small) + MARGIN)
