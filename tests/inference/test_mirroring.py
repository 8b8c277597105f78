"""Mirroring: all flips, flipped back, in batches of the asked size."""

import pytest
import torch
from fake_networks import COUNTED, Constant, Counting, Pointwise, Ramp

from delineate.inference.mirroring import flip_sets, mirrored_mean


def test_flip_sets_are_all_subsets_the_empty_one_first():
    assert flip_sets(()) == ((),)
    assert flip_sets((0, 2)) == ((), (0,), (2,), (0, 2))
    assert len(flip_sets((0, 1, 2))) == 8


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_a_network_that_commutes_with_flips_is_not_changed(batch_size):
    tiles = torch.randn(3, 2, 4, 5, 6)
    network = Pointwise([[1.0, 2.0], [0.0, -1.0]])
    with torch.inference_mode():
        mean = mirrored_mean(network, tiles, flip_sets((0, 1, 2)), batch_size)
        torch.testing.assert_close(mean, network(tiles))


def test_a_ramp_and_its_mirror_image_give_their_mean():
    mean = mirrored_mean(Ramp(1), torch.zeros(1, 1, 4, 5, 6), flip_sets((1,)), 2)
    torch.testing.assert_close(mean, torch.full_like(mean, 2.0))


def test_mirrored_answers_are_mirror_equivariant():
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    tiles = torch.randn(1, 1, 6, 7, 8)
    flips = flip_sets((0, 2))
    with torch.inference_mode():
        straight = mirrored_mean(network, tiles, flips, 4)
        turned = mirrored_mean(network, tiles.flip(2), flips, 4).flip(2)
    torch.testing.assert_close(straight, turned)


def test_batches_are_never_larger_than_asked():
    COUNTED.clear()
    mirrored_mean(Counting(Constant(1.0, 2.0)), torch.zeros(3, 1, 4, 4), flip_sets((0, 1)), 5)
    assert [shape[0] for shape in COUNTED] == [5, 5, 2]
