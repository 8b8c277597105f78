"""The task of instances: batches of crops, their loss, and a quick score on crops of held-out images."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from delineate.masks.instance_decoding import Decoding, decode_instances
from delineate.metrics.contingency import InstanceOverlap, instance_overlap
from delineate.metrics.panoptic import average_precision, panoptic_quality
from delineate.planning.recipe import Recipe
from delineate.training.batches import Batch
from delineate.training.instances.atlas import Atlas, InstanceSource
from delineate.training.instances.crops import Crops, CropSettings, draw_crops
from delineate.training.instances.loss import InstanceLoss
from delineate.training.precision import forward, place_images, resolve_device
from delineate.training.session import Runtime
from delineate.training.task import Task
from delineate.training.validation import full_resolution

TRAINING_STREAM, VALIDATION_STREAM = 0, 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceAssignment:
    """What is to be learnt, from which images, and how."""

    recipe: Recipe
    types: tuple[str, ...]
    """Names of types 1, 2, ...; empty: instances have none."""
    widths: tuple[int, ...]
    training: tuple[InstanceSource, ...]
    validation: tuple[InstanceSource, ...]
    decoding: Decoding = field(default_factory=Decoding)
    origin: str = ""
    """Identity of the model that the first weights come from; empty: they are random."""

    @property
    def identity(self) -> str:
        """All that must be equal for a checkpoint to be continued, as JSON."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name != "reasons"}
        names = {
            part: [[source.names, source.weight] for source in sources]
            for part, sources in (("training", self.training), ("validation", self.validation))
        }
        origin = {"origin": self.origin} if self.origin else {}
        return json.dumps({"recipe": recipe, "types": self.types, "widths": self.widths, "images": names, **origin})


def instance_task(assignment: InstanceAssignment, runtime: Runtime) -> Task:
    """Return what a network has to learn of instances."""
    recipe = assignment.recipe
    device = resolve_device(runtime.device)
    size = (recipe.patch_size[0], recipe.patch_size[1])
    settings, types = CropSettings(size=size), len(assignment.types)
    atlas, share = Atlas.of(assignment.training, device), runtime.ranks.share(recipe.batch_size)

    def batch(step: int) -> Batch:
        seed = (recipe.seed, TRAINING_STREAM, step)
        return _together(draw_crops(atlas, settings, recipe.batch_size, seed, share), recipe, device)

    score = None
    if any(source.images for source in assignment.validation) and recipe.validation_batches:
        plain = replace(settings, augment=False)
        held = Atlas.of(assignment.validation, device)
        score = _Score(assignment=assignment, atlas=held, settings=plain, device=device).of
    return Task(
        recipe=recipe,
        identity=assignment.identity,
        batch=batch,
        criterion=InstanceLoss(types=types, kind_weights=atlas.kind_weights(types)),
        score=score,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Score:
    """Panoptic quality and AP at an IoU of 0.5 over crops of the validation images, always the same ones."""

    assignment: InstanceAssignment
    atlas: Atlas
    settings: CropSettings
    device: torch.device

    @torch.no_grad()
    def of(self, network: nn.Module) -> dict[str, float]:
        recipe = self.assignment.recipe
        pairs: list[InstanceOverlap] = []
        with full_resolution(network):
            for index in range(recipe.validation_batches):
                seed = (recipe.seed, VALIDATION_STREAM, index)
                crops = draw_crops(self.atlas, self.settings, recipe.batch_size, seed, slice(0, recipe.batch_size))
                answer = _maps(network, _together(crops, recipe, self.device).images, recipe)
                perfect = crops.targets[:, :3].cpu().numpy()
                pairs += [self._compared(*maps) for maps in zip(answer, perfect, strict=True)]
        total = panoptic_quality(pairs[0])
        for pair in pairs[1:]:
            total = total + panoptic_quality(pair)
        precision = average_precision(pairs, thresholds=(0.5,), pooled=True)
        return {"PQ": float(total.quality), "AP50": float(precision[0])}

    def _compared(self, maps: NDArray[np.float32], perfect: NDArray[np.float32]) -> InstanceOverlap:
        # what lies in the crop is decoded from its own perfect maps, so both sides see the same cut instances
        found = decode_instances(maps[:3], self.assignment.decoding)
        return instance_overlap(found, decode_instances(perfect, self.assignment.decoding))


def _maps(network: nn.Module, images: Tensor, recipe: Recipe) -> NDArray[np.float32]:
    logits = forward(network, images, recipe.precision)
    finest = logits if isinstance(logits, Tensor) else logits[0]
    maps: NDArray[np.float32] = torch.sigmoid(finest.float()).cpu().numpy()
    return maps


def _together(crops: Crops, recipe: Recipe, device: torch.device) -> Batch:
    return Batch(images=place_images(crops.images, recipe, device), labels=crops.targets, case_ids=crops.names)
