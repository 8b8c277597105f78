"""Conversion for prediction: number format, layout, evaluation mode; the original stays as it was."""

import torch
from fake_networks import DeepSupervised
from torch import nn

from delineate.inference.precision import converted, layout_of


def network():
    return nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.Dropout(0.5))


def test_the_original_is_not_touched():
    original = network().train()
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    twin = converted(original, device="cpu", precision="bfloat16", channels_last=True)
    assert original.training
    assert not twin.training
    assert all(p.requires_grad for p in original.parameters())
    assert not any(p.requires_grad for p in twin.parameters())
    for name, tensor in original.state_dict().items():
        assert tensor.dtype == before[name].dtype
        torch.testing.assert_close(tensor, before[name])


def test_number_format_and_layout():
    twin = converted(network(), device="cpu", precision="bfloat16", channels_last=True)
    assert twin[0].weight.dtype == torch.bfloat16
    assert twin[0].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert twin[1].running_mean.dtype == torch.bfloat16
    assert twin[1].num_batches_tracked.dtype == torch.int64


def test_a_float32_twin_shares_the_weights():
    original = network()
    twin = converted(original, device="cpu")
    assert twin[0].weight.data_ptr() == original[0].weight.data_ptr()
    assert isinstance(twin[0].weight, nn.Parameter)


def test_deep_supervision_is_off_in_the_twin_only():
    original = DeepSupervised()
    assert not converted(original, device="cpu").deep_supervision
    assert original.deep_supervision


def test_layout_of_planes_volumes_and_vectors():
    assert layout_of(torch.zeros(1, 1, 2, 2), True) == torch.channels_last
    assert layout_of(torch.zeros(1, 1, 2, 2, 2), True) == torch.channels_last_3d
    assert layout_of(torch.zeros(3), True) == torch.preserve_format
    assert layout_of(torch.zeros(1, 1, 2, 2), False) == torch.preserve_format
