"""From an architecture of the plan to a network with its first weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import torch
from torch import nn

from delineate.errors import ModelError, PlanError
from delineate.networks.initialization import HE_SLOPE, TORCH_SLOPE, initialize
from delineate.networks.mednext import mednext
from delineate.networks.residual_unet import residual_unet
from delineate.networks.segmentation_network import SegmentationNetwork
from delineate.networks.unet import plain_unet
from delineate.networks.vnet import vnet
from delineate.planning.plan import Architecture, NetworkKind

MOST = {"features": 16384, "encoder_blocks": 256, "decoder_convs": 256, "expansion_ratios": 64}
"""Per stage; far above every published network, and below what no machine can build."""
LARGEST_KERNEL = 255
MOST_PATCH_VOXELS = 2**40
SHOWN_NAMES = 5
"""How many parameter names an error about foreign weights lists."""

_BUILDERS: Mapping[NetworkKind, Callable[[Architecture, int, int], SegmentationNetwork]] = {
    "plain_unet": plain_unet,
    "residual_unet": residual_unet,
    "vnet": vnet,
    "mednext": mednext,
}
_NAMES: Mapping[NetworkKind, str] = {
    "plain_unet": "Plain U-Net",
    "residual_unet": "Residual-encoder U-Net",
    "vnet": "V-Net",
    "mednext": "MedNeXt",
}


_UNITS: Mapping[NetworkKind, str] = {"residual_unet": "residual blocks", "mednext": "blocks"}
"""What encoder stages are counted in, where not in convolutions."""


def build_network(
    architecture: Architecture, *, in_channels: int, heads: int, seed: int | torch.Generator
) -> SegmentationNetwork:
    """Return the network of an architecture, on the CPU in float32, with random first weights.

    Parameters
    ----------
    architecture
        Topology, as the planner decided it.
    in_channels
        Image channels.
    heads
        Logits per voxel: labels with background, or regions.
    seed
        A seed or a CPU generator; torch's global random state is neither read nor changed.

    Raises
    ------
    PlanError
        If the architecture contradicts itself, or ``in_channels`` or ``heads`` is not positive.
    """
    network = _skeleton(architecture, in_channels, heads).to_empty(device="cpu")
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    initialize(network, generator, TORCH_SLOPE if architecture.kind == "mednext" else HE_SLOPE)
    return network


def parameter_count(architecture: Architecture, *, in_channels: int, heads: int) -> int:
    """Return the number of weights of a network without allocating it.

    Raises
    ------
    PlanError
        If the architecture contradicts itself, or ``in_channels`` or ``heads`` is not positive.
    """
    return sum(p.numel() for p in _skeleton(architecture, in_channels, heads).parameters())


def describe(architecture: Architecture, *, in_channels: int = 1, heads: int = 2) -> str:
    """Return one readable line about an architecture; the channels and heads only change the number of weights.

    Raises
    ------
    PlanError
        If the architecture contradicts itself.
    """
    millions = parameter_count(architecture, in_channels=in_channels, heads=heads) / 1e6
    blocks = "-".join(map(str, architecture.encoder_blocks))
    unit = _UNITS.get(architecture.kind, "convolutions")
    return (
        f"{_NAMES[architecture.kind]}, {architecture.dims}-D, {architecture.stages} stages of "
        f"{'-'.join(map(str, architecture.features))} features with {blocks} {unit}, "
        f"kernels {_runs(architecture.kernel_sizes)}, downsampled by {_times(architecture.divisor)}, "
        f"{millions:.2f} M parameters"
    )


def check_architecture(architecture: Architecture) -> None:
    """Refuse an architecture that no network can be built from; all contradictions are told at once.

    Raises
    ------
    PlanError
        If numbers per stage disagree, a kernel is even, or a stride, width or depth is impossible.
    """
    faults = [*_count_faults(architecture)] or [*_value_faults(architecture)]
    if faults:
        raise PlanError(f"The architecture in the plan cannot be built: {'; '.join(faults)}. Correct the plan.")


def check_patch(architecture: Architecture, patch: Sequence[int]) -> None:
    """Refuse a patch that does not come back from the network with its own size.

    Parameters
    ----------
    architecture
        A topology that can be built.
    patch
        Voxels per axis, in the order of the strides.

    Raises
    ------
    PlanError
        If the number of axes is wrong, an axis is not a positive multiple of its strides' product, or the bottleneck
        would hold a single voxel, which instance normalisation cannot normalise; or if no machine could hold it.
    """
    shown, divisor = tuple(patch), architecture.divisor
    if len(shown) != architecture.dims:
        raise PlanError(f"A {architecture.dims}-D network needs a patch of {architecture.dims} axes; got {shown}.")
    if math.prod(shown) > MOST_PATCH_VOXELS:
        raise PlanError(f"A patch of {_times(shown)} voxels cannot be meant; it would not fit into any memory.")
    if any(size < 1 or size % step for size, step in zip(shown, divisor, strict=True)):
        fitting = tuple(max(1, math.ceil(size / step)) * step for size, step in zip(shown, divisor, strict=True))
        raise PlanError(
            f"Every patch axis must be a positive multiple of the network's downsampling {divisor}; got {shown}. "
            f"The next larger patch that fits is {fitting}."
        )
    if shown == divisor:
        raise PlanError(
            f"The patch {shown} leaves a single voxel in the bottleneck (downsampling {divisor}), which cannot be "
            "normalised. Enlarge the patch or drop a stage."
        )


def load_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into a network; names and shapes must be exactly the network's own.

    Parameters
    ----------
    network
        The network to fill, in place.
    weights
        Parameter name -> tensor; foreign names are translated before (``networks.nnunet_weights``).

    Raises
    ------
    ModelError
        If a name is missing, left over, or of another shape; some of them are named.
    """
    _require_equal_shapes(network.state_dict(), weights)
    network.load_state_dict(dict(weights))


