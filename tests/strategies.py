"""Hypothesis strategies for grids, images and label maps: odd on purpose (anisotropic, flipped, oblique, tiny)."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.case import Image, LabelMap
from delineate.geometry.grid import Grid


def _float(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, width=32)


@st.composite
def rotations(draw, dims: int = 3):
    """Orthonormal matrices, reflections included; identity and right angles are likely."""
    angle = st.one_of(st.sampled_from([0.0, math.pi / 2, math.pi]), _float(-3, 3))
    signs = np.diag(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=dims, max_size=dims)))
    matrix = signs
    for i, j in [(0, 1)] if dims == 2 else [(0, 1), (1, 2), (0, 2)]:
        a = draw(angle)
        turn = np.eye(dims)
        turn[[i, i, j, j], [i, j, i, j]] = math.cos(a), -math.sin(a), math.sin(a), math.cos(a)
        matrix = matrix @ turn
    return matrix


@st.composite
def grids(draw, dims: int = 3, max_side: int = 6):
    """Grids of any orientation."""
    axes = draw(rotations(dims))[::-1]
    return Grid(
        shape=tuple(draw(st.lists(st.integers(1, max_side), min_size=dims, max_size=dims))),
        spacing_mm=tuple(draw(st.lists(_float(0.0625, 16), min_size=dims, max_size=dims))),
        origin_mm=tuple(draw(st.lists(_float(-500, 500), min_size=dims, max_size=dims))),
        direction=tuple(tuple(float(v) for v in axis) for axis in axes),
    )


@st.composite
def images(draw, dims: int = 3, max_channels: int = 3, dtypes=(np.int16, np.uint8, np.float32, np.float64)):
    """Images with finite intensities."""
    grid = draw(grids(dims))
    channels = draw(st.integers(1, max_channels))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    elements = npst.from_dtype(dtype, allow_nan=False, allow_infinity=False)
    return Image(array=draw(npst.arrays(dtype, (channels, *grid.shape), elements=elements)), grid=grid)


@st.composite
def label_maps(draw, dims: int = 3, highest: int = 5):
    """Label maps with values from 0."""
    grid = draw(grids(dims))
    array = draw(npst.arrays(np.int16, grid.shape, elements=st.integers(0, highest)))
    return LabelMap(array=array, grid=grid)
