"""A user's checkpoint of HoVer-Net as a model of instances; nothing in the file is executed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from delineate.errors import ModelError
from delineate.formats.instance_package import InstancePackage
from delineate.formats.torch_checkpoint import read_checkpoint
from delineate.inference.hover_maps import HoverPredictor
from delineate.masks.hover_decoding import HoverDecoding, corrected
from delineate.masks.instance_decoding import Decoding
from delineate.networks.hovernet import load_hovernet
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.segment_instances import InstanceModel

PIXEL_UM = 0.25
"""Published checkpoints were trained at 40 times magnification."""
TYPICAL_PIXELS = 24.0
"""Diameter of a nucleus there: 6 micrometres."""


def load_hovernet_model(path: Path, *, device: str = AUTO, published: bool = False) -> InstanceModel:
    """Read a checkpoint: the published ``.tar`` (weights under ``desc``), or a flat ``.pth``.

    Parameters
    ----------
    path
        The file.
    device
        Where it computes.
    published
        Decode as the published program does; else with the corrected constants, which no tile can change.

    Raises
    ------
    ModelError
        If it is damaged, or no checkpoint of HoVer-Net.
    UnsafeModelError
        If it asks for code.
    """
    network = load_hovernet(state_of(read_checkpoint(path), path))
    machine = find_machine(device)
    kinds = max(0, network.types - 1)
    package = InstancePackage(
        name=f"HoVer-Net {network.mode}, {path.name}",
        software="HoVer-Net",
        licence="that of the checkpoint",
        type_names=tuple(f"type {number}" for number in range(1, kinds + 1)),
        widths=(),
        decoding=Decoding(),
        typical_pixels=TYPICAL_PIXELS,
        pixel_um=PIXEL_UM,
        weights={},
        identity=f"{path.name} {_hash_of(path)}",
    )
    decoding = HoverDecoding() if published else corrected(TYPICAL_PIXELS)
    place = torch.device(machine.device)
    return InstanceModel(
        package=package, predictor=HoverPredictor(network=network.to(place), decoding=decoding, device=place)
    )


def _hash_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """Return the weights in a checkpoint.

    Raises
    ------
    ModelError
        If there are none.
    """
    state = content.get("desc", content)
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise ModelError(
            f"{path}: expected weights, under `desc` or alone; found {', '.join(map(str, content)) or 'none'}."
        )
    return tensors
