"""What a GPU computes is what the processor computes: training, prediction, and crops of instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import toy_assignment, toy_cases, toy_network

from delineate.inference import Tiling, predict_logits
from delineate.inference.instance_maps import InstancePredictor, whole_maps
from delineate.inference.precision import converted
from delineate.masks.instance_decoding import Decoding
from delineate.networks.instance_unet import InstanceUNet
from delineate.planning.recipe import Recipe
from delineate.training import Runtime, fit
from delineate.training.instances import InstanceAssignment, InstanceImage, InstanceSource, instance_task
from delineate.training.instances.atlas import Atlas
from delineate.training.instances.crops import CropSettings, draw_crops
from delineate.training.loop import fit_task
from instance_pictures import discs, picture_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_a_training_ends_where_it_ends_on_the_processor(tmp_path: Path) -> None:
    ends = {}
    for device in ("cpu", "cuda"):
        fitted = fit(
            toy_network(dropout=0.0),
            toy_cases(),
            toy_assignment(augmentation="none", iterations=8),
            tmp_path / device,
            runtime=Runtime(device=device, prefetch=int(device == "cuda")),
        )
        ends[device] = torch.cat([tensor.flatten() for tensor in fitted.weights.values()])
    assert float((ends["cpu"] - ends["cuda"]).norm() / ends["cpu"].norm()) < 5e-3


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    whole = fit(toy_network(), toy_cases(), toy_assignment(), tmp_path / "a", runtime=Runtime(device="cuda"))
    again = fit(toy_network(), toy_cases(), toy_assignment(), tmp_path / "a", runtime=Runtime(device="cuda"))
    assert again.steps == whole.steps
    assert all(torch.equal(whole.weights[name], again.weights[name]) for name in whole.weights)


def test_the_same_logits(tmp_path: Path) -> None:
    network = toy_network(dropout=0.0).eval()
    network.deep_supervision = False
    image = np.random.default_rng(0).normal(size=(1, 20, 24, 28)).astype(np.float32)
    tiling = Tiling(patch_size=(16, 16, 16))
    answers = [predict_logits([network], image, tiling, device=torch.device(place)) for place in ("cpu", "cuda")]
    np.testing.assert_allclose(answers[0], answers[1], atol=5e-3)


def source(colour: bool) -> InstanceSource:
    instances = discs(0, 96)
    picture = picture_of(instances, 0, colour=colour).reshape(96, 96, -1) / np.float32(255)
    image = InstanceImage(
        picture=np.repeat(picture, 3 // picture.shape[2], axis=2).astype(np.float32),
        instances=instances,
        types=None,
        fluorescence=not colour,
    )
    return InstanceSource(images={"a": image.packed()}, weight=1.0)


@pytest.mark.parametrize("colour", [True, False])
def test_the_same_crops_but_for_their_noise(colour: bool) -> None:
    settings = CropSettings(size=(64, 64))
    drawn = [
        draw_crops(Atlas.of([source(colour)], torch.device(place)), settings, 32, (1,), slice(0, 32))
        for place in ("cpu", "cuda")
    ]
    here, there = (crops.images for crops in drawn)
    # a coordinate that rounds the other way moves a pixel of the label map
    assert float((drawn[0].targets != drawn[1].targets.cpu()).float().mean()) < 0.2
    assert float((drawn[0].targets - drawn[1].targets.cpu()).abs().mean()) < 2e-3
    difference = (here - there.cpu()).abs().amax(dim=(1, 2, 3))
    assert int((difference < 0.02).sum()) >= 16  # the others got noise of another generator
    assert float(difference.median()) < 0.02


def test_a_network_of_instances_learns_and_answers_alike(tmp_path: Path) -> None:
    recipe = Recipe(
        iterations=80,
        iterations_per_epoch=20,
        validation_batches=1,
        batch_size=8,
        patch_size=(64, 64),
        optimizer="adamw",
        learning_rate=2e-3,
        schedule="one_cycle",
        ema_decay=0.9,
        precision="bfloat16",
        channels_last=True,
        deep_supervision=False,
    )
    assignment = InstanceAssignment(
        recipe=recipe, types=(), widths=(8, 12), training=(source(True),), validation=(source(True),)
    )
    fitted = fit_task(
        InstanceUNet(widths=(8, 12)),
        recipe,
        lambda runtime: instance_task(assignment, runtime),
        tmp_path,
        runtime=Runtime(device="cuda", prefetch=2),
    )
    losses = [float(record["loss"]) for record in fitted.records]
    assert losses[-1] < 0.9 * losses[0]
    network = InstanceUNet(widths=(8, 12))
    network.load_state_dict(fitted.weights)
    picture = np.random.default_rng(0).random((150, 170, 3), dtype=np.float32)
    maps = []
    for place in ("cpu", "cuda"):
        predictor = InstancePredictor(
            network=converted(network, device=place, precision="float32"),
            decoding=Decoding(),
            device=torch.device(place),
            precision="float32",
            channels_last=False,
        )
        maps.append(whole_maps(lambda rows, columns: picture[rows, columns], (150, 170), predictor).astype(int))
    assert int(np.abs(maps[0] - maps[1]).max()) <= 2
