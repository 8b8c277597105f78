import math

import pytest
import torch

from delineate.training.augment import NONE, policy_for
from delineate.training.augment.draws import Selection, draw

SAMPLES = 4000
POLICY = policy_for("nnunet", (40, 56, 40), 3, (0, 2))


def drawn(policy=POLICY, samples=SAMPLES, channels=2, dims=3, seed=7):
    return draw(policy, torch.Generator().manual_seed(seed), samples, channels, dims)


def assert_share(count, probability, trials):
    """Within four standard deviations of the binomial distribution."""
    spread = math.sqrt(probability * (1 - probability) / trials)
    assert abs(count / trials - probability) < 4 * spread


def test_how_often_things_happen():
    draws = drawn()
    assert_share(len(draws.affine), 1 - 0.8 * 0.8, SAMPLES)
    assert_share(len(draws.noise), 0.1, SAMPLES)
    assert_share(len(draws.blur) / 2, 0.1, SAMPLES)
    assert_share(len(draws.brightness) / 2, 0.15, SAMPLES)
    assert_share(len(draws.contrast) / 2, 0.15, SAMPLES)
    assert_share(len(draws.low_resolution) / 2, 0.125, SAMPLES)
    assert_share(len(draws.gammas[0]) / 2, 0.1, SAMPLES)
    assert_share(len(draws.gammas[1]) / 2, 0.3, SAMPLES)
    assert not draws.flips[:, 1].any()
    for axis in (0, 2):
        assert_share(int(draws.flips[:, axis].sum()), 0.5, SAMPLES)


def test_how_strong_things_are():
    draws = drawn()
    scales = torch.linalg.det(draws.affine.values).pow(1 / 3)
    assert 0.7 <= scales.min() < 0.71
    assert 1.39 < scales.max() <= 1.4
    assert_share(int((scales - 1).abs().lt(1e-9).sum()), 0.2 * 0.8 / 0.36, len(scales))
    assert draws.blur.values.min() >= 0.5
    assert draws.blur.values.max() <= 1.0
    assert draws.blur.values.shape[1] == 3
    assert 0 <= draws.noise.values[:, 0].min() <= draws.noise.values[:, 0].max() <= 0.1
    assert draws.low_resolution.values.mean() == pytest.approx(0.75, abs=0.02)
    for chosen, low, high in [(draws.brightness, 0.75, 1.25), (draws.gammas[1], 0.7, 1.5)]:
        below = chosen.values < 1
        assert_share(int(below.sum()), 0.5, len(below))
        assert low <= chosen.values.min() < chosen.values.max() <= high
        assert chosen.values[below].mean() == pytest.approx((1 + low) / 2, abs=0.02)
        assert chosen.values[~below].mean() == pytest.approx((1 + high) / 2, abs=0.02)


def test_in_plane_rotations_are_two_dimensional():
    draws = drawn(policy_for("nnunet", (12, 64, 64), 3, ()), channels=1)
    assert draws.affine.values.shape[1:] == (2, 2)


def test_light_moves_three_in_ten():
    draws = drawn(policy_for("light", (40, 56, 40), 3, ()))
    assert_share(len(draws.affine), 0.3, SAMPLES)


def flattened(draws, samples, channels):
    """All decisions as one table per sample, however they were batched."""
    table = torch.full((samples, 60), -5.0, dtype=torch.float64)
    selections = [draws.affine, draws.noise, draws.blur, draws.brightness, draws.contrast, draws.low_resolution]
    for place, chosen in enumerate([*selections, *draws.gammas]):
        by_row = place not in (0, 1)
        for index, value in zip(chosen.index.tolist(), chosen.values, strict=True):
            sample, channel = divmod(index, channels) if by_row else (index, 0)
            table[sample, 6 * place + 2 * channel] = value.sum()
    return torch.cat([table, draws.flips.double()], 1)


def test_a_batch_equals_its_samples_one_by_one():
    together = flattened(drawn(samples=12), 12, 2)
    generator = torch.Generator().manual_seed(7)
    apart = torch.cat([flattened(draw(POLICY, generator, 1, 2, 3), 1, 2) for _ in range(12)])
    assert torch.equal(together, apart)


def test_the_generator_state_is_all_the_state():
    generator = torch.Generator().manual_seed(3)
    draw(POLICY, generator, 5, 1, 3)
    state = generator.get_state()
    first = flattened(draw(POLICY, generator, 5, 1, 3), 5, 1)
    second = flattened(draw(POLICY, torch.Generator().set_state(state), 5, 1, 3), 5, 1)
    assert torch.equal(first, second)


def test_nothing_is_drawn_for_nothing():
    draws = drawn(NONE, samples=5)
    selections = [
        value for value in (draws.affine, draws.noise, draws.blur, draws.contrast) if isinstance(value, Selection)
    ]
    assert [len(chosen) for chosen in selections] == [0, 0, 0, 0]
    assert not draws.flips.any()
    assert draws.gammas == ()
