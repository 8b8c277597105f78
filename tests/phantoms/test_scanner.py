import numpy as np
import pytest

from delineate.phantoms import SCANNERS, Scanner


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda s: s.name)
def test_a_grid_lies_around_its_centre(scanner):
    grid = scanner.grid((5.0, -3.0, 20.0))
    middle = grid.affine @ [*((n - 1) / 2 for n in grid.shape), 1]
    assert np.allclose(middle[:3], (5, -3, 20))
    extent = np.multiply(grid.shape, grid.spacing_mm)
    assert np.allclose(extent, scanner.field_mm, rtol=0.03)


def test_scanners_differ_in_every_way():
    assert len({s.name for s in SCANNERS}) == len(SCANNERS) >= 3
    assert any(s.tilt_deg != (0, 0) for s in SCANNERS)
    assert any(any(s.flips) for s in SCANNERS)
    assert len({s.spacing_mm for s in SCANNERS}) == len({s.noise_hu for s in SCANNERS}) == len(SCANNERS)


def test_flips_turn_array_axes_round():
    plain, flipped = (
        Scanner(name="a", spacing_mm=(5, 5, 5)),
        Scanner(name="b", spacing_mm=(5, 5, 5), flips=(True, False, True)),
    )
    a, b = plain.grid((0, 0, 0)), flipped.grid((0, 0, 0))
    assert np.allclose(np.array(b.direction), np.array(a.direction) * [[-1], [1], [-1]])


def test_noise_offset_and_blur_are_as_stated():
    scanner = Scanner(name="a", spacing_mm=(4, 4, 4), blur_mm=3.0, noise_hu=15.0, offset_hu=7.0)
    grid = scanner.grid((0, 0, 0))
    flat = scanner.acquire(np.full(grid.shape, 40, np.float32), grid, np.random.default_rng(0))
    assert flat.mean() == pytest.approx(47, abs=0.5)
    assert flat.std() == pytest.approx(15, rel=0.03)
    edge = np.zeros(grid.shape, np.float32)
    edge[:, :, grid.shape[2] // 2 :] = 1000
    quiet = Scanner(name="q", spacing_mm=(4, 4, 4), blur_mm=3.0, noise_hu=0.0)
    profile = quiet.acquire(edge, grid, np.random.default_rng(0))[5, 5]
    assert ((profile > 20) & (profile < 980)).sum() >= 2


def test_noise_is_smooth_in_part():
    scanner = Scanner(name="a", spacing_mm=(4, 4, 4), noise_hu=20.0)
    grid = scanner.grid((0, 0, 0))
    noise = scanner.acquire(np.zeros(grid.shape, np.float32), grid, np.random.default_rng(1)).astype(float)
    neighbours = np.corrcoef(noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel())[0, 1]
    assert 0.2 < neighbours < 0.6
