"""The previous stage in training: it moves with the image; its faults are seeded, exclusive and as frequent as said."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from delineate.case.labels import LabelScheme
from delineate.errors import PlanError
from delineate.training import Assignment, Runtime, TrainingCases, fit
from delineate.training.augment import augment_together, disturb, one_hot, policy_for
from delineate.training.augment.policy import PreviousStage
from delineate.training.augment.previous_stage import close, dilate, erode, open_
from delineate.training.sampler import CaseCache, PatchSampler, Sampling
from training.toys import toy_case, toy_configuration, toy_network, toy_recipe

ALWAYS = PreviousStage(shape_probability=1.0, removal_probability=0.0, channel_probability=1.0)
REMOVAL = PreviousStage(shape_probability=0.0, removal_probability=1.0, channel_probability=1.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def stage(samples=2, size=(18, 20, 16), labels=3, seed=0):
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal((samples, *size)), (0, 2, 2, 2)) for _ in range(labels + 1)]
    fields[0] += 0.05
    return torch.from_numpy(np.argmax(fields, axis=0).astype(np.int16))


def ball(radius, dims):
    reach = int(radius)
    index = np.indices((2 * reach + 1,) * dims) - reach
    return (index**2).sum(0) <= radius**2


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("radius", [1.0, 2.4])
def test_operations_are_those_of_an_exact_ball(dims, radius):
    mask = np.random.default_rng(dims).random((14,) * dims) < 0.2
    element = ball(radius, dims)
    grown = ndimage.binary_dilation(mask, element)
    shrunk = ndimage.binary_erosion(mask, element, border_value=1)
    np.testing.assert_array_equal(dilate(mask, radius), grown)
    np.testing.assert_array_equal(erode(mask, radius), shrunk)
    np.testing.assert_array_equal(close(mask, radius), ndimage.binary_erosion(grown, element, border_value=1))
    np.testing.assert_array_equal(open_(mask, radius), ndimage.binary_dilation(shrunk, element))


def test_channels_stay_exclusive_binary_and_are_changed():
    channels = one_hot(stage(), (1, 2, 3))
    changed = disturb(channels, ALWAYS, seeded())
    assert set(changed.unique().tolist()) <= {0.0, 1.0}
    assert float(changed.sum(1).max()) == 1.0
    assert (changed != channels).any()
    torch.testing.assert_close(channels, one_hot(stage(), (1, 2, 3)))


def test_the_same_generator_gives_the_same_faults_and_is_always_used_alike():
    channels = one_hot(stage(), (1, 2, 3))
    torch.testing.assert_close(disturb(channels, ALWAYS, seeded(4)), disturb(channels, ALWAYS, seeded(4)))
    one, other = seeded(4), seeded(4)
    disturb(channels, ALWAYS, one)
    disturb(torch.zeros_like(channels), REMOVAL, other)
    assert torch.equal(one.get_state(), other.get_state())


def test_a_small_component_vanishes_and_a_large_one_stays():
    labels = torch.zeros((1, 20, 20), dtype=torch.int16)
    labels[:, :10, :10] = 1  # a quarter of the patch
    labels[:, 15:17, 15:17] = 1
    changed = disturb(one_hot(labels, (1,)), REMOVAL, seeded())[0, 0]
    assert changed[:10, :10].all()
    assert not changed[15:17, 15:17].any()


def test_frequencies_are_nnunets():
    labels = torch.zeros((600, 12, 12), dtype=torch.int16)
    labels[:, 5:7, 5:7] = 1
    channels = one_hot(labels, (1,))
    shapes = disturb(channels, PreviousStage(removal_probability=0.0, radius_voxels=(2.0, 3.0)), seeded(1))
    # closing leaves a square alone, so three of four operations show: 0.4 * 0.5 * 3 / 4
    assert float((shapes != channels).flatten(1).any(1).float().mean()) == pytest.approx(0.15, abs=0.04)
    removed = disturb(channels, PreviousStage(shape_probability=0.0), seeded(2))
    assert float((removed.flatten(1).sum(1) == 0).float().mean()) == pytest.approx(0.1, abs=0.035)


@pytest.mark.parametrize("name", ["light", "nnunet"])
def test_the_stage_moves_with_the_labels(name):
    labels = stage(samples=6)
    policy = policy_for(name, tuple(labels.shape[1:]), 3, (0, 1, 2))
    images = labels[:, None].float()
    _, (first, second) = augment_together(images, (labels, labels.clone()), policy, seeded(3))
    assert torch.equal(first, second)
    assert (first != labels).any()
    alone = augment_together(images, (labels,), policy, seeded(3))[1][0]
    assert torch.equal(alone, first)


def test_nothing_is_disturbed_without_augmentation():
    assert policy_for("none", (8, 8, 8), 3, ()).previous_stage is None
    assert policy_for("nnunet", (8, 8, 8), 3, ()).previous_stage == PreviousStage()


@pytest.mark.parametrize("patch", [(8, 8, 8), (6, 6)])
def test_the_sampler_cuts_the_stage_where_it_cuts_the_labels(patch):
    case = toy_case(0)
    case = replace(case, previous=case.labels.copy())
    sampling = Sampling(
        batch_size=4, patch_size=patch, drawn_size=tuple(p + 6 for p in patch), foreground_fraction=0.5, seed=1
    )
    patches = PatchSampler(["a"], CaseCache({"a": case}.__getitem__), sampling).draw(2)
    np.testing.assert_array_equal(patches.previous, patches.labels)
    on_disk = PatchSampler(["a"], CaseCache({"a": case}.__getitem__, limit_bytes=0), sampling).draw(2)
    np.testing.assert_array_equal(on_disk.previous, patches.previous)


def test_a_cascade_needs_a_stage_and_nothing_else_takes_one(tmp_path):
    made = {i: toy_case(n) for n, i in enumerate("abc")}
    cases = TrainingCases(training=("a", "b"), validation=("c",), open=made.__getitem__)
    cascade = Assignment(
        configuration=toy_configuration(previous_stage="3d_lowres"),
        recipe=toy_recipe(),
        scheme=LabelScheme.simple("anterior", "posterior"),
    )
    with pytest.raises(PlanError, match="previous stage"):
        fit(toy_network(channels=3), cases, cascade, tmp_path / "run", runtime=Runtime(tensorboard=False))