def check_weights(
    architecture: Architecture, weights: Mapping[str, torch.Tensor], *, in_channels: int, heads: int
) -> None:
    """Refuse weights that are of another network, without allocating the network.

    Parameters
    ----------
    architecture
        Topology of the network that the weights should be of.
    weights
        Parameter name -> tensor; foreign names are translated before (``networks.nnunet_weights``).
    in_channels, heads
        As for :func:`build_network`.

    Raises
    ------
    PlanError
        If no network can be built from the architecture.
    ModelError
        If a name is missing, left over, or of another shape; some of them are named.
    """
    _require_equal_shapes(_skeleton(architecture, in_channels, heads).state_dict(), weights)


def _require_equal_shapes(own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    faults = [
        *(f"{name} is missing" for name in own if name not in weights),
        *(f"{name} is unknown" for name in weights if name not in own),
        *(
            f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in own.items()
            if name in weights and weights[name].shape != tensor.shape
        ),
    ]
    if faults:
        more = f", and {len(faults) - SHOWN_NAMES} more" if len(faults) > SHOWN_NAMES else ""
        raise ModelError(
            f"The weights do not belong to this network: {', '.join(faults[:SHOWN_NAMES])}{more}. "
            "Use the plan, the configuration and the labels that the weights were trained with."
        )


def _skeleton(architecture: Architecture, in_channels: int, heads: int) -> SegmentationNetwork:
    """Return the network on the meta device, where nothing is allocated and nothing is drawn."""
    check_architecture(architecture)
    if in_channels < 1 or heads < 1:
        raise PlanError(f"A network needs at least 1 channel and 1 head; got {in_channels} channels and {heads} heads.")
    with torch.device("meta"):
        return _BUILDERS[architecture.kind](architecture, in_channels, heads)


def _count_faults(architecture: Architecture) -> list[str]:
    stages = architecture.stages
    faults = []
    if architecture.kind not in _BUILDERS:
        faults.append(f"`kind` must be one of {', '.join(_BUILDERS)}; got {architecture.kind!r}")
    if architecture.dims not in (2, 3):
        faults.append(f"`dims` must be 2 or 3; got {architecture.dims}")
    if stages < 2:
        faults.append(f"at least 2 stages are needed; got `features` {architecture.features}")
    expected = {"kernel_sizes": stages, "strides": stages, "encoder_blocks": stages, "decoder_convs": stages - 1}
    for name, count in expected.items():
        if len(value := getattr(architecture, name)) != count:
            faults.append(f"`{name}` needs {count} entries for {stages} stages; got {value}")
    ratios = architecture.expansion_ratios
    if len(ratios) != (stages if architecture.kind == "mednext" else 0):
        faults.append(f"`expansion_ratios` has an entry per stage of a MedNeXt and none otherwise; got {ratios}")
    for name in ("kernel_sizes", "strides"):
        if any(len(entry) != architecture.dims for entry in getattr(architecture, name)):
            faults.append(f"`{name}` needs {architecture.dims} numbers per stage; got {getattr(architecture, name)}")
    return faults


def _value_faults(architecture: Architecture) -> list[str]:
    faults = []
    if any(not 1 <= k <= LARGEST_KERNEL or k % 2 == 0 for kernel in architecture.kernel_sizes for k in kernel):
        faults.append(f"`kernel_sizes` must be odd and at most {LARGEST_KERNEL}; got {architecture.kernel_sizes}")
    if any(s < 1 for stride in architecture.strides for s in stride) or set(architecture.strides[0]) != {1}:
        faults.append(f"`strides` must be positive and the first all ones; got {architecture.strides}")
    for name, most in MOST.items():
        value = getattr(architecture, name)
        if any(not 1 <= number <= most for number in value):
            faults.append(f"`{name}` must lie between 1 and {most}; got {value}")
    return faults


def _times(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _runs(sizes: Sequence[Sequence[int]]) -> str:
    """Return e.g. ``1x3x3 (2 stages), 3x3x3 (4 stages)``, or ``3x3x3`` if all are equal."""
    runs = [(text, len(list(group))) for text, group in groupby(map(_times, sizes))]
    if len(runs) == 1:
        return runs[0][0]
    return ", ".join(f"{text} ({count} stage{'s' if count > 1 else ''})" for text, count in runs)
