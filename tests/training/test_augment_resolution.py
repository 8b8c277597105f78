import pytest
import torch
from scipy import ndimage
from torch.nn import functional
from training_oracle import answers

from delineate.training.augment.resolution import blur, lower_resolution


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.oracle
def test_blur_equals_nnunet():
    oracle = answers()
    found = blur(oracle.tensor("rows_image"), oracle.tensor("rows_widths").double())
    torch.testing.assert_close(found, oracle.tensor("rows_blur"), rtol=1e-5, atol=1e-6)


@pytest.mark.oracle
def test_low_resolution_equals_nnunet():
    oracle = answers()
    image, zoom = oracle.tensor("rows_image"), torch.tensor([0.55, 0.81], dtype=torch.float64)
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(lower_resolution(image, zoom), oracle.tensor("rows_coarse"), **close)
    in_plane = lower_resolution(image, zoom, in_plane=True)
    torch.testing.assert_close(in_plane, oracle.tensor("rows_coarse_in_plane"), **close)


def test_blur_is_a_mirrored_gaussian():
    image = rows(1, 12, 11, 10)
    found = blur(image, torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64))
    expected = ndimage.gaussian_filter(image[0].numpy(), 1.0, mode="mirror", radius=3)
    torch.testing.assert_close(found[0], torch.from_numpy(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("zoom", [0.5, 0.61, 0.75, 0.99, 1.0])
def test_low_resolution_is_nearest_down_and_linear_up(zoom):
    image = rows(2, 13, 20)
    coarse = functional.interpolate(image[None], [round(s * zoom) for s in (13, 20)], mode="nearest-exact")
    expected = functional.interpolate(coarse, (13, 20), mode="bilinear")[0]
    found = lower_resolution(image, torch.tensor([zoom, zoom], dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 3, 1), (1, 3, 2)])
def test_tiny_and_constant_images(shape):
    image = torch.full(shape, 3.25)
    widths = torch.full((shape[0], len(shape) - 1), 0.9, dtype=torch.float64)
    torch.testing.assert_close(blur(image, widths), image)
    torch.testing.assert_close(lower_resolution(image, torch.full(shape[:1], 0.5, dtype=torch.float64)), image)


def test_rows_do_not_depend_on_their_neighbours():
    image = rows(3, 8, 9, 10)
    widths = torch.tensor([[0.5, 0.6, 0.7], [1.0, 0.9, 0.8], [0.55, 0.99, 0.6]], dtype=torch.float64)
    together = blur(image, widths)
    apart = torch.cat([blur(image[i : i + 1], widths[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart)
