"""Sizes, pieces and places: what is normal, and what is told of what is not."""

import numpy as np
import pytest

from delineate.errors import InputError
from delineate.geometry.grid import Grid
from delineate.metrics.trust.structure_norms import deviations, measure_shapes, structure_norms

GRID = Grid.regular((20, 20, 40), (2.0, 1.0, 1.0))
STRUCTURES = (("left kidney", (1,)), ("right kidney", (2,)), ("tumour", (3,)))


def body(seed=0, *, swap=False, drop=None, scale=1, tumour=False, specks=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(GRID.shape, np.uint8)
    for value, x in ((1, 28), (2, 8)):
        if value != drop:
            z, y = rng.integers(5, 8, 2)
            labels[z : z + 4 + scale, y : y + 4, x : x + 4 + int(rng.integers(0, 2))] = value
    if tumour:
        labels[0:2, 0:2, 0:2] = 3
    for i in range(specks):
        labels[18, 18, 2 * i] = 1
    return labels[..., ::-1] if swap else labels


def shapes(labels):
    return measure_shapes(labels, GRID, STRUCTURES)


@pytest.fixture(scope="module")
def norms():
    return structure_norms([shapes(body(i, tumour=i < 3)) for i in range(30)])


def kinds(norms, labels, least=4.0):
    return {(d.kind, d.structure) for d in deviations(shapes(labels), norms) if d.z >= least}


def test_shapes_are_measured_in_millimetres():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[2:4, 3:6, 10:15] = 1
    labels[10, 10, 10] = 1
    left, right, _ = shapes(labels)
    assert left.volume_mm3 == (2 * 3 * 5 + 1) * 2.0
    assert left.pieces == 2
    assert left.largest_share == pytest.approx(30 / 31)
    index = np.argwhere(labels == 1).mean(0)
    np.testing.assert_allclose(left.centroid_mm, (index * (2, 1, 1))[::-1])
    np.testing.assert_allclose(left.from_centre_mm, (index * (2, 1, 1))[::-1] - (19.5, 9.5, 19.0))
    assert right.volume_mm3 == 0


def test_ordinary_cases_are_ordinary(norms):
    assert not any(kinds(norms, body(100 + i)) for i in range(10))
    assert [norm.present for norm in norms] == [30, 30, 3]
    assert norms[0].always
    assert norms[2].log_volume is None


def test_what_is_strange_is_told(norms):
    assert ("missing", "right kidney") in kinds(norms, body(1, drop=2))
    assert ("volume", "left kidney") in kinds(norms, body(1, scale=8))
    assert ("pieces", "left kidney") in kinds(norms, body(1, specks=9))
    assert not kinds(norms, body(1, tumour=True))


def test_swapped_sides_are_told_in_words(norms):
    found = [d for d in deviations(shapes(body(1, swap=True)), norms) if d.kind == "side"]
    assert {d.structure for d in found} == {"left kidney", "right kidney"}
    text = next(d.text for d in found if d.structure == "left kidney")
    assert text == (
        "left kidney lies on the wrong side: to the right of the other structures, in training to the left of them"
    )


def test_volumes_in_words(norms):
    text = next(d.text for d in deviations(shapes(body(1, scale=8)), norms) if d.kind == "volume")
    assert "standard deviations above the training's" in text


def test_a_region_is_the_union_of_its_values():
    labels = body(1)
    (both,) = measure_shapes(labels, GRID, (("kidneys", (1, 2)),))
    assert both.pieces == 2
    assert both.volume_mm3 == (labels > 0).sum() * 2.0


def test_planes_are_measured_too():
    labels = np.zeros((10, 12), np.uint8)
    labels[2:5, 3:7] = 1
    (shape,) = measure_shapes(labels, Grid.regular((10, 12), (0.5, 0.5)), (("disc", (1,)),))
    assert shape.volume_mm3 == 12 * 0.25
    assert len(shape.centroid_mm) == 2


def test_no_case_is_no_norm():
    with pytest.raises(InputError):
        structure_norms([])
