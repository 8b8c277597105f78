"""nnU-Net's state dicts and ours, translated both ways. Tensors in, tensors out; files are read elsewhere.

Our parameter names are nnU-Net's, but nnU-Net registers the same modules several times, so that its state dict holds
every tensor of a block twice (``conv``/``norm`` and ``all_modules.0``/``all_modules.1``) and the whole encoder once
more below ``decoder.encoder``. nnU-Net loads strictly: a writer must emit every duplicate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from delineate.errors import ModelError

WRAPPERS = ("_orig_mod.", "module.")
"""What ``torch.compile`` and distributed training put in front of parameter names."""

STEMS = ("encoder.stages.0.0.convs.0.conv.weight", "encoder.stem.convs.0.conv.weight")
"""The first weight of nnU-Net's plain and of its residual-encoder U-Net."""

BARE_UPSAMPLING = "decoder.transpconvs.0.weight"
"""nnU-Net neither normalises nor activates after its transposed convolutions; a V-Net does."""

_ENCODER_AGAIN = "decoder.encoder."
_ALIASES = {"conv": "all_modules.0", "norm": "all_modules.1"}
_OWN = re.compile(r"^(?P<block>.+)\.(?P<layer>conv|norm)\.(?P<which>weight|bias)$")
# with dropout the normalisation is nnU-Net's third module of a block
_ALIAS = re.compile(r"^(?P<block>.+)\.all_modules\.(?P<index>[012])\.(?P<which>weight|bias)$")


def to_nnunet(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict that nnU-Net's network class loads strictly.

    Parameters
    ----------
    state_dict
        Parameters of a plain or residual-encoder U-Net of this room, by name.

    Returns
    -------
    dict
        The same tensors, not copied, under all of nnU-Net's names.

    Raises
    ------
    ModelError
        If the weights are of a network that nnU-Net does not have.
    """
    if BARE_UPSAMPLING not in state_dict or not any(stem in state_dict for stem in STEMS):
        raise ModelError(
            "Only the plain and the residual-encoder U-Net can be written for nnU-Net; these weights lack "
            f"{BARE_UPSAMPLING}, or both {STEMS[0]} and {STEMS[1]}."
        )
    named = {name: tensor for own, tensor in state_dict.items() for name in _with_alias(own)}
    again = {f"decoder.{name}": tensor for name, tensor in named.items() if name.startswith("encoder.")}
    return {**named, **again}


def from_nnunet(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict of nnU-Net under our names: one entry per tensor, wrappers' prefixes taken off.

    Parameters
    ----------
    state_dict
        ``network_weights`` of an nnU-Net checkpoint.

    Returns
    -------
    dict
        The same tensors, not copied; where nnU-Net has a tensor under several names, the first.

    Raises
    ------
    ModelError
        If an entry is no tensor, or two names of one tensor carry different values.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        if not isinstance(tensor, torch.Tensor):
            raise ModelError(f"Network weights must be tensors; '{name}' is a {type(tensor).__name__}.")
        first = found.setdefault(_own_name(name), tensor)
        if not _same(first, tensor):
            raise ModelError(
                f"The weights contradict themselves: '{name}' differs from '{_own_name(name)}', though nnU-Net shares "
                "one tensor under both names. The file is damaged or was edited."
            )
    return found


def _with_alias(own: str) -> tuple[str, ...]:
    match = _OWN.match(own)
    if match is None:
        return (own,)
    return own, f"{match['block']}.{_ALIASES[match['layer']]}.{match['which']}"


def _own_name(foreign: str) -> str:
    name = foreign
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    name = name.removeprefix("decoder.") if name.startswith(_ENCODER_AGAIN) else name
    match = _ALIAS.match(name)
    if match is None:
        return name
    return f"{match['block']}.{'conv' if match['index'] == '0' else 'norm'}.{match['which']}"


def _same(first: torch.Tensor, other: torch.Tensor) -> bool:
    if first is other or (first.data_ptr() == other.data_ptr() and first.shape == other.shape):
        return True
    return first.shape == other.shape and torch.equal(first, other)
