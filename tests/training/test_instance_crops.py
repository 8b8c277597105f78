"""What a network of instances is taught: crops, their targets, and what nobody told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delineate.errors import DatasetError
from delineate.masks.instance_targets import instance_targets
from delineate.training.instances import InstanceImage, InstanceLoss, InstanceSource
from delineate.training.instances.crops import UNKNOWN_TYPE, CropSettings, draw_crop
from instance_pictures import discs, picture_of

INSTANCES = discs(0, 64)
PLAIN = CropSettings(size=(64, 64), augment=False, on_instance=0.0)


def source(types: np.ndarray | None, *, colour: bool = True) -> InstanceSource:
    picture = picture_of(INSTANCES, 0, colour=colour).reshape(64, 64, -1) / np.float32(255)
    image = InstanceImage(
        picture=np.repeat(picture, 3 // picture.shape[2], axis=2).astype(np.float32),
        instances=INSTANCES,
        types=types,
        fluorescence=not colour,
    )
    return InstanceSource(names=("a",), open={"a": image}.__getitem__, weight=1.0)


def crop(types: np.ndarray | None, settings: CropSettings = PLAIN, seed: int = 0, *, colour: bool = True):
    return draw_crop([source(types, colour=colour)], settings, np.random.default_rng(seed))


def test_targets_are_those_of_the_instances_that_the_crop_shows() -> None:
    types = np.arange(INSTANCES.max() + 1) % 2 + 1
    types[0] = 0
    drawn = crop(types)
    assert np.array_equal(drawn.image.numpy().transpose(1, 2, 0), source(types).open("a").picture)
    found = drawn.targets.numpy()
    assert np.array_equal(found[:3], instance_targets(INSTANCES).stacked())
    assert np.array_equal(found[3], types[INSTANCES])


def test_an_object_whose_type_nobody_told_is_not_taught_as_background() -> None:
    types = np.arange(INSTANCES.max() + 1) % 2 + 1
    types[[0, 2]] = 0
    kinds = crop(types).targets[3].numpy()
    assert (kinds[INSTANCES == 2] == UNKNOWN_TYPE).all()
    assert (kinds[INSTANCES == 0] == 0).all()
    assert (kinds[INSTANCES == 1] == types[1]).all()


def test_without_types_all_of_it_is_unknown_and_costs_nothing() -> None:
    targets = crop(None).targets
    assert (targets[3] == UNKNOWN_TYPE).all()
    loss = InstanceLoss(types=2)
    logits = torch.zeros(1, 6, 64, 64, requires_grad=True)
    loss(logits, targets[None]).backward()
    assert not logits.grad[:, 3:].any()
    assert logits.grad[:, :3].any()


def test_unknown_objects_send_no_gradient_to_the_types() -> None:
    types = np.ones(INSTANCES.max() + 1, dtype=np.int64)
    types[[0, 2]] = 0
    logits = torch.zeros(1, 5, 64, 64, requires_grad=True)
    InstanceLoss(types=1)(logits, crop(types).targets[None]).backward()
    sent = logits.grad[0, 3:].abs().sum(0).numpy() > 0
    assert np.array_equal(sent, INSTANCES != 2)


@pytest.mark.parametrize("colour", [True, False])
def test_a_crop_is_a_function_of_its_generator(colour: bool) -> None:
    settings = CropSettings(size=(48, 48))
    one, same, other = (crop(None, settings, seed, colour=colour) for seed in (3, 3, 4))
    assert torch.equal(one.image, same.image)
    assert torch.equal(one.targets, same.targets)
    assert not torch.equal(one.image, other.image)
    for seed in range(20):
        image = crop(None, settings, seed, colour=colour).image
        assert image.shape == (3, 48, 48)
        assert float(image.min()) >= 0
        assert float(image.max()) <= 1


def test_there_must_be_something_to_draw_from() -> None:
    empty = InstanceSource(names=(), open=lambda name: pytest.fail(name), weight=1.0)
    with pytest.raises(DatasetError, match="at least one"):
        draw_crop([empty], PLAIN, np.random.default_rng(0))
