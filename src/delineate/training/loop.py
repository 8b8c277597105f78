"""The training loop: from a network and the cases of a fold to trained weights.

The story of a run is :func:`fit` and :func:`_train`; everything else is a step of it. What a run carries from step to
step is the :class:`~delineate.training.state.State`; what stays the same is the
:class:`~delineate.training.session.Session`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from delineate.errors import DatasetError, Interrupted, PlanError, TrainingError, UsageError
from delineate.execution.atomic import remove_leftovers, require_writable
from delineate.execution.progress import Cancellation, Progress
from delineate.planning.recipe import Recipe
from delineate.training.allocator import keep_memory, shortage_explained
from delineate.training.batches import Batch, in_order
from delineate.training.checkpoint import (
    BEST_FILE,
    check_identity,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from delineate.training.history import Record, read_history
from delineate.training.live_line import bar_length, live_line
from delineate.training.optimizer import set_learning_rate
from delineate.training.precision import fastest_convolutions, resolve_device
from delineate.training.ranks import Ranks
from delineate.training.sampler import TrainingCases
from delineate.training.schedule import Extension, extension_leg, learning_rate
from delineate.training.segmentation_task import segmentation_task
from delineate.training.session import Runtime, Session, open_session
from delineate.training.state import Assignment, State, new_state, seed_random_states
from delineate.training.step import StepOutcome, train_step
from delineate.training.task import Task
from delineate.training.validation import mean_dice, set_deep_supervision, smoothed

VALIDATION_SHARE = 0.05
"""With a time budget, a validation after every such part of it: 20 points make a readable curve."""
CHECKPOINT_SHARE = 0.02
"""Largest part of the time that goes into writing checkpoints."""
SKIPS_IN_ROW = 10
"""So many steps in a row without finite gradients mean that training has diverged."""
RECENT_LOSS = 0.95
"""Weight of the past in the loss that the live line shows."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedFold:
    """What came out of a run."""

    folder: Path
    weights: dict[str, Tensor]
    """State of the network, float32 on the CPU; the moving average where the recipe asks for one."""
    steps: int
    seconds: float
    smoothed_dice: float | None
    """nnU-Net's exponential moving average of the pseudo-Dice; None without validation cases."""
    records: tuple[Record, ...]
    """The content of ``metrics.jsonl``."""
    notices: tuple[str, ...]
    """What the report should tell: structures without a training case, steps that were left out."""


