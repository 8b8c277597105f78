"""What a network of instances is taught: crops, their targets, and what nobody told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from delineate.errors import DatasetError
from delineate.masks.instance_targets import instance_targets
from delineate.training.instances import InstanceImage, InstanceLoss, InstanceSource
from delineate.training.instances.atlas import MOST_KIND_WEIGHT, TINY, UNKNOWN_TYPE, Atlas
from delineate.training.instances.crops import Crops, CropSettings, draw_crops
from instance_pictures import discs, picture_of

INSTANCES = discs(0, 64)
PLAIN = CropSettings(size=(64, 64), augment=False, on_instance=0.0)
CPU = torch.device("cpu")


def image_of(types: np.ndarray | None, *, colour: bool = True, instances: np.ndarray = INSTANCES) -> InstanceImage:
    picture = picture_of(INSTANCES, 0, colour=colour).reshape(64, 64, -1) / np.float32(255)
    return InstanceImage(
        picture=np.repeat(picture, 3 // picture.shape[2], axis=2).astype(np.float32),
        instances=instances,
        types=types,
        fluorescence=not colour,
    )


def atlas_of(*images: InstanceImage) -> Atlas:
    packed = {str(index): image.packed() for index, image in enumerate(images)}
    return Atlas.of([InstanceSource(images=packed, weight=1.0)], CPU)


def crop(
    types: np.ndarray | None, settings: CropSettings = PLAIN, seed: int = 0, *, colour: bool = True, count: int = 1
) -> Crops:
    return draw_crops(atlas_of(image_of(types, colour=colour)), settings, count, (seed,), slice(0, count))


def test_targets_are_those_of_the_instances_that_the_crop_shows() -> None:
    types = np.arange(INSTANCES.max() + 1) % 2 + 1
    types[0] = 0
    drawn = crop(types)
    assert np.array_equal(drawn.images[0].numpy().transpose(1, 2, 0), image_of(types).picture)
    found, true = drawn.targets[0].numpy(), instance_targets(INSTANCES).stacked()
    assert np.array_equal(found[:2], true[:2])
    np.testing.assert_allclose(found[2], true[2], atol=0.5 / 255 + 1e-6)
    assert np.array_equal(found[3], types[INSTANCES])


def test_numbers_that_need_many_bits_and_tiny_instances_are_kept_apart() -> None:
    instances = INSTANCES * 1_000_003
    instances[0, :2] = TINY - 1
    true = instance_targets(instances).stacked()
    found = draw_crops(atlas_of(image_of(None, instances=instances)), PLAIN, 1, (0,), slice(0, 1)).targets[0].numpy()
    assert np.array_equal(found[:2], true[:2])
    assert found[1, 0, :2].all()


def test_pixels_where_instances_touch_are_told() -> None:
    instances = np.zeros((64, 64), dtype=np.int32)
    instances[20:30, 20:30], instances[20:30, 30:40], instances[50:60, 50:60] = 1, 2, 3
    touching = draw_crops(atlas_of(image_of(None, instances=instances)), PLAIN, 1, (0,), slice(0, 1)).targets[0, 4]
    expected = np.zeros((64, 64), dtype=bool)
    expected[19:31, 28:32] = True
    assert np.array_equal(touching.numpy() > 0, expected)


def test_a_magnified_crop_shows_larger_instances_with_the_same_maps() -> None:
    settings = CropSettings(size=(64, 64), zoom=(2.0, 2.0), aspect=1.0, on_instance=0.0)
    areas = [crop(None, settings, seed).targets[0, 0].mean() for seed in range(60)]
    once = [crop(None, CropSettings(size=(64, 64), zoom=(1, 1), on_instance=0.0), seed) for seed in range(60)]
    assert np.mean(areas) == pytest.approx(np.mean([one.targets[0, 0].mean() for one in once]), rel=0.15)
    for seed in range(5):
        targets = crop(None, settings, seed).targets[0]
        assert float(targets[2].max()) > 0.9
        assert not ((targets[1] > 0) & (targets[0] == 0)).any()
        assert not ((targets[2] > 0) & (targets[0] == 0)).any()


def test_rare_types_count_more_but_not_without_limit() -> None:
    types = np.ones(INSTANCES.max() + 1, dtype=np.int64)
    types[0], types[1] = 0, 2
    background, common, rare, unseen = atlas_of(image_of(types)).kind_weights(3)
    assert background < common < rare == unseen
    assert rare <= MOST_KIND_WEIGHT
    counts = np.bincount(types[INSTANCES].ravel())
    assert common / background == pytest.approx(np.sqrt(counts[0] / counts[1]))
    assert atlas_of(image_of(None)).kind_weights(2) == (1.0, 1.0, 1.0)


def test_shares_of_a_batch_are_the_batch() -> None:
    settings = CropSettings(size=(48, 48))
    atlas = atlas_of(image_of(None), image_of(None, colour=False))
    whole = draw_crops(atlas, settings, 6, (4,), slice(0, 6))
    parts = [draw_crops(atlas, settings, 6, (4,), slice(start, start + 3)) for start in (0, 3)]
    assert whole.names == tuple(name for part in parts for name in part.names)
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))


def test_an_object_whose_type_nobody_told_is_not_taught_as_background() -> None:
    types = np.arange(INSTANCES.max() + 1) % 2 + 1
    types[[0, 2]] = 0
    kinds = crop(types).targets[0, 3].numpy()
    assert (kinds[INSTANCES == 2] == UNKNOWN_TYPE).all()
    assert (kinds[INSTANCES == 0] == 0).all()
    assert (kinds[INSTANCES == 1] == types[1]).all()


def test_without_types_all_of_it_is_unknown_and_costs_nothing() -> None:
    targets = crop(None).targets
    assert (targets[0, 3] == UNKNOWN_TYPE).all()
    loss = InstanceLoss(types=2)
    logits = torch.zeros(1, 6, 64, 64, requires_grad=True)
    loss(logits, targets).backward()
    assert not logits.grad[:, 3:].any()
    assert logits.grad[:, :3].any()


def test_unknown_objects_send_no_gradient_to_the_types() -> None:
    types = np.ones(INSTANCES.max() + 1, dtype=np.int64)
    types[[0, 2]] = 0
    logits = torch.zeros(1, 5, 64, 64, requires_grad=True)
    InstanceLoss(types=1)(logits, crop(types).targets).backward()
    sent = logits.grad[0, 3:].abs().sum(0).numpy() > 0
    assert np.array_equal(sent, INSTANCES != 2)


@pytest.mark.parametrize("colour", [True, False])
def test_crops_are_a_function_of_their_seed(colour: bool) -> None:
    settings = CropSettings(size=(48, 48))
    one, same, other = (crop(None, settings, seed, colour=colour, count=40) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.targets, same.targets)
    assert not torch.equal(one.images, other.images)
    assert one.images.shape == (40, 3, 48, 48)
    assert float(one.images.min()) >= 0
    assert float(one.images.max()) <= 1


def test_there_must_be_something_to_draw_from() -> None:
    with pytest.raises(DatasetError, match="at least one"):
        Atlas.of([InstanceSource(images={}, weight=1.0)], CPU)
