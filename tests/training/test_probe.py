from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from delineate.errors import ResourceError
from delineate.training import measure_step, probe
from training.toys import toy_configuration, toy_recipe


def measured(configuration=None, **recipe):
    return measure_step(
        configuration or toy_configuration(), toy_recipe(**recipe), in_channels=1, heads=3, device="cpu", max_seconds=20
    )


def test_a_step_costs_time_and_memory():
    began = time.perf_counter()
    cost = measured()
    assert 0 < cost.seconds < time.perf_counter() - began
    assert cost.peak_bytes >= 0


def test_a_larger_batch_needs_more_memory():
    small = measured(patch_size=(16, 16, 16), batch_size=1)
    large = measured(patch_size=(48, 48, 48), batch_size=8, augmentation="none")
    # the input alone has 28 MB more, and each activation of the first stage 113 MB
    assert large.peak_bytes > small.peak_bytes + 100e6
    assert large.seconds > small.seconds


@pytest.mark.parametrize("recipe", [{"precision": "bfloat16", "channels_last": True}, {"augmentation": "nnunet"}])
def test_every_kind_of_step_is_measured(recipe):
    assert measured(**recipe).seconds > 0


def test_planes_are_measured():
    architecture = replace(
        toy_configuration().architecture, dims=2, kernel_sizes=((3, 3), (3, 3)), strides=((1, 1), (2, 2))
    )
    plane = toy_configuration(architecture=architecture, patch_size=(16, 16), spacing_mm=(1.0, 1.0))
    assert measured(plane, patch_size=(16, 16), mirror_axes=(0, 1)).seconds > 0


def test_the_time_limit_ends_the_measuring(monkeypatch):
    steps = []
    run = probe._Trial.run
    monkeypatch.setattr(probe._Trial, "run", lambda self, index: (steps.append(index), run(self, index)))
    measure_step(toy_configuration(), toy_recipe(), in_channels=1, heads=1, device="cpu", max_seconds=0)
    assert steps == [0]


def test_a_step_that_does_not_fit_is_told(monkeypatch):
    monkeypatch.setattr(probe, "build_network", lambda *_, **__: torch.empty(1 << 55))
    with pytest.raises(ResourceError, match="Patch 8x8x8 in batches of 2 is too much"):
        measured()