def fit(
    network: nn.Module,
    cases: TrainingCases,
    assignment: Assignment,
    folder: Path,
    *,
    runtime: Runtime | None = None,
    extension: Extension | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedFold:
    """Train a network on the cases of a fold, or go on where an earlier run in ``folder`` stopped.

    A run that is killed at any moment and started again with the same arguments ends, on a CPU and without a time
    budget, with bit-identical weights. The budget counts the time of all sessions up to their last checkpoint.

    Parameters
    ----------
    network
        Freshly built; changed in place.
    cases
        Ids of the training and validation cases and how to open them.
    assignment
        Configuration, recipe and label scheme.
    folder
        Where checkpoints and ``metrics.jsonl`` of this fold are kept.
    runtime
        Device, checkpoint interval, caching, and the processes that train together.
    extension
        More training for a finished run: the learning rate rises to half the recipe's and is annealed again. A run that
        was interrupted inside an extension goes on with it when the same extension is given again.
    progress, cancellation
        Where to tell how far the run is, and who may stop it.

    Returns
    -------
    TrainedFold
        The weights and the record of the run. A finished run is not trained again.

    Raises
    ------
    DatasetError
        If the fold has no training case.
    PlanError
        If the prepared cases do not fit the configuration.
    UsageError
        If an extension is asked for, but there is no finished run.
    ModelError
        If the checkpoints in the folder are damaged or belong to another training.
    TrainingError
        If training diverged; the last checkpoint is kept.
    ResourceError
        If memory or disk do not suffice.
    Interrupted
        If a stop was requested; the state is saved.
    """
    _check_cases(cases, assignment)
    return fit_task(
        network,
        assignment.recipe,
        lambda agreed: segmentation_task(cases, assignment, agreed),
        folder,
        runtime=runtime,
        extension=extension,
        progress=progress,
        cancellation=cancellation,
    )


def fit_task(
    network: nn.Module,
    recipe: Recipe,
    open_task: Callable[[Runtime], Task],
    folder: Path,
    *,
    runtime: Runtime | None = None,
    extension: Extension | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedFold:
    """Train a network on any task; :func:`fit` does so for semantic segmentation and says what is promised and raised.

    Parameters
    ----------
    network
        Freshly built; changed in place.
    recipe
        How to train; the task's own.
    open_task
        Makes the task for a runtime that all processes agree on.
    folder, runtime, extension, progress, cancellation
        As in :func:`fit`.
    """
    runtime = (runtime or Runtime()).agreed()
    ranks = runtime.ranks
    ranks.share(recipe.batch_size)
    began, device = runtime.clock(), resolve_device(runtime.device)
    keep_memory()
    if ranks.writes:
        require_writable(folder)
    with (
        ranks.losses_explained(f"The last checkpoint is kept in {folder}; run the same command again to go on."),
        shortage_explained(_memory_advice(recipe, folder)),
        _own_randomness(recipe.seed + ranks.index, device),
        fastest_convolutions(device),
    ):
        state = new_state(network, recipe, device)
        task = open_task(runtime)
        _start_or_resume(state, task.identity, folder, extension, ranks)
        session = open_session(state, task, folder, runtime, began)
        session.progress = progress or session.progress
        session.cancellation = ranks.agreed(cancellation or session.cancellation)
        with closing(session.history):
            if not state.counters.finished:
                _train(state, session)
    return _trained_fold(state, session)


def _train(state: State, session: Session) -> None:
    state.network.train()
    set_deep_supervision(state.network, enabled=session.recipe.deep_supervision)
    _announce(state, session)
    with closing(_batches(state, session)) as batches:
        while not _is_over(state, session):
            _stop_if_asked(state, session)
            _learn(state, session, next(batches))
            _tell(state, session)
            if _validation_is_due(state, session):
                _validate(state, session)
            if _checkpoint_is_due(session):
                _save(state, session)
    if state.counters.validated_step != state.counters.step:
        _validate(state, session)
    state.counters.finished = True
    _save(state, session)
    session.progress.advance(bar_length(state.leg) - session.shown, _note(state, session))
    session.progress.finish(_note(state, session))


# --- beginning -------------------------------------------------------------------------------------------------------


def _check_cases(cases: TrainingCases, assignment: Assignment) -> None:
    if not cases.training:
        raise DatasetError("The fold has no training case; it needs at least one. Check the splits.")
    if assignment.recipe.iterations < 1:
        raise PlanError(f"A recipe needs at least one iteration; got {assignment.recipe.iterations}.")
    first, expected = cases.training[0], len(assignment.configuration.normalization)
    case = cases.open(first)
    if (case.previous is None) != (assignment.configuration.previous_stage is None):
        raise PlanError(
            f"Configuration {assignment.configuration.name} must get the label maps of a previous stage exactly if it "
            f"is a cascade; its previous stage is {assignment.configuration.previous_stage}."
        )
    found = case.array.shape[0]
    if found != expected:
        raise PlanError(
            f"Configuration {assignment.configuration.name} has {expected} channels; "
            f"prepared case {first} has {found}. Prepare the cases again with this plan."
        )


def _start_or_resume(state: State, identity: str, folder: Path, extension: Extension | None, ranks: Ranks) -> None:
    if ranks.writes:
        remove_leftovers(folder)
    if has_checkpoint(folder):
        payload = load_checkpoint(folder)
        check_identity(folder, payload["identity"], identity)
        state.restore(payload, folder)
        if not ranks.writes:  # the random state in the checkpoint is the first rank's
            seed_random_states(ranks.index + state.counters.step)
        _logger.info("Resuming the run in %s at step %d.", folder, state.counters.step)
    if extension is not None:
        _extend(state, extension, folder)


def _extend(state: State, extension: Extension, folder: Path) -> None:
    counters = state.counters
    if not counters.finished and state.leg.amounts_to(extension):
        return
    if not counters.finished:
        raise UsageError(
            f"Only a finished run can be extended; the one in {folder} is at step {counters.step}. "
            "Let it finish first: run the same command without the extension."
        )
    state.leg = extension_leg(extension, counters.step, counters.seconds)
    counters.finished = False
    counters.validated_progress = 0.0


# --- one step --------------------------------------------------------------------------------------------------------


def _batches(state: State, session: Session) -> Generator[Batch, None, None]:
    return in_order(session.task.batch, state.counters.step, ahead=session.runtime.prefetch)


def _progress(state: State, session: Session) -> float:
    return state.leg.progress(state.counters.step, session.seconds, state.counters.reserve_seconds)


def _is_over(state: State, session: Session) -> bool:
    return state.counters.step > state.leg.start_step and _progress(state, session) >= 1.0


def _stop_if_asked(state: State, session: Session) -> None:
    if session.cancellation.requested:
        _save(state, session)
        raise Interrupted(
            f"Training stopped on request after step {state.counters.step}; its state is saved in {session.folder}. "
            "Run the same command again to go on."
        )


def _learn(state: State, session: Session, batch: Batch) -> None:
    recipe, counters = session.recipe, state.counters
    set_learning_rate(state.optimizer, _rate(state, session))
    outcome = train_step(session.learner, state.optimizer, session.task.criterion, batch.images, batch.labels, recipe)
    _count(state, session, outcome, batch)
    counters.step += 1
    if state.average is not None and outcome.applied:
        state.average.update(state.network, counters.step)


def _rate(state: State, session: Session) -> float:
    return learning_rate(session.recipe, state.leg, _progress(state, session), state.counters.step)


def _count(state: State, session: Session, outcome: StepOutcome, batch: Batch) -> None:
    """Note the loss; end the run if it diverged.

    One step without finite gradients is left out and noted; a loss that is no number means that the weights or the
    data are at fault.
    """
    counters = state.counters
    counters.skipped_in_row = 0 if outcome.applied else counters.skipped_in_row + 1
    if not math.isfinite(outcome.loss) or counters.skipped_in_row >= SKIPS_IN_ROW:
        raise TrainingError(_divergence(state, session, outcome, batch))
    if not outcome.applied:
        counters.skipped += 1
        _logger.warning("Step %d was left out: its gradients were not finite.", counters.step)
    counters.loss_sum += outcome.loss
    counters.loss_count += 1
    recent = session.recent_loss
    session.recent_loss = outcome.loss if recent is None else RECENT_LOSS * recent + (1 - RECENT_LOSS) * outcome.loss


def _divergence(state: State, session: Session, outcome: StepOutcome, batch: Batch) -> str:
    what = f"the loss became {outcome.loss}" if not math.isfinite(outcome.loss) else "the gradients are not finite"
    kept = f"The last checkpoint is kept in {session.folder}. " if has_checkpoint(session.folder) else ""
    return (
        f"Training diverged: {what} at step {state.counters.step} on cases {', '.join(batch.case_ids)}. {kept}"
        "Look for extreme intensities in these cases, or train with a lower learning rate or in float32 "
        "in another output folder."
    )


# --- validation ------------------------------------------------------------------------------------------------------


def _validation_is_due(state: State, session: Session) -> bool:
    if state.leg.budget_seconds is None:
        return state.counters.step % session.recipe.iterations_per_epoch == 0
    return _progress(state, session) - state.counters.validated_progress >= VALIDATION_SHARE


def _validate(state: State, session: Session) -> None:
    counters, clock = state.counters, session.runtime.clock
    began = clock()
    session.dice = session.task.score(state.best_network) if session.task.score else {}
    mean = mean_dice(session.dice)
    counters.smoothed_dice = smoothed(counters.smoothed_dice, mean)
    session.history.append(_record(state, session, mean))
    counters.history_position = session.history.position
    counters.validated_step, counters.validated_progress = counters.step, _progress(state, session)
    counters.loss_sum, counters.loss_count = 0.0, 0
    counters.reserve_seconds = clock() - began + session.save_seconds
    _keep_if_best(state, session)
    session.recorded = (counters.step, clock())


def _record(state: State, session: Session, mean: float | None) -> Record:
    counters, (step, clock) = state.counters, session.recorded
    elapsed = session.runtime.clock() - clock
    return {
        "step": counters.step,
        "seconds": round(session.seconds, 3),
        "progress": round(_progress(state, session), 6),
        "loss": counters.loss_sum / counters.loss_count if counters.loss_count else None,
        "dice": dict(session.dice),
        "mean_dice": mean,
        "smoothed_dice": counters.smoothed_dice,
        "learning_rate": float(state.optimizer.param_groups[0]["lr"]),
        "steps_per_second": round((counters.step - step) / elapsed, 4) if elapsed > 0 else None,
        "skipped_steps": counters.skipped,
    }


def _keep_if_best(state: State, session: Session) -> None:
    counters = state.counters
    if counters.smoothed_dice is None or counters.smoothed_dice <= (counters.best_dice or -1.0):
        return
    counters.best_dice = counters.smoothed_dice
    if session.runtime.keep_best and session.runtime.ranks.writes:
        content = {"step": counters.step, "network": _weights(state), "smoothed_dice": counters.smoothed_dice}
        save_weights(session.folder / BEST_FILE, content)


# --- keeping and telling ---------------------------------------------------------------------------------------------


def _checkpoint_is_due(session: Session) -> bool:
    every, since = session.runtime.checkpoint_every_seconds, session.runtime.clock() - session.saved_at
    return since >= every and (every <= 0 or since >= session.save_seconds / CHECKPOINT_SHARE)


def _save(state: State, session: Session) -> None:
    began = session.runtime.clock()
    state.counters.seconds = session.seconds
    if session.runtime.ranks.writes:
        save_checkpoint(session.folder, state.payload(session.task.identity))
    session.saved_at = session.runtime.clock()
    session.save_seconds = session.saved_at - began


def _announce(state: State, session: Session) -> None:
    session.progress.start("training", bar_length(state.leg))
    if state.counters.step > state.leg.start_step:
        _tell(state, session)


def _tell(state: State, session: Session) -> None:
    reached = int(_progress(state, session) * bar_length(state.leg))
    session.progress.advance(max(reached - session.shown, 0), _note(state, session))
    session.shown = max(reached, session.shown)


def _note(state: State, session: Session) -> str:
    done = _progress(state, session)
    left = _seconds_left(state, session, done)
    return live_line(state.leg, state.counters.step, done, session.recent_loss, session.dice, left)


def _seconds_left(state: State, session: Session, done: float) -> float | None:
    leg, estimates = state.leg, []
    if leg.budget_seconds is not None:
        estimates.append(leg.budget_seconds - (session.seconds - leg.start_seconds))
    if done > session.progress_before:
        elapsed = session.runtime.clock() - session.began
        estimates.append(elapsed * (1.0 - done) / (done - session.progress_before))
    return max(0.0, min(estimates)) if estimates else None


# --- end -------------------------------------------------------------------------------------------------------------


def _trained_fold(state: State, session: Session) -> TrainedFold:
    counters, notices = state.counters, list(session.task.notices)
    if counters.skipped:
        notices.append(f"{counters.skipped} of {counters.step} steps were left out: their gradients were not finite.")
    return TrainedFold(
        folder=session.folder,
        weights=_weights(state),
        steps=counters.step,
        seconds=counters.seconds,
        smoothed_dice=counters.smoothed_dice,
        records=read_history(session.folder),
        notices=tuple(notices),
    )


def _weights(state: State) -> dict[str, Tensor]:
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state.best_network.state_dict().items()
    }


def _memory_advice(recipe: Recipe, folder: Path) -> str:
    return (
        f"Training uses patches of {'x'.join(map(str, recipe.patch_size))} in batches of {recipe.batch_size}: "
        "plan again with less memory, close other programs, or use another device. "
        f"Checkpoints in {folder} are kept."
    )


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Give the run torch generators of its own, and the caller its old ones back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seed_random_states(seed)
        yield
