"""First weights from a trained network: what fits is taken over, what differs at the two ends is adapted.

As in nnU-Net, everything between the first convolution and the layers of logits must be there with the same shape.
Beyond nnU-Net, logits of structures that both networks know are taken over, a first convolution for other channels is
put together from the trained one, and depthwise kernels of a MedNeXt may grow (UpKern). Tensors in, tensors out.

References
----------
nnU-Net 2.8.1, ``nnunetv2.run.load_pretrained_weights``; UpKern: Roy et al. 2023, arXiv 2303.09975.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from delineate.errors import ModelError

SHOWN_FAULTS = 5
"""How many parameters an error names."""
BACKGROUND = "background"
"""Head of what belongs to no structure; its row means nothing without the rows that it competes with."""

_HEADS = re.compile(r"(?:(?:^|\.)seg_layers\.\d+|^out_\d+\.conv_out)\.(?:weight|bias)$")
_TRANSPOSED_HEAD = re.compile(r"^out_\d+\.conv_out\.weight$")
"""A MedNeXt's logits come from transposed convolutions, whose output channels are the second axis."""
_STEMS = re.compile(r"^(?:encoder\.stages\.0\.0\.convs\.0\.conv|encoder\.stem\.convs\.0\.conv|stem)\.weight$")
_DEPTHWISE = re.compile(r"\.conv1\.weight$")
_INTERPOLATION = {4: "bilinear", 5: "trilinear"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """What goes in and what comes out of a network, by name; names are compared without regard to case."""

    channels: tuple[str, ...]
    """Input channels in their order."""
    heads: tuple[str, ...]
    """Output channels in their order; ``background`` first where structures exclude each other."""
    exclusive: bool
    """Structures exclude each other (softmax); else each has a logit of its own (sigmoid)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferReport:
    """What became of the parameters of a network that starts from a trained one."""

    copied: tuple[str, ...]
    """Parameters taken over as they are."""
    adapted: tuple[str, ...]
    """Parameters made from trained ones of another shape or order."""
    fresh: tuple[str, ...]
    """Parameters that stay random."""
    unused: tuple[str, ...]
    """Parameters of the trained network that the new one does not have."""
    known_heads: tuple[str, ...]
    """Heads whose rows were taken over."""
    new_heads: tuple[str, ...]
    """Heads that start at random."""
    notes: tuple[str, ...]
    """How the adapted parameters were made; one sentence each."""

    def sentences(self) -> tuple[str, ...]:
        """Return the report for a person."""
        lines = [
            f"{len(self.copied)} parameter tensors are taken over, {len(self.adapted)} adapted, "
            f"{len(self.fresh)} start at random.",
            *self.notes,
            f"The outputs for {', '.join(self.known_heads)} are taken over." if self.known_heads else "",
            f"The outputs for {', '.join(self.new_heads)} start at random." if self.new_heads else "",
            f"{len(self.unused)} tensors of the model have no place here and are not used." if self.unused else "",
        ]
        return tuple(line for line in lines if line)


def transfer(
    trained: Mapping[str, torch.Tensor],
    fresh: Mapping[str, torch.Tensor],
    *,
    source: Interface,
    target: Interface,
) -> tuple[dict[str, torch.Tensor], TransferReport]:
    """Return the first weights of a network that starts from a trained one, and what became of each.

    Parameters
    ----------
    trained
        Parameter name -> tensor of the trained network, under our names.
    fresh
        All parameters of the new network with random weights; they decide names, shapes and dtypes.
    source, target
        Channels and heads of the trained and of the new network.

    Raises
    ------
    ModelError
        If a parameter between the two ends is missing in the trained network or has another shape; names some.
    """
    _check_fit(trained, fresh)
    channels = _Channels.of(source.channels, target.channels)
    rows = _shared_rows(source, target)
    weights: dict[str, torch.Tensor] = {}
    fates: dict[str, str] = {}
    notes: dict[str, None] = {}  # a set that keeps its order
    for name, random in fresh.items():
        found = trained.get(name)
        made, fates[name], note = _parameter(name, found, random, channels, rows)
        weights[name] = made.to(random.dtype).clone()
        notes[note] = None
    report = TransferReport(
        copied=_names(fates, "copied"),
        adapted=_names(fates, "adapted"),
        fresh=_names(fates, "fresh"),
        unused=tuple(name for name in trained if name not in fresh),
        known_heads=tuple(target.heads[new] for new in rows.values()),
        new_heads=tuple(head for index, head in enumerate(target.heads) if index not in rows.values()),
        notes=tuple(note for note in notes if note),
    )
    return weights, report


def _names(fates: Mapping[str, str], fate: str) -> tuple[str, ...]:
    return tuple(name for name, found in fates.items() if found == fate)


_Made = tuple[torch.Tensor, str, str]
"""A parameter, its fate and a sentence on how it was made, if any."""


def _parameter(
    name: str, found: torch.Tensor | None, random: torch.Tensor, channels: _Channels, rows: Mapping[int, int]
) -> _Made:
    if _HEADS.search(name):
        return _head(name, found, random, rows)
    if found is None:  # _check_fit has seen to it that only heads may be missing
        return random, "fresh", ""
    if _STEMS.match(name) and not channels.equal:
        return channels.adapted(found), "adapted", channels.sentence()
    if found.shape != random.shape:
        return _grown(found, random), "adapted", _growth(found, random)
    return found, "copied", ""


# --- the middle


def _check_fit(trained: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> None:
    faults = [*_faults(trained, fresh)]
    if faults:
        more = f", and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise ModelError(
            f"The network to be trained is not that of the model to start from: {', '.join(faults[:SHOWN_FAULTS])}"
            f"{more}. Plan with the model's own network: `delineate plan DATASET --from MODEL`."
        )


def _faults(trained: Mapping[str, torch.Tensor], fresh: Mapping[str, torch.Tensor]) -> Iterator[str]:
    for name, random in fresh.items():
        if _HEADS.search(name):
            continue
        if name not in trained:
            yield f"{name} is missing in the model"
        elif not _fits(name, trained[name].shape, random.shape):
            yield f"{name} has shape {tuple(trained[name].shape)} in the model and {tuple(random.shape)} here"


def _fits(name: str, trained: Sequence[int], fresh: Sequence[int]) -> bool:
    if tuple(trained) == tuple(fresh):
        return True
    if len(trained) != len(fresh):
        return False
    if _STEMS.match(name):
        return trained[0] == fresh[0] and tuple(trained[2:]) == tuple(fresh[2:])
    grows = all(small <= large for small, large in zip(trained[2:], fresh[2:], strict=True))
    return bool(_DEPTHWISE.search(name)) and tuple(trained[:2]) == tuple(fresh[:2]) and fresh[1] == 1 and grows


def _grown(found: torch.Tensor, random: torch.Tensor) -> torch.Tensor:
    """Return small depthwise kernels (C, 1, *k) interpolated to the size of ``random`` (UpKern)."""
    return F.interpolate(found.float(), size=random.shape[2:], mode=_INTERPOLATION[found.ndim], align_corners=False)


def _growth(found: torch.Tensor, random: torch.Tensor) -> str:
    before, after = ("x".join(map(str, tensor.shape[2:])) for tensor in (found, random))
    return f"Depthwise kernels of {before} are interpolated to {after} (UpKern)."


# --- the first convolution


@dataclass(frozen=True, kw_only=True, slots=True)
class _Channels:
    """How the channels of the new network follow from those of the trained one."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    matched: Mapping[int, int]
    """Index of a new channel -> index of the trained channel of that name."""

    @staticmethod
    def of(source: Sequence[str], target: Sequence[str]) -> _Channels:
        known = {name.casefold(): index for index, name in reversed([*enumerate(source)])}
        matched = {new: known[name.casefold()] for new, name in enumerate(target) if name.casefold() in known}
        return _Channels(source=tuple(source), target=tuple(target), matched=matched)

    @property
    def equal(self) -> bool:
        """Same channels in the same order, or as many of wholly other names: the weights serve as they are."""
        if len(self.source) != len(self.target):
            return False
        return not self.matched or all(self.matched.get(index) == index for index in range(len(self.target)))

    def adapted(self, stem: torch.Tensor) -> torch.Tensor:
        """Return the weights (C_out, C_target, *k) for trained ones (C_out, C_source, *k).

        A channel that the model knows keeps its weights. The others share evenly what is left of the sum over channels,
        so that equal values in all channels give the response that the model gave; where nothing is left they are 0.
        """
        unknown = len(self.target) - len(self.matched)
        left = [index for index in range(len(self.source)) if index not in self.matched.values()]
        share = stem[:, left].sum(1) / max(1, unknown)
        columns = [stem[:, self.matched[new]] if new in self.matched else share for new in range(len(self.target))]
        return torch.stack(columns, 1)

    def sentence(self) -> str:
        known = [name for index, name in enumerate(self.target) if index in self.matched]
        others = [name for index, name in enumerate(self.target) if index not in self.matched]
        keep = f"{', '.join(known)} keep their weights" if known else "no channel is known to the model"
        start = f"; {', '.join(others)} share the weights of the channels that are gone" if others else ""
        if others and set(range(len(self.source))) <= set(self.matched.values()):
            start = f"; {', '.join(others)} start at 0, so that the response stays what it was"
        return f"The first convolution is adapted to other channels: {keep}{start}."


# --- the logits


def _shared_rows(source: Interface, target: Interface) -> dict[int, int]:
    """Return trained row -> new row of the heads that both networks have; none unless they share a structure."""
    if source.exclusive != target.exclusive:
        return {}
    old = {name.casefold(): index for index, name in enumerate(source.heads)}
    rows = {old[name.casefold()]: new for new, name in enumerate(target.heads) if name.casefold() in old}
    structures = [new for new in rows.values() if target.heads[new].casefold() != BACKGROUND]
    return rows if structures else {}


def _head(name: str, found: torch.Tensor | None, random: torch.Tensor, rows: Mapping[int, int]) -> _Made:
    axis = 1 if _TRANSPOSED_HEAD.match(name) else 0
    if found is None or not rows or found.ndim != random.ndim or not _same_but(axis, found, random):
        return random, "fresh", ""
    if found.shape == random.shape and all(old == new for old, new in rows.items()) and len(rows) == found.shape[axis]:
        return found, "copied", ""
    made = random.clone()
    old, new = torch.tensor([*rows]), torch.tensor([*rows.values()])
    made.index_copy_(axis, new, found.index_select(axis, old).to(random.dtype))
    return made, "adapted", ""


def _same_but(axis: int, one: torch.Tensor, other: torch.Tensor) -> bool:
    return all(a == b for i, (a, b) in enumerate(zip(one.shape, other.shape, strict=True)) if i != axis)
