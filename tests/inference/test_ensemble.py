"""Ensembles: the mean, and every way in which networks can give a bad answer."""

import pytest
import torch
from fake_networks import Constant, DeepSupervised, Identity

from delineate.errors import ModelError, UsageError
from delineate.inference.ensemble import make_ensemble


def test_mean_of_the_logits():
    ensemble = make_ensemble([Constant(1.0, 0.0), Constant(3.0, 0.0), Constant(5.0, 3.0)])
    logits = ensemble(torch.zeros(2, 1, 3, 3, 3))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits[1, :, 0, 0, 0], torch.tensor([3.0, 1.0]))


def test_a_network_that_hands_back_its_input_does_not_spoil_the_others():
    batch = torch.ones(1, 1, 4, 4)
    torch.testing.assert_close(make_ensemble([Identity(), Identity(), Identity()])(batch), batch)
    torch.testing.assert_close(batch, torch.ones(1, 1, 4, 4))


def test_a_list_of_logits_counts_with_its_first():
    class AlwaysList(DeepSupervised):
        def forward(self, x):
            return [x, x[..., ::2]]

    assert make_ensemble([AlwaysList()])(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 4, 4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_logits_name_the_network(bad):
    ensemble = make_ensemble([Constant(0.0), Constant(bad)])
    with pytest.raises(ModelError, match="Network 2 of 2 gave NaN or infinite logits"):
        ensemble(torch.zeros(1, 1, 2, 2, 2))


def test_networks_with_different_heads_are_told():
    with pytest.raises(ModelError, match="one shape"):
        make_ensemble([Constant(0.0), Constant(0.0, 1.0)])(torch.zeros(1, 1, 2, 2, 2))


def test_no_network_is_told():
    with pytest.raises(UsageError, match="at least one network"):
        make_ensemble([])


def test_layout_is_chosen_by_device_and_format():
    assert make_ensemble([Constant(0.0)]).channels_last
    assert not make_ensemble([Constant(0.0)], channels_last=False).channels_last
    assert make_ensemble([Constant(0.0)], precision="bfloat16").precision == "bfloat16"
