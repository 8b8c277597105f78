"""Number formats and memory layouts of a network at prediction: converted once, never per tile.

The caller's network is left as it is; tensors that need no change are shared with it.
"""

from __future__ import annotations

import copy
from typing import Final, TypeVar

import torch
from torch import Tensor, nn

from delineate.planning.recipe import Precision

Network = TypeVar("Network", bound=nn.Module)

DTYPES: Final[dict[Precision, torch.dtype]] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def converted(
    network: Network, *, device: torch.device | str, precision: Precision = "float32", channels_last: bool = False
) -> Network:
    """Return a twin of ``network`` for prediction: evaluation mode, no deep supervision, no gradients.

    Floating-point weights get the number format and, with ``channels_last``, convolution kernels that layout. The twin
    shares every tensor that did not have to change, so a float32 twin on the same device costs no memory.
    """
    tensors = [*network.parameters(), *network.buffers()]
    memo = {id(t): _converted_tensor(t, torch.device(device), DTYPES[precision], channels_last) for t in tensors}
    twin = copy.deepcopy(network, memo)
    twin.eval()
    if getattr(twin, "deep_supervision", False):
        twin.deep_supervision = False  # type: ignore[assignment]
    return twin


def as_input(batch: Tensor, *, device: torch.device, precision: Precision, channels_last: bool) -> Tensor:
    """Return a batch ``(B, C, *patch)`` as the converted network wants it."""
    layout = layout_of(batch, channels_last)
    return batch.to(device=device, dtype=DTYPES[precision], memory_format=layout)


def layout_of(tensor: Tensor, channels_last: bool) -> torch.memory_format:
    """Return the memory format for a tensor of 4 or 5 axes; all others can only be contiguous or kept."""
    if channels_last and tensor.ndim in (4, 5):
        return torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
    return torch.preserve_format


def _converted_tensor(tensor: Tensor, device: torch.device, dtype: torch.dtype, channels_last: bool) -> Tensor:
    wanted = dtype if tensor.is_floating_point() else tensor.dtype
    layout = layout_of(tensor, channels_last)
    value = tensor.detach().to(device=device, dtype=wanted, memory_format=layout)
    return nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
