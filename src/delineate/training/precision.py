"""In which number format and memory layout a network computes. The one place to change when another way is faster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call

from delineate.errors import ResourceError, UsageError
from delineate.planning.recipe import Precision, Recipe

Logits = Tensor | Sequence[Tensor]
"""(B, head, *patch) float, or with deep supervision a list of them, highest resolution first."""


def resolve_device(name: str) -> torch.device:
    """Return the torch device called ``name`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``).

    Raises
    ------
    UsageError
        If there is no such kind of device.
    ResourceError
        If this machine does not have it.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"The device must be cpu, cuda, cuda:N or mps; got '{name}'.") from error
    if device.type == "cuda" and not (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
        raise ResourceError(
            f"Device '{name}' was asked for, but this machine has {torch.cuda.device_count()} CUDA devices."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ResourceError("Device 'mps' was asked for, but this machine does not have it.")
    return device


def place_network(network: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Move a network, in place, to the device and the memory layout of the recipe; weights stay float32."""
    network.to(device)
    if recipe.channels_last:
        for parameter in network.parameters():
            parameter.data = _channels_last(parameter.data)


def place_images(images: Tensor, recipe: Recipe, device: torch.device) -> Tensor:
    """Move images (B, C, *patch) float32 to the device and the memory layout of the recipe."""
    moved = images.to(device, non_blocking=True)
    return _channels_last(moved) if recipe.channels_last else moved


def forward(network: nn.Module, images: Tensor, precision: Precision) -> Logits:
    """Compute logits from images (B, C, *patch) float32 in the given precision.

    bfloat16 runs under autocast; :func:`forward_with_cast_weights` is the alternative with the same signature.
    """
    with _autocast(precision, images.device.type):
        logits: Logits = network(images)
    return logits


def forward_with_cast_weights(network: nn.Module, images: Tensor, precision: Precision) -> Logits:
    """Compute logits with all weights and activations, normalisation included, cast to the precision.

    The casts are part of the graph, so gradients arrive at the float32 weights.
    """
    if precision == "float32":
        return forward(network, images, precision)
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in network.named_parameters()}
    logits: Logits = functional_call(network, weights, (images.to(torch.bfloat16),))
    return logits


@contextmanager
def fastest_convolutions(device: torch.device) -> Iterator[None]:
    """On a GPU, let cuDNN try its ways of every convolution once and keep the quickest: all steps have one shape."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _autocast(precision: Precision, device_type: str) -> AbstractContextManager[object]:
    return torch.autocast(device_type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _channels_last(tensor: Tensor) -> Tensor:
    if tensor.ndim == 5:
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    if tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor
