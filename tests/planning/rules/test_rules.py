"""Each rule on examples worked out by hand, and on published vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.planning.plan import Architecture
from delineate.planning.rules.batch import batch_size
from delineate.planning.rules.cost import parameter_count, step_operations
from delineate.planning.rules.lowres import coarser
from delineate.planning.rules.memory import feature_map_voxels
from delineate.planning.rules.normalization import masks_for_normalization, normalization_of
from delineate.planning.rules.patch import axis_to_shrink, initial_patch, shrink_once
from delineate.planning.rules.spacing import axis_order, resampled_shape, target_spacing
from delineate.planning.rules.topology import pooling, round_up

SIX_STAGES = {
    "dims": 3,
    "features": (32, 64, 128, 256, 320, 320),
    "kernel_sizes": ((3, 3, 3),) * 6,
    "strides": ((1, 1, 1), *((2, 2, 2),) * 5),
}
PLAIN = Architecture(kind="plain_unet", encoder_blocks=(2,) * 6, decoder_convs=(2,) * 5, **SIX_STAGES)
RESIDUAL = Architecture(kind="residual_unet", encoder_blocks=(1, 3, 4, 6, 6, 6), decoder_convs=(1,) * 5, **SIX_STAGES)


@pytest.mark.parametrize(("network", "heads", "values"), [(PLAIN, 3, 453_694_976), (RESIDUAL, 3, 558_319_104)])
def test_memory_proxy_of_nnunet(network, heads, values):
    assert feature_map_voxels(network, (128, 128, 128), heads, deep_supervision=True) == values
    finer = sum((128 // 2**stage) ** 3 for stage in range(1, 5))
    assert feature_map_voxels(network, (128, 128, 128), heads) == values - heads * finer


def test_memory_proxy_of_nnunet_in_two_dimensions():
    network = Architecture(
        kind="residual_unet",
        dims=2,
        features=(32, 64, 128, 256, 512, 512, 512),
        kernel_sizes=((3, 3),) * 7,
        strides=((1, 1), *((2, 2),) * 6),
        encoder_blocks=(1, 3, 4, 6, 6, 6, 6),
        decoder_convs=(1,) * 6,
    )
    assert feature_map_voxels(network, (512, 512), 3, deep_supervision=True) == 129_793_792


@pytest.mark.parametrize(("network", "parameters"), [(PLAIN, 31_196_399), (RESIDUAL, 102_351_343)])
def test_parameters(network, parameters):
    assert parameter_count(network, 1, 3) == parameters


def test_operations_grow_with_the_patch():
    assert step_operations(PLAIN, (64, 64, 64), 1, 3) * 8 == step_operations(PLAIN, (128, 128, 128), 1, 3)


def test_target_spacing_is_the_median_unless_one_axis_is_coarse_and_thin():
    spacings = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
    assert target_spacing(spacings, np.full((3, 3), 100)).tolist() == [2.0, 1.0, 1.0]
    coarse = np.array([[5.0, 1.0, 1.0], [10.0, 1.0, 1.0], [10.0, 1.0, 1.0]])
    thin = np.array([[10, 200, 200]] * 3)
    assert target_spacing(coarse, thin).tolist() == [6.0, 1.0, 1.0]
    assert target_spacing(coarse, np.full((3, 3), 200)).tolist() == [10.0, 1.0, 1.0]


def test_target_spacing_never_makes_the_coarse_axis_the_finest():
    spacings = np.array([[0.5, 1.0, 1.0], [10.0, 1.0, 1.0], [10.0, 1.0, 1.0], [10.0, 1.0, 1.0], [0.5, 1.0, 1.0]])
    assert target_spacing(spacings, np.array([[10, 200, 200]] * 5))[0] == pytest.approx(1.00001)


def test_axis_order_puts_the_coarsest_axis_first():
    order = axis_order(np.array([0.8, 0.9, 4.0]))
    assert (order.forward, order.backward) == ((2, 0, 1), (1, 2, 0))
    assert axis_order(np.ones(3)).forward == (0, 1, 2)


def test_resampled_shape_rounds_half_to_even():
    assert resampled_shape((5, 3, 10), (1.0, 1.0, 1.5), (2.0, 2.0, 1.0)) == (2, 2, 15)


def test_normalization_by_channel_name():
    assert [normalization_of(n) for n in ("CT", "ct", "MRI", "noNorm", "RGB_to_0_1")] == [
        "ct", "ct", "zscore", "none", "rgb_to_0_1",
    ]  # fmt: skip
    assert masks_for_normalization(("ct", "zscore"), 0.74) == (False, True)
    assert masks_for_normalization(("ct", "zscore"), 0.75) == (False, False)


def test_pooling_spares_a_coarse_axis():
    found = pooling((5.0, 1.0, 1.0), (16, 256, 256))
    assert found.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert found.kernel_sizes[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert found.kernel_sizes[-1] == (3, 3, 3)


def test_a_lone_axis_is_halved_only_if_it_stays_long():
    assert pooling((1.0, 1.0), (11, 4)).strides == ((1, 1),)
    assert pooling((1.0, 1.0), (12, 4)).strides == ((1, 1), (2, 1))


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(1, 400)), min_size=2, max_size=3),
    st.integers(2, 6),
)
def test_a_padded_patch_is_divisible_and_hardly_larger(axes, stages):
    spacing, size = zip(*axes, strict=True)
    for found in (pooling(spacing, size), pooling(spacing, size, stages)):
        for given_size, padded, divisor in zip(size, found.patch_size, found.divisor, strict=True):
            assert padded % divisor == 0
            assert given_size <= padded < given_size + divisor
        assert len(found.strides) == len(found.kernel_sizes)
    assert len(found.strides) <= stages


@given(st.floats(0.5, 1000), st.integers(0, 6))
def test_round_up(size, power):
    padded = round_up(size, 2**power)
    assert padded % 2**power == 0
    assert size <= padded < size + 2**power


def test_initial_patch_follows_spacing_and_stays_in_the_image():
    assert initial_patch((1.0, 1.0, 1.0), (500.0, 500.0, 500.0)) == (256.0, 256.0, 256.0)
    assert initial_patch((2.0, 1.0, 1.0), (500.0, 500.0, 300.5)) == (161.0, 323.0, 300.5)
    assert initial_patch((1.0, 1.0), (5000.0, 100.0)) == (2048.0, 100.0)


def test_shrinking_takes_the_axis_that_is_largest_relative_to_the_image():
    assert axis_to_shrink((64, 64, 32), (100.0, 200.0, 100.0)) == 0
    assert axis_to_shrink((64, 64, 64), (100.0, 100.0, 100.0)) == 2


def test_shrinking_does_not_jump_over_a_size():
    found = pooling((1.0, 1.0), (256, 256))
    assert found.divisor == (64, 64)
    assert shrink_once(found, (1.0, 1.0), (256.0, 256.0)).patch_size == (256, 224)


def test_batch_fills_memory_but_sees_a_share_of_the_data_at_most():
    patch = (40, 56, 40)
    assert batch_size(560e6, 28e6, 2, dataset_voxels=1e12, share=0.05, patch=patch) == 40
    assert batch_size(560e6, 28e6, 2, dataset_voxels=208 * 63000, share=0.05, patch=patch) == 7
    assert batch_size(560e6, 28e9, 2, dataset_voxels=1, share=0.05, patch=patch) == 2


def test_coarser_lets_fine_axes_catch_up_first():
    assert coarser(np.array([3.0, 1.0, 1.0])).tolist() == [3.0, 1.03, 1.03]
    assert coarser(np.array([2.0, 1.0, 1.0])).tolist() == [2.06, 1.03, 1.03]
