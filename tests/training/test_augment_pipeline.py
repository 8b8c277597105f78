from dataclasses import replace

import pytest
import torch

from delineate.errors import GeometryError
from delineate.training import augment as room
from delineate.training.augment import NONE, augment, policy_for

PATCHES = [(12, 14, 10), (6, 20, 24), (16, 20)]


def batch(policy, patch, samples=6, channels=2):
    size = policy.input_size(patch)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(samples, channels, *size, generator=generator)
    return images, torch.randint(-1, 4, (samples, *size), generator=generator, dtype=torch.int16)


def policy_of(name, patch):
    return policy_for(name, patch, len(patch), tuple(range(len(patch))))


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def test_public_names():
    assert set(room.__all__) == {
        "NONE",
        "AugmentationPolicy",
        "augment",
        "augment_together",
        "disturb",
        "one_hot",
        "blank_outside",
        "outside_to_background",
        "policy_for",
    }


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", ["none", "light", "nnunet"])
def test_shapes_dtypes_and_label_values(name, patch):
    policy = policy_of(name, patch)
    images, labels = batch(policy, patch)
    before = images.clone(), labels.clone()
    found = augment(images, labels, policy, seeded(), patch)
    assert found[0].shape == (6, 2, *patch)
    assert found[1].shape == (6, *patch)
    assert (found[0].dtype, found[1].dtype) == (torch.float32, torch.int16)
    assert found[0].isfinite().all()
    assert set(found[1].unique().tolist()) <= {-1, 0, 1, 2, 3}
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("name", ["light", "nnunet"])
def test_same_seed_same_result_at_once_or_one_by_one(name, patch):
    policy = policy_of(name, patch)
    images, labels = batch(policy, patch, samples=16)
    first = augment(images, labels, policy, seeded(), patch)
    again = augment(images, labels, policy, seeded(), patch)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    generator = seeded()
    singles = [augment(images[i : i + 1], labels[i : i + 1], policy, generator, patch) for i in range(16)]
    torch.testing.assert_close(first[0], torch.cat([s[0] for s in singles]))
    assert torch.equal(first[1], torch.cat([s[1] for s in singles]))
    share = augment(images[5:9], labels[5:9], policy, seeded(), patch, first=5)
    torch.testing.assert_close(first[0][5:9], share[0])
    assert torch.equal(first[1][5:9], share[1])
    other = augment(images, labels, policy, seeded(6), patch)
    assert not torch.equal(first[0], other[0])


def test_nothing_drawn_is_the_central_crop():
    images, labels = batch(policy_of("nnunet", (12, 14, 10)), (12, 14, 10))
    found = augment(images, labels, NONE, seeded(), (12, 14, 10))
    start = [have // 2 - want // 2 for have, want in zip(labels.shape[1:], (12, 14, 10), strict=True)]
    window = tuple(slice(first, first + want) for first, want in zip(start, (12, 14, 10), strict=True))
    assert torch.equal(found[0], images[(..., *window)])
    assert torch.equal(found[1], labels[(..., *window)])


def test_without_an_output_size_the_size_is_kept():
    images, labels = torch.randn(2, 1, 9, 8), torch.zeros(2, 9, 8, dtype=torch.uint8)
    found = augment(images, labels, policy_of("nnunet", (9, 8)), seeded())
    assert found[0].shape == images.shape
    assert found[1].dtype == torch.uint8


def test_images_and_labels_stay_together():
    """An image that shows its labels still does after everything that moves; rounding is the only doubt."""
    policy = policy_for("light", (16, 16, 16), 3, (0, 1, 2))
    moves = room.AugmentationPolicy(spatial=policy.spatial, mirror_axes=policy.mirror_axes)
    labels = torch.zeros(24, 20, 20, 20, dtype=torch.int16)
    labels[:, 3:9, 6:18, 4:14] = 1
    found = augment(labels[:, None].float(), labels, moves, seeded(), (16, 16, 16))
    agreement = ((found[0][:, 0] > 0.5) == (found[1] == 1)).double().mean(dim=(1, 2, 3))
    assert agreement.min() > 0.98


@pytest.mark.parametrize("name", ["light", "nnunet"])
def test_constant_images_stay_finite(name):
    policy = policy_of(name, (8, 8, 8))
    for value in (0.0, 7.0):
        images, labels = torch.full((30, 1, 8, 8, 8), value), torch.zeros(30, 8, 8, 8, dtype=torch.int16)
        assert augment(images, labels, policy, seeded(), (8, 8, 8))[0].isfinite().all()


def test_autocast_does_not_coarsen_the_images():
    policy = policy_of("nnunet", (8, 8, 8))
    images, labels = batch(policy, (8, 8, 8), samples=10)
    plain = augment(images, labels, policy, seeded(), (8, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        under = augment(images, labels, policy, seeded(), (8, 8, 8))
    assert torch.equal(plain[0], under[0])


def test_what_does_not_fit_is_refused():
    images, labels = torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int16)
    with pytest.raises(GeometryError, match="Images must be"):
        augment(images, labels[:1], NONE, seeded())
    with pytest.raises(GeometryError, match="output size"):
        augment(images, labels, NONE, seeded(), (8, 8, 8))
    with pytest.raises(GeometryError, match="in-plane"):
        augment(images, labels, policy_for("nnunet", (4, 64, 64), 3, ()), seeded())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_does_what_the_cpu_does_but_for_noise():
    policy = replace(policy_of("nnunet", (12, 14, 10)), noise=None)
    images, labels = batch(policy, (12, 14, 10), samples=16)
    cpu = augment(images, labels, policy, seeded(), (12, 14, 10))
    gpu = augment(images.cuda(), labels.cuda(), policy, seeded(), (12, 14, 10))
    torch.testing.assert_close(gpu[0].cpu(), cpu[0], rtol=1e-2, atol=1e-2)
    assert (gpu[1].cpu() == cpu[1]).double().mean() > 0.999
