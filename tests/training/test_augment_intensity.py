import pytest
import torch
from training_oracle import answers

from delineate.training.augment.intensity import add_noise, scale_brightness, stretch_contrast, warp_gamma


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 20 + 5


@pytest.mark.oracle
def test_contrast_and_gamma_equal_nnunet():
    oracle = answers()
    image = oracle.tensor("rows_image")
    gamma, contrast = torch.tensor([0.7, 1.4]), torch.tensor([0.75, 1.25])
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(stretch_contrast(image.clone(), contrast), oracle.tensor("rows_contrast"), **close)
    torch.testing.assert_close(warp_gamma(image.clone(), gamma, inverted=False), oracle.tensor("rows_gamma"), **close)
    torch.testing.assert_close(warp_gamma(image.clone(), gamma, inverted=True), oracle.tensor("rows_inverted"), **close)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_keeps_statistics_and_order(inverted):
    before = rows(3, 6, 7, 8)
    after = warp_gamma(before.clone(), torch.tensor([0.7, 1.0, 1.5]), inverted=inverted)
    torch.testing.assert_close(after.mean((1, 2, 3)), before.mean((1, 2, 3)), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after.std((1, 2, 3)), before.std((1, 2, 3)), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after[1], before[1], rtol=1e-4, atol=1e-3)
    assert torch.equal(after[0].flatten().argsort(), before[0].flatten().argsort())


def test_gamma_of_the_negative_is_the_negative_of_gamma():
    exponent = torch.tensor([1.3])
    direct = warp_gamma(-rows(1, 5, 5), exponent, inverted=False)
    torch.testing.assert_close(warp_gamma(rows(1, 5, 5), exponent, inverted=True), -direct)


def test_contrast_stays_within_the_range():
    before = rows(2, 9, 9)
    after = stretch_contrast(before.clone(), torch.tensor([0.75, 1.25]))
    assert torch.equal(after.amin((1, 2))[1], before.amin((1, 2))[1])
    assert torch.equal(after.amax((1, 2))[1], before.amax((1, 2))[1])
    torch.testing.assert_close(after[0].std(), 0.75 * before[0].std())


def test_brightness_is_a_factor_per_row():
    before = rows(2, 4, 4, 4)
    after = scale_brightness(before.clone(), torch.tensor([0.5, 2.0]))
    assert torch.equal(after, torch.stack([before[0] * 0.5, before[1] * 2]))


def test_noise_has_its_deviation_and_comes_from_its_seed():
    quiet = torch.zeros(2, 32, 32, 32)
    first, second = add_noise(quiet.clone(), 0.1, 11), add_noise(quiet.clone(), 0.1, 11)
    assert torch.equal(first, second)
    assert first.std().item() == pytest.approx(0.1, rel=0.02)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, add_noise(quiet.clone(), 0.1, 12))


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 1, 1, 1)])
def test_constant_images_stay_finite_and_constant(value, shape):
    image = torch.full(shape, value)
    factor = torch.full(shape[:1], 1.2)
    for changed in (
        stretch_contrast(image.clone(), factor),
        warp_gamma(image.clone(), factor, inverted=False),
        warp_gamma(image.clone(), factor, inverted=True),
    ):
        torch.testing.assert_close(changed, image)
