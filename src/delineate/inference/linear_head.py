"""The last layer of a network taken apart: weighing features over tiles instead of logits.

A segmentation network ends in a linear map of each voxel, from features ``f`` to logits ``H f + b``. A mean over tiles,
flips and folds is linear too, and its weights sum to 1, so ``sum w (H f + b) = H (sum w f) + b``: the features can be
summed instead of the logits and the map applied once, to the finished sums. With more heads than features (118 and 32
in the anatomical models) that saves most of the memory and of the time around the network. It is the same number up to
rounding. Knows no tiles.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from delineate.errors import ModelError
from delineate.inference.ensemble import Ensemble
from delineate.inference.precision import as_input
from delineate.networks.segmentation_network import EncoderDecoder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeadlessEnsemble:
    """The networks of an ensemble without their last layer, and the last layers as one matrix.

    The features of all networks stand side by side, so that one product with the matrix gives the mean logits.
    """

    ensemble: Ensemble
    bodies: tuple[nn.Module, ...]
    weight: Tensor
    """``(head, feature of all networks)`` float32, divided by the number of networks."""
    bias: Tensor
    """``(head,)`` float32."""

    @property
    def heads(self) -> int:
        """Logits per voxel."""
        return len(self.weight)

    @property
    def features(self) -> int:
        """Features per voxel of one network."""
        return self.weight.shape[1] // len(self.bodies)

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the features ``(B, feature, *patch)`` of a batch ``(B, C, *patch)`` in the networks' number format."""
        inputs = as_input(
            batch,
            device=self.ensemble.device,
            precision=self.ensemble.precision,
            channels_last=self.ensemble.channels_last,
        )
        found = [self.ensemble.run(body, inputs) for body in self.bodies]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def logits(self, features: Tensor) -> Tensor:
        """Return the mean logits ``(head, voxel)`` float32 of summed features ``(voxel, feature)`` float32.

        Raises
        ------
        ModelError
            If they are NaN or infinite.
        """
        logits = torch.addmm(self.bias[:, None], self.weight, features.T)
        if not math.isfinite(float(features.sum())):
            raise ModelError(
                f"A network gave NaN or infinite features in {self.ensemble.precision}. Its weights are damaged or its "
                "training diverged, or the image holds NaN; use another fold or float32."
            )
        return logits


def without_heads(ensemble: Ensemble) -> HeadlessEnsemble | None:
    """Return the ensemble taken apart, or None if a network does not end in a known map of single voxels.

    All weights are shared with the ensemble, which stays as it is.
    """
    networks = [network for network in ensemble.networks if isinstance(network, EncoderDecoder)]
    heads = [head for head in map(_last_layer, networks) if head is not None]
    if len(heads) < len(ensemble.networks) or len({head.out_channels for head in heads}) != 1:
        return None
    return HeadlessEnsemble(
        ensemble=ensemble,
        bodies=tuple(_beheaded(network) for network in networks),
        weight=torch.cat([head.weight.detach().float().flatten(1) for head in heads], 1) / len(heads),
        bias=torch.stack([_bias(head) for head in heads]).mean(0),
    )


def _last_layer(network: EncoderDecoder) -> nn.Conv2d | nn.Conv3d | None:
    head = network.decoder.seg_layers[-1]
    return head if isinstance(head, nn.Conv2d | nn.Conv3d) and set(head.kernel_size) == {1} else None


def _bias(head: nn.Conv2d | nn.Conv3d) -> Tensor:
    return head.weight.new_zeros(head.out_channels).float() if head.bias is None else head.bias.detach().float()


def _beheaded(network: EncoderDecoder) -> EncoderDecoder:
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, shared)
    twin.decoder.seg_layers[-1] = nn.Identity()
    return twin
