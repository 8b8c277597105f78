"""One process's work on a run: what does not change from step to step, and how it is set up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from delineate.execution.progress import Cancellation, Progress, Silent
from delineate.planning.recipe import Recipe
from delineate.training.history import History, Unrecorded
from delineate.training.precision import resolve_device
from delineate.training.ranks import Ranks
from delineate.training.sampler import DEFAULT_CACHE_BYTES
from delineate.training.state import State
from delineate.training.task import Task


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

    task: Task
    folder: Path
    runtime: Runtime
    device: torch.device
    learner: nn.Module
    """The network as it is trained through: itself, or joined with those of other processes."""
    history: History | Unrecorded
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
    def recipe(self) -> Recipe:
        """How the network is trained."""
        return self.task.recipe

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole run."""
        return self.seconds_before + self.runtime.clock() - self.began


def open_session(state: State, task: Task, folder: Path, runtime: Runtime, began: float) -> Session:
    """Return the session that goes on from ``state``; ``began`` is the clock when its work started."""
    return Session(
        task=task,
        folder=folder,
        runtime=runtime,
        device=resolve_device(runtime.device),
        learner=runtime.ranks.joined(state.network),
        history=_history(state, folder, runtime),
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
