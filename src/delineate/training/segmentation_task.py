"""The task of semantic segmentation: patches of prepared cases, nnU-Net's augmentation and losses."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from delineate.training.augment import AugmentationPolicy, augment_together, blank_outside, disturb, one_hot, policy_for
from delineate.training.batches import Batch, step_generator, to_device
from delineate.training.losses import SegmentationLoss
from delineate.training.precision import place_images, resolve_device
from delineate.training.ranks import Ranks
from delineate.training.sampler import (
    CaseCache,
    PatchSampler,
    Sampling,
    TrainingCases,
    largest_shape,
    present_classes,
)
from delineate.training.session import Runtime
from delineate.training.state import Assignment
from delineate.training.task import Task
from delineate.training.validation import Validation, head_names, head_regions

VALIDATION_STREAM = 1
"""Random numbers of the validation patches; training uses stream 0."""
STAGE_SEED = 1 << 20
"""Added to the seed for the faults of a previous stage, which are drawn apart from the augmentation."""
VALIDATION_CACHE_SHARE = 0.2
"""Part of the cache for validation cases: a fold has four training cases for one of them."""

_logger = logging.getLogger(__name__)


def segmentation_task(cases: TrainingCases, assignment: Assignment, runtime: Runtime) -> Task:
    """Return what a fold of a semantic segmentation has to learn.

    Parameters
    ----------
    cases
        Ids of the training and validation cases and how to open them.
    assignment
        Configuration, recipe and label scheme.
    runtime
        Device, caching, and the processes that train together.
    """
    recipe = assignment.recipe
    # two caches, because batches made ahead read training cases while validation reads its own
    validation_bytes = int(runtime.cache_bytes * VALIDATION_CACHE_SHARE)
    cache = CaseCache(cases.open, runtime.cache_bytes - validation_bytes)
    policy = policy_for(recipe.augmentation, recipe.patch_size, assignment.configuration.dims, recipe.mirror_axes)
    validation = _validation(cases, CaseCache(cases.open, validation_bytes), assignment, runtime)
    batches = _Batches(
        assignment=assignment,
        sampler=_training_sampler(cases, cache, assignment, policy),
        policy=policy,
        device=resolve_device(runtime.device),
        ranks=runtime.ranks,
    )
    return Task(
        recipe=recipe,
        identity=assignment.identity(cases),
        batch=batches.batch,
        criterion=SegmentationLoss(
            regions=head_regions(assignment.scheme),
            ignore=assignment.scheme.ignore,
            batch_dice=assignment.configuration.batch_dice,
            total=runtime.ranks.total,
        ),
        score=None if validation is None else validation.dice,
        notices=_absent_structures(cases, cache, assignment),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Batches:
    """Augmented batches, each a pure function of its step."""

    assignment: Assignment
    sampler: PatchSampler
    policy: AugmentationPolicy
    device: torch.device
    ranks: Ranks

    @property
    def _masked_channels(self) -> tuple[int, ...]:
        """Channels that are 0 outside the nonzero mask and stay so after augmentation."""
        return tuple(i for i, masked in enumerate(self.assignment.configuration.use_mask_for_norm) if masked)

    def batch(self, step: int) -> Batch:
        """Return this process's share of the augmented batch of a step; a pure function of the step."""
        recipe = self.assignment.recipe
        share = self.ranks.share(recipe.batch_size)
        batch = to_device(self.sampler.draw(step, share), self.device)
        generator = step_generator(recipe.seed, step)
        maps = (batch.labels,) if batch.previous is None else (batch.labels, batch.previous)
        with torch.no_grad():
            images, (labels, *stage) = augment_together(
                batch.images, maps, self.policy, generator, recipe.patch_size, first=share.start
            )
            images = blank_outside(images, labels, self._masked_channels)
            if stage:
                images = torch.cat([images, self._stage_channels(stage[0], step, share.start)], 1)
        return Batch(images=place_images(images, recipe, self.device), labels=labels, case_ids=batch.case_ids)

    def _stage_channels(self, previous: Tensor, step: int, first: int) -> Tensor:
        """Return the previous stage's label map (B, *patch) as channels, with random faults if the policy has them."""
        channels = one_hot(previous, self.assignment.scheme.values)
        policy = self.policy.previous_stage
        if policy is None:
            return channels
        return disturb(channels, policy, step_generator(self.assignment.recipe.seed + STAGE_SEED, step), first=first)


def _training_sampler(
    cases: TrainingCases, cache: CaseCache, assignment: Assignment, policy: AugmentationPolicy
) -> PatchSampler:
    recipe = assignment.recipe
    sampling = Sampling(
        batch_size=recipe.batch_size,
        patch_size=recipe.patch_size,
        drawn_size=_drawn_size(cases, cache, recipe.patch_size, policy),
        foreground_fraction=recipe.foreground_fraction,
        seed=recipe.seed,
        case_order=recipe.case_order,
        ignore=assignment.scheme.ignore is not None,
    )
    return PatchSampler(cases.training, cache, sampling)


def _drawn_size(
    cases: TrainingCases, cache: CaseCache, patch: tuple[int, ...], policy: AugmentationPolicy
) -> tuple[int, ...]:
    """Return the size to cut: with room for rotation and scaling, but no larger than the largest case."""
    wanted = policy.input_size(patch)
    if wanted == patch:
        return patch
    largest = largest_shape(cases.training, cache)[-len(patch) :]
    return tuple(max(p, min(w, size)) for p, w, size in zip(patch, wanted, largest, strict=True))


def _validation(cases: TrainingCases, cache: CaseCache, assignment: Assignment, runtime: Runtime) -> Validation | None:
    recipe = assignment.recipe
    if not cases.validation or recipe.validation_batches < 1:
        return None
    sampling = Sampling(
        batch_size=recipe.batch_size,
        patch_size=recipe.patch_size,
        foreground_fraction=recipe.foreground_fraction,
        seed=recipe.seed,
        stream=VALIDATION_STREAM,
        case_order="shuffled",
        ignore=assignment.scheme.ignore is not None,
    )
    sampler = PatchSampler(cases.validation, cache, sampling)
    device = resolve_device(runtime.device)
    return Validation(sampler=sampler, recipe=recipe, scheme=assignment.scheme, device=device, ranks=runtime.ranks)


def _absent_structures(cases: TrainingCases, cache: CaseCache, assignment: Assignment) -> tuple[str, ...]:
    """Return one sentence per structure that no training case shows; the network cannot learn it."""
    missing = dict(enumerate(head_names(assignment.scheme), start=1))  # by key of the cases' locations
    for case_id in cases.training:
        if not missing:
            return ()
        for key in present_classes(cache.get(case_id)):
            missing.pop(key, None)
    notices = [f"No training case of this fold shows {name}; the network cannot learn it." for name in missing.values()]
    for notice in notices:
        _logger.warning(notice)
    return tuple(notices)
