"""The state of a training run: everything that a checkpoint has to hold so that a resumed run is the same run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from delineate.case.labels import LabelScheme
from delineate.errors import ModelError
from delineate.planning.plan import Configuration
from delineate.planning.recipe import Recipe
from delineate.training.checkpoint import Payload
from delineate.training.ema import WeightAverage
from delineate.training.optimizer import build_optimizer
from delineate.training.precision import place_network
from delineate.training.sampler import TrainingCases
from delineate.training.schedule import Leg, first_leg


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """What is to be learnt, with which network, and how."""

    configuration: Configuration
    recipe: Recipe
    scheme: LabelScheme

    def identity(self, cases: TrainingCases) -> str:
        """Return, as JSON, all that must be equal for a checkpoint to be continued; reasons are free to differ."""
        recipe = {name: value for name, value in asdict(self.recipe).items() if name != "reasons"}
        configuration = asdict(self.configuration)
        if not self.configuration.architecture.expansion_ratios:  # as it was before there were any
            del configuration["architecture"]["expansion_ratios"]
        return json.dumps(
            {
                "recipe": recipe,
                "configuration": configuration,
                "scheme": asdict(self.scheme),
                "cases": {"training": cases.training, "validation": cases.validation},
            }
        )


@dataclass(kw_only=True)
class Counters:
    """The plain values of a run."""

    step: int = 0
    """Optimiser steps done."""
    seconds: float = 0.0
    """Wall-clock seconds spent when the last checkpoint was written, over all sessions."""
    finished: bool = False
    loss_sum: float = 0.0
    """Sum of the losses since the last validation."""
    loss_count: int = 0
    validated_step: int = -1
    validated_progress: float = 0.0
    """Progress of the leg at its last validation."""
    reserve_seconds: float = 0.0
    """Measured time of a validation and a checkpoint, kept free at the end of a time budget."""
    smoothed_dice: float | None = None
    best_dice: float | None = None
    skipped: int = 0
    """Steps that were left out because their gradients were not finite."""
    skipped_in_row: int = 0
    history_position: int = 0


@dataclass(kw_only=True)
class State:
    """A run between two steps."""

    network: nn.Module
    optimizer: Optimizer
    average: WeightAverage | None
    leg: Leg
    counters: Counters

    @property
    def best_network(self) -> nn.Module:
        """The network that is validated and kept: the average where there is one."""
        return self.average.network if self.average else self.network

    def payload(self, identity: str) -> Payload:
        """Return the content of a checkpoint: tensors and plain values."""
        return {
            "identity": identity,
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "leg": asdict(self.leg),
            "counters": asdict(self.counters),
            "step": self.counters.step,
            "random": _random_states(),
        }

    def restore(self, payload: Payload, folder: Path) -> None:
        """Take over the content of a checkpoint.

        Raises
        ------
        ModelError
            If the weights are those of another network.
        """
        try:
            self.network.load_state_dict(payload["network"])
            if self.average is not None:
                self.average.network.load_state_dict(payload["average"])
            self.optimizer.load_state_dict(payload["optimizer"])
            self.leg = Leg(**payload["leg"])
            self.counters = Counters(**payload["counters"])
            _set_random_states(payload["random"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"The checkpoint in {folder} does not fit the network that is to be trained: {error} "
                "Choose another output folder, or delete the checkpoints there to start again."
            ) from error


def new_state(network: nn.Module, recipe: Recipe, device: torch.device) -> State:
    """Return the state before the first step; the network is moved to the device in place."""
    place_network(network, recipe, device)
    return State(
        network=network,
        optimizer=build_optimizer(network, recipe),
        average=WeightAverage(network, recipe.ema_decay) if recipe.ema_decay is not None else None,
        leg=first_leg(recipe),
        counters=Counters(),
    )


def seed_random_states(seed: int) -> None:
    """Seed torch's own generators, of which only dropout-like layers make use."""
    for generator in (torch.default_generator, *torch.cuda.default_generators):
        generator.manual_seed(seed)


def _random_states() -> dict[str, Any]:
    cuda: list[Tensor] = torch.cuda.get_rng_state_all() if _uses_cuda() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["cpu"])
    if _uses_cuda() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
