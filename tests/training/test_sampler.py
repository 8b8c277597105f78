from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from delineate.case.prepared import ANNOTATED_KEY
from delineate.errors import DatasetError
from delineate.training.augment import augment, policy_for
from delineate.training.sampler import (
    CaseCache,
    PatchSampler,
    Sampling,
    is_foreground_position,
    largest_shape,
)
from training.toys import ToyCase, toy_case, toy_cases

SAMPLING = Sampling(batch_size=3, patch_size=(6, 6, 6), foreground_fraction=0.33, seed=1)


def sampler_over(case: ToyCase, **changes) -> PatchSampler:
    return PatchSampler(["only"], CaseCache(lambda _: case), replace(SAMPLING, **changes))


def toy_sampler(**changes) -> PatchSampler:
    cases = toy_cases()
    return PatchSampler(cases.training, CaseCache(cases.open), replace(SAMPLING, **changes))


def test_a_batch_is_a_pure_function_of_seed_and_step():
    one, other = toy_sampler(), toy_sampler()
    other.draw(0)
    for step in (5, 3, 5):
        a, b = one.draw(step), other.draw(step)
        assert a.case_ids == b.case_ids
        assert np.array_equal(a.images, b.images)
        assert np.array_equal(a.labels, b.labels)
    assert not np.array_equal(one.draw(3).images, toy_sampler(seed=2).draw(3).images)
    assert not np.array_equal(one.draw(3).images, toy_sampler(stream=1).draw(3).images)


@pytest.mark.parametrize("patch", [(8, 8, 8), (8, 8)])
@pytest.mark.parametrize("order", ["shuffled", "with_replacement"])
def test_shares_of_a_batch_make_up_the_batch(patch, order):
    sampler = toy_sampler(batch_size=5, patch_size=patch, case_order=order)
    whole = sampler.draw(3)
    parts = [sampler.draw(3, share) for share in (slice(0, 2), slice(2, 4), slice(4, 5))]
    assert np.array_equal(whole.images, np.concatenate([part.images for part in parts]))
    assert np.array_equal(whole.labels, np.concatenate([part.labels for part in parts]))
    assert whole.case_ids == sum((part.case_ids for part in parts), ())


def test_shapes_and_dtypes():
    patches = toy_sampler().draw(0)
    assert patches.images.shape == (3, 1, 6, 6, 6)
    assert patches.images.dtype == np.float32
    assert patches.labels.shape == (3, 6, 6, 6)
    assert patches.labels.dtype == np.int16


def test_shuffled_rounds_visit_every_case_equally_often():
    sampler = toy_sampler(case_order="shuffled", batch_size=2)
    drawn = [case_id for step in range(6) for case_id in sampler.draw(step).case_ids]
    assert set(Counter(drawn).values()) == {3}
    assert set(drawn[:4]) == set(sampler.case_ids)
    assert drawn[:4] != drawn[4:8] or drawn[4:8] != drawn[8:12]


def test_drawing_with_replacement_repeats_cases():
    sampler = toy_sampler(case_order="with_replacement", batch_size=4)
    assert any(len(set(sampler.draw(step).case_ids)) < 4 for step in range(5))


@pytest.mark.parametrize(("batch", "expected"), [(2, 1), (7, 2), (1, 0), (4, 1), (12, 4)])
def test_foreground_positions_are_nnunets(batch, expected):
    positions = [p for p in range(batch) if is_foreground_position(p, batch, 0.33)]
    assert positions == list(range(batch - expected, batch))


def test_foreground_patches_are_centred_on_classes_drawn_equally():
    labels = np.zeros((30, 30, 30), dtype=np.int16)
    labels[3:23, 3:23, 3:10] = 1
    labels[20, 20, 20] = 2
    case = ToyCase(labels[None].astype(np.float32), labels, {v: np.argwhere(labels == v) for v in (1, 2)})
    case.locations[3] = np.zeros((0, 3), dtype=np.int32)  # declared, but absent
    patches = sampler_over(case, batch_size=200, foreground_fraction=1.0).draw(0)
    centres = Counter(patches.labels[:, 3, 3, 3].tolist())
    assert set(centres) <= {0, 1, 2}  # 0: a centre too near the border to be centred
    assert centres[2] == pytest.approx(100, abs=25)


def test_a_small_case_is_padded_on_both_sides_with_zero_and_minus_one():
    case = toy_case(0, shape=(3, 6, 9))
    patches = sampler_over(case).draw(0)
    assert np.array_equal(patches.images[0, :, 1:4], case.array[:, :, :, :][..., _start(case, patches) :][..., :6])
    assert (patches.images[:, :, [0, 4, 5]] == 0).all()
    assert (patches.labels[:, [0, 4, 5]] == -1).all()
    assert (patches.labels[:, 1:4] >= 0).all()


def _start(case, patches):
    """The x at which the first patch was cut."""
    wanted = patches.labels[0, 1:4]
    images = patches.images[0, 0, 1:4]
    return next(
        x
        for x in range(4)
        if np.array_equal(case.labels[..., x : x + 6], wanted) and np.array_equal(case.array[0, ..., x : x + 6], images)
    )


