"""HoVer-Net on pictures: published patches, checkpoints of both forms, its loss against slow sums."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from delineate.cli.main import main
from delineate.errors import ModelError, UnsafeModelError, UsageError
from delineate.inference.hover_maps import HoverPredictor
from delineate.inference.instance_maps import whole_maps
from delineate.masks.hover_decoding import corrected, hover_targets
from delineate.networks.hovernet import SIZES, HoVerNet, Mode, load_hovernet
from delineate.planning.recipe import Recipe
from delineate.training.batches import Batch
from delineate.training.instances.hover_loss import HoverLoss, JoinedBranches, gradient_error, hover_target
from delineate.training.loop import fit_task
from delineate.training.task import Task
from delineate.workflows.hovernet_model import load_hovernet_model
from delineate.workflows.nuclei_model import open_nuclei_model
from instance_pictures import discs, picture_of


class KnownPicture(nn.Module):
    """Answers like HoVer-Net, from a picture whose colours hold the answer."""

    def __init__(self, mode: Mode, types: int) -> None:
        super().__init__()
        self.mode, self.types = mode, types

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        seen, answered = SIZES[self.mode]
        assert image.shape[-2:] == (seen, seen)
        margin = (seen - answered) // 2
        middle = image[..., margin : margin + answered, margin : margin + answered]
        nucleus = middle[:, :1] * 20 - 10
        kinds = torch.cat([0.5 - middle[:, :1], middle[:, :1], torch.zeros_like(nucleus)], 1)
        return {"np": torch.cat([-nucleus, nucleus], 1), "hv": middle[:, 1:3], "tp": kinds}


@pytest.mark.parametrize("mode", ["original", "fast"])
def test_patches_of_the_published_size_cover_the_picture(mode: Mode) -> None:
    instances = discs(3, 200, 24, 9.0)
    values = np.stack([instances > 0, *hover_targets(instances)], axis=2).astype(np.float32)
    predictor = HoverPredictor(
        network=KnownPicture(mode, 3),  # type: ignore[arg-type]
        decoding=corrected(18.0),
        device=torch.device("cpu"),
    )
    maps = whole_maps(lambda rows, columns: values[rows, columns], (200, 200), predictor)
    assert maps.shape == (6, 200, 200)
    assert np.allclose(maps[1:3], values.transpose(2, 0, 1)[1:3], atol=1e-3)
    assert np.array_equal(maps[0] > 0.5, instances > 0)
    assert np.array_equal(maps[4] > 0, instances > 0)
    found, _ = predictor.decode(maps[:3])
    assert abs(int(found.max()) - len(np.unique(instances)) + 1) <= 3
    height, width = predictor.block
    assert (height, width) == (SIZES[mode][1], 4 * SIZES[mode][1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "types", "wrapped"), [("fast", 5, True), ("original", 0, False), ("original", 5, True), ("fast", 0, False)]
)
def test_a_checkpoint_finds_nuclei_of_a_picture(mode: Mode, types: int, wrapped: bool, tmp_path: Path) -> None:
    network = HoVerNet(types=types, mode=mode)
    state = {f"module.{name}" if wrapped else name: tensor for name, tensor in network.state_dict().items()}
    path = tmp_path / ("net.tar" if wrapped else "net.pth")
    torch.save({"desc": state} if wrapped else state, path)
    model = load_hovernet_model(path, device="cpu")
    assert len(model.package.type_names) == max(0, types - 1)
    loaded = model.predictor.network.state_dict()  # type: ignore[attr-defined]
    assert loaded.keys() == network.state_dict().keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in network.state_dict().items())
    Image.fromarray(picture_of(discs(0, 60), 0, colour=True)).save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--model", str(path), "--device", "cpu"]
    assert main(["nuclei", *arguments]) == 0
    assert (tmp_path / "out/a.geojson").is_file()
    with pytest.raises(UsageError, match="--tta"):
        open_nuclei_model(path, tta=True, device="cpu")
    assert open_nuclei_model(path, published_decoding=True, device="cpu").predictor.decoding.sobel == 21  # type: ignore[attr-defined]


@pytest.mark.parametrize("types", [0, 5])
@pytest.mark.parametrize("mode", ["original", "fast"])
def test_names_and_weights_make_the_round_trip(mode: Mode, types: int) -> None:
    with torch.device("meta"):
        names = {name: tensor.shape for name, tensor in HoVerNet(types=types, mode=mode).state_dict().items()}
    state = {f"module.{name}": torch.zeros(()).expand(shape) for name, shape in names.items()}
    loaded = load_hovernet(state)
    assert (loaded.mode, loaded.types) == (mode, types)
    assert {name: tensor.shape for name, tensor in loaded.state_dict().items()} == names


class _Harmful:
    def __reduce__(self):
        return eval, ("1",)


def test_files_that_are_none_of_its_checkpoints_are_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.tar")
    with pytest.raises(ModelError, match="expected weights"):
        load_hovernet_model(tmp_path / "empty.tar")
    torch.save({"desc": {"a": torch.zeros(2)}}, tmp_path / "other.tar")
    with pytest.raises(ModelError, match="HoVer-Net"):
        load_hovernet_model(tmp_path / "other.tar")
    torch.save({"desc": _Harmful()}, tmp_path / "harmful.tar", pickle_module=pickle)
    with pytest.raises(UnsafeModelError):
        load_hovernet_model(tmp_path / "harmful.tar")


def test_the_loss_is_the_sum_of_its_published_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 7, 9, 8, generator=generator)
    nucleus = (torch.rand(2, 9, 8, generator=generator) < 0.5).float()
    kinds = (nucleus * torch.randint(1, 3, (2, 9, 8), generator=generator)).float()
    targets = torch.stack([nucleus, *torch.rand(2, 2, 9, 8, generator=generator).unbind(0), kinds], 1)
    expected = 0.0
    for channels, truth in ((slice(0, 2), nucleus.long()), (slice(4, 7), kinds.long())):
        p = torch.softmax(logits[:, channels], 1)
        expected += -torch.log(p.gather(1, truth[:, None])).mean()
        for channel in range(p.shape[1]):
            true = (truth == channel).float()
            expected += 1 - (2 * (p[:, channel] * true).sum() + 1e-3) / (p[:, channel].sum() + true.sum() + 1e-3)
    expected += ((logits[:, 2:4] - targets[:, 1:3]) ** 2).mean()
    expected += slow_gradient_error(logits[:, 2:4], targets[:, 1:3], nucleus)
    assert HoverLoss(types=3)(logits, targets) == pytest.approx(float(expected), rel=1e-5)


def slow_gradient_error(offsets, targets, nucleus):
    difference = np.pad((offsets - targets).numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    total = 0.0
    for b, y, x in np.argwhere(nucleus.numpy() > 0):
        for channel in range(2):
            slope = 0.0
            for v in range(-2, 3):
                for h in range(-2, 3):
                    weight = (h, v)[channel] / (h * h + v * v + 1e-15)
                    slope += weight * difference[b, channel, y + 2 + v, x + 2 + h]
            total += slope**2
    return total / (2 * float(nucleus.sum()))


def test_perfect_offsets_have_no_error_of_their_gradient() -> None:
    instances = discs(0, 40)
    target = hover_target(instances, None, 24)
    assert target.shape == (4, 24, 24)
    inner = target[None, 1:3]
    assert float(gradient_error(inner, inner, target[None, 0])) == 0
    assert torch.equal(target[0] > 0, torch.from_numpy(instances[8:32, 8:32] > 0))


class Tiny(nn.Module):
    """Branches of HoVer-Net on a single convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 7, 1))

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        answer = self.layers(image / 255)
        return {"np": answer[:, :2], "hv": answer[:, 2:4], "tp": answer[:, 4:]}


