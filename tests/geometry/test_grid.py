import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import GeometryError
from delineate.geometry.grid import Grid
from strategies import grids


@given(st.sampled_from([2, 3]).flatmap(grids))
def test_the_affine_takes_the_first_voxel_to_the_origin_and_steps_by_the_spacing(grid):
    n = grid.dims
    assert np.allclose(grid.affine[:n, n], grid.origin_mm)
    for axis in range(n):
        step = grid.affine[:n, :n][:, axis]
        assert np.isclose(np.linalg.norm(step), grid.spacing_mm[axis])
        assert np.allclose(step / grid.spacing_mm[axis], grid.direction[axis])


@given(st.sampled_from([2, 3]).flatmap(grids))
def test_the_determinant_of_the_affine_is_the_voxel_volume(grid):
    assert np.isclose(abs(np.linalg.det(grid.affine)), grid.voxel_volume_mm3, rtol=1e-5)


@given(grids())
def test_a_grid_matches_itself(grid):
    assert grid.matches(grid)
    assert grid.differences(grid) == []


def test_a_regular_grid_runs_along_the_world_axes():
    grid = Grid.regular((2, 3, 4), (3.0, 2.0, 1.0))
    assert np.array_equal(grid.affine @ [1, 0, 0, 1], [0, 0, 3, 1])
    assert np.array_equal(grid.affine @ [0, 1, 0, 1], [0, 2, 0, 1])
    assert np.array_equal(grid.affine @ [0, 0, 1, 1], [1, 0, 0, 1])
    assert Grid.regular((2, 3)).spacing_mm == (1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"shape": (2, 3, 5)}, "shape"),
        ({"spacing_mm": (1.0, 1.0, 1.1)}, "spacing"),
        ({"origin_mm": (0.0, 0.0, 1.0)}, "origin"),
        ({"direction": ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))}, "direction"),
    ],
)
def test_each_difference_of_two_grids_is_named_by_its_kind(change, word):
    grid = Grid.regular((2, 3, 4))
    fields = {name: getattr(grid, name) for name in ("shape", "spacing_mm", "origin_mm", "direction")}
    other = Grid(**{**fields, **change})
    assert [text.split()[0] for text in grid.differences(other)] == [word]
    assert not grid.matches(other)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"shape": (2, 3, 4, 5)}, "2 or 3 axes"),
        ({"shape": (2, 0, 4)}, "at least one voxel"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm"),
        ({"spacing_mm": (1.0, float("nan"), 1.0)}, "spacing_mm"),
        ({"spacing_mm": (1.0, 1.0)}, "spacing_mm"),
        ({"origin_mm": (0.0, float("inf"), 0.0)}, "origin_mm"),
        ({"direction": ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))}, "orthonormal"),
    ],
)
def test_impossible_grids_are_refused(change, text):
    fields = {
        "shape": (2, 3, 4),
        "spacing_mm": (1.0, 1.0, 1.0),
        "origin_mm": (0.0, 0.0, 0.0),
        "direction": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    }
    with pytest.raises(GeometryError, match=text):
        Grid(**{**fields, **change})