def test_patches_stay_inside_a_large_case():
    patches = sampler_over(toy_case(0, shape=(9, 9, 9)), batch_size=60, foreground_fraction=0.5).draw(0)
    assert (patches.labels >= 0).all()


def test_random_patches_reach_every_corner():
    array = np.arange(8**3, dtype=np.float32).reshape(1, 8, 8, 8)
    case = ToyCase(array, array[0].astype(np.int16))
    patches = sampler_over(case, batch_size=300, foreground_fraction=0.0).draw(0)
    assert set(patches.images[:, 0, 0, 0, 0].astype(int)) == {
        z * 64 + y * 8 + x for z in range(3) for y in range(3) for x in range(3)
    }


def test_planes_are_drawn_for_patches_with_two_axes():
    array = np.broadcast_to(np.arange(5, dtype=np.float32)[None, :, None, None], (2, 5, 9, 9)).copy()
    labels = np.zeros((5, 9, 9), dtype=np.int16)
    labels[3, 4, 4] = 1
    case = ToyCase(array, labels, {1: np.argwhere(labels == 1)})
    patches = sampler_over(case, batch_size=60, patch_size=(5, 5), foreground_fraction=0.5).draw(0)
    assert patches.images.shape == (60, 2, 5, 5)
    planes = patches.images[:, 0, 0, 0]
    assert set(planes[:30]) == {0, 1, 2, 3, 4}
    assert set(planes[30:]) == {3}
    assert (patches.labels[30:, 2, 2] == 1).all()


def test_a_case_without_foreground_gives_random_patches():
    case = replace(toy_case(0), locations={1: np.zeros((0, 3), dtype=np.int32)})
    assert sampler_over(case, foreground_fraction=1.0).draw(0).images.shape == (3, 1, 6, 6, 6)


def test_with_an_ignore_label_random_patches_are_centred_on_annotated_voxels():
    labels = np.full((20, 20, 20), 2, dtype=np.int16)
    labels[10, 10, 8:12] = 0
    case = ToyCase(labels[None].astype(np.float32), labels, {ANNOTATED_KEY: np.argwhere(labels == 0)})
    patches = sampler_over(case, batch_size=20, foreground_fraction=0.0, ignore=True).draw(0)
    assert (patches.labels[:, 3, 3, 3] == 0).all()


def test_no_case_is_a_clear_error():
    with pytest.raises(DatasetError, match="the fold has no case"):
        PatchSampler([], CaseCache(toy_cases().open), SAMPLING)


def test_a_case_without_labels_is_a_clear_error():
    with pytest.raises(DatasetError, match="Case only has no labels"):
        sampler_over(replace(toy_case(0), labels=None)).draw(0)


def test_the_cache_opens_resident_cases_once_and_respects_its_limit():
    cases, opened = toy_cases(), Counter()

    def open_case(case_id):
        opened[case_id] += 1
        return cases.open(case_id)

    size = 10 * 12 * 14 * 6
    cache = CaseCache(open_case, limit_bytes=2 * size)
    sampler = PatchSampler(cases.training, cache, SAMPLING)
    for step in range(10):
        sampler.draw(step)
    assert cache.resident_bytes == 2 * size
    assert set(opened.values()) == {1}


def test_the_cache_makes_no_difference_to_the_patches():
    cases = toy_cases()
    with_cache = PatchSampler(cases.training, CaseCache(cases.open), SAMPLING).draw(4)
    without = PatchSampler(cases.training, CaseCache(cases.open, limit_bytes=0), SAMPLING).draw(4)
    assert np.array_equal(with_cache.images, without.images)


def test_the_largest_shape():
    made = {"a": toy_case(0, shape=(5, 9, 4)), "b": toy_case(1, shape=(7, 3, 4))}
    assert largest_shape(["a", "b"], CaseCache(made.__getitem__)) == (7, 9, 4)


def test_the_size_drawn_around_a_patch_does_not_change_where_the_patch_lies():
    """As in nnU-Net, patches reach the border of the image although more than the patch is cut."""
    plain = toy_sampler(patch_size=(6, 6, 6)).draw(2)
    wide = toy_sampler(patch_size=(6, 6, 6), drawn_size=(9, 6, 11)).draw(2)
    assert wide.images.shape == (3, 1, 9, 6, 11)
    assert np.array_equal(wide.images[:, :, 1:7, :, 2:8], plain.images)
    assert np.array_equal(wide.labels[:, 1:7, :, 2:8], plain.labels)


def test_the_centre_of_what_is_drawn_is_what_augmentation_takes():
    policy, generator = policy_for("none", (6, 6, 6), 3, ()), torch.Generator()
    for drawn in ((7, 8, 9), (10, 6, 13)):
        wide = toy_sampler(drawn_size=drawn).draw(2)
        plain = toy_sampler().draw(2)
        images, labels = augment(
            torch.from_numpy(wide.images), torch.from_numpy(wide.labels), policy, generator, (6, 6, 6)
        )
        assert np.array_equal(images.numpy(), plain.images)
        assert np.array_equal(labels.numpy(), plain.labels)
