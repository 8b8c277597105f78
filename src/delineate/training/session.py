"""One process's work on a run: what does not change from step to step, and how it is set up."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from delineate.execution.progress import Cancellation, Progress, Silent
from delineate.training.augment import AugmentationPolicy, augment_together, blank_outside, disturb, one_hot, policy_for
from delineate.training.batches import Batch, step_generator, to_device
from delineate.training.history import History, Unrecorded
from delineate.training.losses import SegmentationLoss
from delineate.training.precision import place_images, resolve_device
from delineate.training.ranks import Ranks
from delineate.training.sampler import (
    DEFAULT_CACHE_BYTES,
    CaseCache,
    PatchSampler,
    Sampling,
    TrainingCases,
    largest_shape,
    present_classes,
)
from delineate.training.state import Assignment, State
from delineate.training.validation import Validation, head_names, head_regions

VALIDATION_STREAM = 1
"""Random numbers of the validation patches; training uses stream 0."""
STAGE_SEED = 1 << 20
"""Added to the seed for the faults of a previous stage, which are drawn apart from the augmentation."""
VALIDATION_CACHE_SHARE = 0.2
"""Part of the cache for validation cases: a fold has four training cases for one of them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Where and how a run works; nothing here changes the weights, except the kind of device by rounding."""

    device: str = "cpu"
    """``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    checkpoint_every_seconds: float = 60.0
    """A crash costs at most this much; longer if writing takes more than 2 % of the time. 0: after every step."""
    prefetch: int = 0
    """Batches made ahead in a background thread; helps when a GPU would wait for the CPU."""
    cache_bytes: int = DEFAULT_CACHE_BYTES
    """Memory for prepared cases."""
    tensorboard: bool = True
    """Write TensorBoard events if the package is installed."""
    keep_best: bool = False
    """Also keep the weights with the best smoothed pseudo-Dice (nnU-Net's ``checkpoint_best``)."""
    clock: Callable[[], float] = time.monotonic
    """Seconds; replaced in tests."""
    ranks: Ranks = field(default_factory=Ranks)
    """The processes that share the work; the same on all of them but for their number."""

    def agreed(self) -> Runtime:
        """Return the same, with a clock that shows all ranks the same time."""
        own, ranks = self.clock, self.ranks
        return replace(self, clock=lambda: ranks.agreed_time(own()))


@dataclass(kw_only=True)
class Session:
    """One process's work on a run: what does not change from step to step, and the stopwatch."""

    assignment: Assignment
    identity: str
    folder: Path
    runtime: Runtime
    device: torch.device
    sampler: PatchSampler
    validation: Validation | None
    policy: AugmentationPolicy
    criterion: SegmentationLoss
    learner: nn.Module
    """The network as it is trained through: itself, or joined with those of other processes."""
    history: History | Unrecorded
    notices: tuple[str, ...]
    progress: Progress = field(default_factory=Silent)
    cancellation: Cancellation = field(default_factory=Cancellation)
    began: float
    """Clock when this session began."""
    seconds_before: float
    """Seconds of earlier sessions."""
    progress_before: float
    saved_at: float
    save_seconds: float = 0.0
    recorded: tuple[int, float] = (0, 0.0)
    """Step and clock of the last record, for the speed."""
    shown: int = 0
    """Parts of the progress bar that were told."""
    recent_loss: float | None = None
    dice: dict[str, float] = field(default_factory=dict)

    @property
    def masked_channels(self) -> tuple[int, ...]:
        """Channels that are 0 outside the nonzero mask and stay so after augmentation."""
        return tuple(i for i, masked in enumerate(self.assignment.configuration.use_mask_for_norm) if masked)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole run."""
        return self.seconds_before + self.runtime.clock() - self.began

    def batch(self, step: int) -> Batch:
        """Return this process's share of the augmented batch of a step; a pure function of the step."""
        recipe = self.assignment.recipe
        share = self.runtime.ranks.share(recipe.batch_size)
        batch = to_device(self.sampler.draw(step, share), self.device)
        generator = step_generator(recipe.seed, step)
        maps = (batch.labels,) if batch.previous is None else (batch.labels, batch.previous)
        with torch.no_grad():
            images, (labels, *stage) = augment_together(
                batch.images, maps, self.policy, generator, recipe.patch_size, first=share.start
            )
            images = blank_outside(images, labels, self.masked_channels)
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


def open_session(
    state: State, cases: TrainingCases, assignment: Assignment, folder: Path, runtime: Runtime, began: float
) -> Session:
    """Return the session that goes on from ``state``; ``began`` is the clock when its work started."""
    recipe = assignment.recipe
    device = resolve_device(runtime.device)
    # two caches, because batches made ahead read training cases while validation reads its own
    validation_bytes = int(runtime.cache_bytes * VALIDATION_CACHE_SHARE)
    cache = CaseCache(cases.open, runtime.cache_bytes - validation_bytes)
    policy = policy_for(recipe.augmentation, recipe.patch_size, assignment.configuration.dims, recipe.mirror_axes)
    return Session(
        assignment=assignment,
        identity=assignment.identity(cases),
        folder=folder,
        runtime=runtime,
        device=device,
        sampler=_training_sampler(cases, cache, assignment, policy),
        validation=_validation(cases, CaseCache(cases.open, validation_bytes), assignment, runtime),
        policy=policy,
        criterion=SegmentationLoss(
            regions=head_regions(assignment.scheme),
            ignore=assignment.scheme.ignore,
            batch_dice=assignment.configuration.batch_dice,
            total=runtime.ranks.total,
        ),
        learner=runtime.ranks.joined(state.network),
        history=_history(state, folder, runtime),
        notices=_absent_structures(cases, cache, assignment),
        began=began,
        seconds_before=state.counters.seconds,
        progress_before=state.leg.progress(state.counters.step, state.counters.seconds),
        saved_at=began,
        recorded=(state.counters.step, began),
    )


def _history(state: State, folder: Path, runtime: Runtime) -> History | Unrecorded:
    if not runtime.ranks.writes:
        return Unrecorded()
    counters = state.counters
    return History(folder, position=counters.history_position, step=counters.step, tensorboard=runtime.tensorboard)


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
