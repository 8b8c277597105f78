"""Changes of colour of batches: what stays, what moves, and JPEG against a real encoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from delineate.training.augment import stains
from delineate.training.augment.jpeg import compress
from delineate.training.instances.recolouring import draw_recolouring, recoloured


def tissue(count: int = 2, size: int = 40) -> torch.Tensor:
    """Smooth colours between 0.2 and 0.95."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand((count, 3, 6, 6), generator=generator) * 0.75 + 0.2
    return torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").contiguous()


def test_stains_that_are_scaled_by_one_stay() -> None:
    images = tissue()
    same = stains.jitter_stains(images, torch.ones(2, 3), torch.zeros(2, 3))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    more = stains.jitter_stains(images, torch.tensor([[2.0, 1, 1], [1, 1, 1]]), torch.zeros(2, 3))
    assert not torch.allclose(more[0], images[0], atol=0.02)
    torch.testing.assert_close(more[1], images[1], atol=1e-5, rtol=0)


def test_a_palette_has_the_wanted_densities() -> None:
    images = tissue()
    means = torch.tensor([[1.0, 1.2, 0.8], [1.0, 1.0, 1.0]])
    changed = stains.change_palette(images, means, torch.full((2,), 0.5), torch.ones(2, 3))
    old, new = (stains.optical_density(one) for one in (images, changed))
    torch.testing.assert_close(new.mean(dim=(2, 3)), old.mean(dim=(2, 3)) * means, atol=2e-2, rtol=0)
    spread = old.std(dim=(2, 3), correction=0).mean(dim=1) * 0.5
    torch.testing.assert_close(new.std(dim=(2, 3), correction=0), spread[:, None].expand(2, 3), atol=2e-2, rtol=0)


def test_fluorescence_becomes_dark_on_bright() -> None:
    images = torch.zeros(1, 3, 40, 40)
    images[:, :, 10:20, 10:20] = 0.8
    none = torch.zeros(1, 3)
    stained = stains.stain_fluorescence(
        images, (none, none), torch.tensor([[1.5, 1.0, 0.3, 0.0]]), torch.zeros(1, 1, 5, 5)
    )
    assert float(stained[0, :, 10:20, 10:20].mean()) < float(stained[0, :, 25:, 25:].mean()) - 0.2
    red, green, blue = stained[0, :, 15, 15]
    assert blue > red > green  # haematoxylin lets blue through


@pytest.mark.parametrize("sigma", [0.5, 1.2])
def test_blurring_keeps_the_mean_and_spreads_a_point(sigma: float) -> None:
    from scipy import ndimage

    images = torch.zeros(1, 2, 31, 31)
    images[:, :, 15, 15] = 1
    blurred = stains.blur(images, torch.tensor([sigma]), widest=1.2)
    assert float(blurred.sum()) == pytest.approx(2, abs=1e-4)
    expected = ndimage.gaussian_filter(images[0, 0].numpy(), sigma, mode="mirror", radius=5)
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_losses_of_jpeg_are_those_of_a_file(quality: int) -> None:
    coloured = tissue(1, 64)
    grey = coloured.mean(dim=1, keepdim=True)
    noise = 0.05 * torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = (grey + 0.2 * (coloured - grey) + noise).clamp(
        0, 1
    )  # steep colours would show how a reader makes them fine
    exact = (noisy[0] * 255).round().byte()
    stream = io.BytesIO()
    Image.fromarray(exact.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=quality)
    read = torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1) / 255
    ours = compress(exact[None] / 255, torch.tensor([float(quality)]))[0]
    assert float((ours - read).abs().mean()) < 0.006
    lost, expected = (float((exact / 255 - one).abs().mean()) for one in (ours, read))
    assert lost == pytest.approx(expected, rel=0.35)


def test_sizes_that_are_no_whole_blocks_are_compressed_too() -> None:
    images = tissue(1, 37)
    assert compress(images, torch.tensor([95.0])).shape == images.shape


def test_every_crop_gets_what_was_drawn_for_it() -> None:
    images = tissue(64, 32)
    plan = draw_recolouring(np.random.default_rng(0), np.arange(64) % 2 == 0)
    changed = recoloured(images, plan, torch.Generator().manual_seed(0))
    touched = np.any(
        [
            getattr(plan, name)
            for name in "stained inverted repainted jittered grey toned blurred compressed noisy".split()
        ],
        axis=0,
    )
    same = np.array([torch.equal(one, other) for one, other in zip(images, changed, strict=True)])
    assert np.array_equal(same, ~touched)
    assert 0 < touched.sum() < 64
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert not (plan.stained & (np.arange(64) % 2 == 1)).any()
    assert not (plan.jittered & (np.arange(64) % 2 == 0)).any()