def test_the_training_loop_lowers_the_loss(tmp_path: Path) -> None:
    instances = discs(1, 40)
    picture = torch.from_numpy(picture_of(instances, 1, colour=True).transpose(2, 0, 1).astype(np.float32))
    types = np.arange(instances.max() + 1) % 2 + 1
    batch = Batch(images=picture[None], labels=hover_target(instances, types, 40)[None], case_ids=("a",))
    recipe = Recipe(
        iterations=150,
        iterations_per_epoch=50,
        batch_size=1,
        patch_size=(40, 40),
        optimizer="adamw",
        learning_rate=1e-2,
        deep_supervision=False,
    )
    loss = HoverLoss(types=3)

    def task(_runtime: object) -> Task:
        return Task(recipe=recipe, identity="{}", batch=lambda _step: batch, criterion=loss, score=None)

    network = JoinedBranches(Tiny())
    generator = torch.Generator().manual_seed(0)
    for values in network.parameters():
        nn.init.uniform_(values, -0.3, 0.3, generator=generator)
    before = float(loss(network(batch.images).detach(), batch.labels))
    fit_task(network, recipe, task, tmp_path)
    assert float(loss(network(batch.images).detach(), batch.labels)) < 0.8 * before  # 0.51 to 0.64 from eight seeds
