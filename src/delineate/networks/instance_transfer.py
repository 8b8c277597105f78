"""First weights of a network of instances from a trained one: the trunk as it is, the outputs by what they mean.

Tensors in, tensors out. Foreground, interior and distance mean the same for all objects, so they are taken over
whatever the objects are; a type is taken over where both networks know one of that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from delineate.errors import ModelError
from delineate.networks.answered_part import FOLD
from delineate.networks.instance_unet import InstanceUNet

PLAIN_MAPS = ("foreground", "interior", "distance")
BACKGROUND = "background"
"""The first of the types' maps; its values mean nothing without those that they compete with."""
_HEAD = "head."


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceTransfer:
    """What became of the values of a trained network."""

    copied: int
    """Tensors of the trunk that were taken over."""
    trunk: int
    """Tensors that the trunk has."""
    known: tuple[str, ...]
    """Outputs that were taken over."""
    new: tuple[str, ...]
    """Outputs that start at random."""

    @property
    def is_whole(self) -> bool:
        """Whether the network finds, before any training, what the trained one finds."""
        return self.copied == self.trunk and set(PLAIN_MAPS) <= set(self.known)

    def sentences(self) -> tuple[str, ...]:
        """Return the report for a person."""
        lines = [f"{self.copied} of {self.trunk} tensors of the network's trunk are taken over."]
        lines += [f"The outputs {', '.join(self.known)} are taken over."] if self.known else []
        lines += [f"The outputs {', '.join(self.new)} start at random."] if self.new else []
        return tuple(lines)


def transfer_instances(
    trained: Mapping[str, torch.Tensor], trained_types: Sequence[str], network: InstanceUNet, types: Sequence[str]
) -> InstanceTransfer:
    """Give a fresh network, in place, what fits of a trained one's values, by name and shape.

    Parameters
    ----------
    trained
        Parameter name -> tensor of the trained network.
    trained_types, types
        Names of types 1, 2, ... of the trained and of the fresh network; compared without regard to case.
    network
        The fresh network.

    Raises
    ------
    ModelError
        If nothing of the trunk fits.
    """
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    trunk = [name for name in state if not name.startswith(_HEAD)]
    fitting = [name for name in trunk if name in trained and trained[name].shape == state[name].shape]
    if not any(state[name].is_floating_point() for name in fitting):
        raise ModelError(
            f"The model to start from has another network: none of the {len(trunk)} tensors of the trunk fits "
            f"({trunk[0]} is {tuple(state[trunk[0]].shape)} here)."
        )
    for name in fitting:
        state[name] = trained[name].to(state[name].dtype).clone()
    own = _maps_of(types)
    shared = _shared(_maps_of(trained_types), own) if _heads_fit(trained, state) else {}
    for name in (part for part in state if part.startswith(_HEAD)):
        for there, here in shared.items():
            state[name][_rows(here)] = trained[name][_rows(there)].to(state[name].dtype)
    network.load_state_dict(state)
    known = set(shared.values())
    return InstanceTransfer(
        copied=len(fitting),
        trunk=len(trunk),
        known=tuple(name for index, name in enumerate(own) if index in known),
        new=tuple(name for index, name in enumerate(own) if index not in known),
    )


def _maps_of(types: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a network's maps in their order."""
    return (*PLAIN_MAPS, *((BACKGROUND, *types) if types else ()))


def _shared(trained: Sequence[str], own: Sequence[str]) -> dict[int, int]:
    """Return trained map -> own map of equal meaning."""
    plain = len(PLAIN_MAPS)
    types = {name.casefold(): index for index, name in enumerate(trained) if index > plain}
    kinds = {types[n.casefold()]: i for i, n in enumerate(own) if i > plain and n.casefold() in types}
    background = {plain: plain} if kinds else {}
    return {**{index: index for index in range(plain)}, **background, **kinds}


def _heads_fit(trained: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> bool:
    return all(
        name in trained and trained[name].shape[1:] == tensor.shape[1:]
        for name, tensor in state.items()
        if name.startswith(_HEAD)
    )


def _rows(index: int) -> slice:
    """Return the channels of the head from which a map is unfolded."""
    return slice(index * FOLD**2, (index + 1) * FOLD**2)
