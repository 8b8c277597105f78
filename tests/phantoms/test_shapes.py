import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.case import LabelScheme
from delineate.geometry.grid import Grid
from delineate.phantoms.anatomy import Anatomy, Tissue
from delineate.phantoms.shapes import Both, Column, Ellipsoid, Ribs, Tube, Without, sample_points
from delineate.phantoms.torso import paint
from strategies import grids

TURNED = Ellipsoid(center_mm=(3, -2, 5), radii_mm=(31, 22, 40), turn_deg=35, tilt_deg=20)


def oblique_grid(spacing_mm, shape):
    angle = math.radians(25)
    c, s = math.cos(angle), math.sin(angle)
    direction = ((0.0, s, c), (0.0, -c, s), (-1.0, 0.0, 0.0))
    half = [(n - 1) / 2 * d for n, d in zip(shape, spacing_mm, strict=True)]
    origin = tuple(float(-sum(h * a[w] for h, a in zip(half, direction, strict=True))) for w in range(3))
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=origin, direction=direction)


def painted(solid, grid, samples=2):
    anatomy = Anatomy(tissues=(Tissue(solid=solid, hu=100, structure="x"),), waves=(), scale=(1.0, 1.0, 1.0))
    return paint(anatomy, grid, LabelScheme.simple("x"), samples)


@pytest.mark.parametrize("spacing", [(3.0, 3.0, 3.0), (6.0, 2.5, 2.0)])
@pytest.mark.parametrize("solid", [TURNED, Ellipsoid(center_mm=(0, 0, 0), radii_mm=(30, 30, 30))])
def test_the_labels_of_an_ellipsoid_have_its_analytical_volume(solid, spacing):
    shape = tuple(math.ceil(130 / s) for s in spacing)
    for grid in (oblique_grid(spacing, shape), Grid.regular(shape, spacing)):
        center = grid.affine @ [*(np.array(shape) - 1) / 2, 1]
        moved = Ellipsoid(
            center_mm=tuple(float(v) for v in center[:3]),
            radii_mm=solid.radii_mm,
            turn_deg=solid.turn_deg,
            tilt_deg=solid.tilt_deg,
        )
        hu, labels = painted(moved, grid)
        assert labels.sum() * grid.voxel_volume_mm3 == pytest.approx(moved.volume_mm3, rel=0.01)
        share = (hu + 1024) / (100 + 1024)
        assert share.sum() * grid.voxel_volume_mm3 == pytest.approx(moved.volume_mm3, rel=0.005)
        assert labels.flat[np.ravel_multi_index(tuple(n // 2 for n in shape), shape)] == 1


def test_partial_volume_lies_between_the_two_tissues():
    hu, labels = painted(TURNED, Grid.regular((30, 30, 30), (4.0, 4.0, 4.0)))
    edge = (hu > -1024) & (hu < 100)
    assert edge.any()
    assert np.array_equal(labels[~edge] == 1, hu[~edge] == 100)
    assert (labels[hu > -1024 + 0.5 * 1124 + 1] == 1).all()


SOLIDS = (
    TURNED,
    Ellipsoid(center_mm=(3, -2, 5), radii_mm=(31, 22, 40), turn_deg=35, power=2.5),
    Ellipsoid(center_mm=(3, -2, 5), radii_mm=(31, 22, 40), cuts=(((0, 0, 1), 4.0),)),
    Column(center_mm=(4, 5), radii_mm=(20, 30), power=2.5, bottom_mm=-10, top_mm=30),
    Column(center_mm=(4, 5), radii_mm=(20, 30), lean=(0.2, 0.0), sway_mm=(3.0, 1.0), bottom_mm=-20),
    Tube(points_mm=((-30, 0, -30), (0, 10, 0), (30, 0, 25)), radius_mm=9, taper=0.5),
    Both(parts=(TURNED, Column(center_mm=(10, 0), radii_mm=(20, 20)))),
    Without(whole=TURNED, holes=(Ellipsoid(center_mm=(0, 0, 0), radii_mm=(10, 10, 10)),)),
    Ribs(radii_mm=(40, 35), thickness=0.1),
)


@pytest.mark.parametrize("solid", SOLIDS)
def test_no_point_outside_the_box_is_inside(solid):
    points = sample_points(Grid.regular((30, 30, 30), (5.0, 5.0, 5.0)), 1, slice(0, 30))
    centred = [p - 75 for p in points]
    inside = solid.inside(*centred)
    low, high = solid.box
    for coordinate, a, b in zip(centred, low, high, strict=True):
        assert (coordinate[inside] >= a - 1e-3).all()
        assert (coordinate[inside] <= b + 1e-3).all()
    assert inside.any()


@pytest.mark.parametrize("solid", SOLIDS)
def test_painting_within_boxes_is_painting_everywhere(solid):
    grid = oblique_grid((4.0, 5.0, 3.0), (20, 16, 24))
    hu, _ = painted(solid, grid, samples=1)
    everywhere = solid.inside(*sample_points(grid, 1, slice(0, 20)))
    assert np.array_equal(hu == 100, everywhere)


@settings(deadline=None)
@given(grids(max_side=4), st.integers(1, 3))
def test_the_mean_of_the_samples_of_a_voxel_is_its_centre(grid, factor):
    points = sample_points(grid, factor, slice(0, grid.shape[0]))
    index = tuple(n - 1 for n in grid.shape)
    block = tuple(slice(i * factor, (i + 1) * factor) for i in index)
    centre = (grid.affine @ [*index, 1])[:3]
    scale = max(1.0, *np.abs(grid.origin_mm))
    assert np.allclose([p[block].mean(dtype=np.float64) for p in points], centre, atol=1e-5 * scale)
