"""HoVer-Net with its published parameter names, so that a user's checkpoint of it loads key by key.

A pre-activation ResNet-50 whose first convolution keeps the resolution, and one decoder per answer: nucleus or not
(``np``), horizontal and vertical offset from the centre (``hv``), type (``tp``). Decoders use convolutions without
padding, so the answer is smaller than the image: 80 of 270 pixels in the mode ``original``, 164 of 256 in ``fast``.

References
----------
S. Graham et al., HoVer-Net: simultaneous segmentation and classification of nuclei in multi-tissue histology images,
Medical Image Analysis 58 (2019).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from delineate.errors import ModelError

Mode = Literal["original", "fast"]
KERNEL: Mapping[Mode, int] = {"original": 5, "fast": 3}
"""Side of the decoders' convolutions."""
SKIP_CROPS: Mapping[Mode, tuple[int, int]] = {"original": (184, 72), "fast": (92, 36)}
"""Pixels that the first two skips lose, so that they fit the decoder."""
SIZES: Mapping[Mode, tuple[int, int]] = {"original": (270, 80), "fast": (256, 164)}
"""Pixels per side of image and answer."""
_STAGES = ((64, 64, 256, 3, 1), (256, 128, 512, 4, 2), (512, 256, 1024, 6, 2), (1024, 512, 2048, 3, 2))
"""Encoder stages: channels in, inside, out; units; stride."""
_GROUPS, _GROWTH, _NARROW = 4, 32, 128
"""Dense units: groups of the second convolution, channels that a unit adds, channels inside."""


class HoVerNet(nn.Module):
    """Images (B, 3, y, x) from 0 to 255 in; per branch (B, channel, y', x') out.

    Parameters
    ----------
    types
        Kinds of nuclei with the background, as checkpoints count them; 0: no types.
    mode
        ``original`` or ``fast``.
    """

    def __init__(self, *, types: int = 0, mode: Mode = "fast") -> None:
        super().__init__()
        self.types, self.mode = types, mode
        first: list[tuple[str, nn.Module]] = [
            ("/", nn.Conv2d(3, 64, 7, bias=False)),
            ("bn", nn.BatchNorm2d(64)),
            ("relu", nn.ReLU(inplace=True)),
        ]
        self.conv0 = nn.Sequential(OrderedDict([("pad", _SamePadding(7)), *first] if mode == "fast" else first))
        for index, stage in enumerate(_STAGES):
            self.add_module(f"d{index}", _ResidualStage(*stage))
        self.conv_bot = nn.Conv2d(2048, 1024, 1, bias=False)
        heads = {"tp": types, "np": 2, "hv": 2} if types else {"np": 2, "hv": 2}
        self.decoder = nn.ModuleDict({name: _branch(KERNEL[mode], channels) for name, channels in heads.items()})
        self.upsample2x = _Doubling()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return the logits of every branch (``hv``: the offsets themselves)."""
        x, skips = self.conv0(image / 255.0), []
        for index in range(len(_STAGES)):
            x = self.get_submodule(f"d{index}")(x)
            skips.append(x)
        for index, crop in enumerate(SKIP_CROPS[self.mode]):
            skips[index] = _cropped(skips[index], crop)
        bottom = self.conv_bot(skips[3])
        return {name: self._decoded(branch, bottom, skips) for name, branch in self.decoder.items()}

    def _decoded(self, branch: nn.Module, bottom: Tensor, skips: list[Tensor]) -> Tensor:
        x = bottom
        for name, skip in zip(("u3", "u2", "u1"), (skips[2], skips[1], skips[0]), strict=True):
            x = branch.get_submodule(name)(self.upsample2x(x) + skip)
        answer: Tensor = branch.get_submodule("u0")(x)
        return answer


def load_hovernet(state: Mapping[str, Tensor]) -> HoVerNet:
    """Return the network of published weights; types and mode are read from their shapes.

    Parameters
    ----------
    state
        Parameter name -> tensor; a leading ``module.`` is dropped.

    Raises
    ------
    ModelError
        If these are no weights of HoVer-Net; the first names that do not fit are told.
    """
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    kernel = plain.get("decoder.np.u3.conva.weight")
    if kernel is None or kernel.shape[-1] not in KERNEL.values():
        raise ModelError("Expected weights of HoVer-Net (decoder.np.u3.conva.weight of 3 x 3 or 5 x 5); found others.")
    mode: Mode = "original" if kernel.shape[-1] == KERNEL["original"] else "fast"
    types = plain["decoder.tp.u0.conv.weight"].shape[0] if "decoder.tp.u0.conv.weight" in plain else 0
    network = HoVerNet(types=types, mode=mode)
    missing, unexpected = network.load_state_dict(plain, strict=False)
    wrong = [*missing, *unexpected]
    if wrong:
        raise ModelError(f"{len(wrong)} names of the weights do not fit HoVer-Net: {', '.join(wrong[:5])}.")
    return network.eval()


class _SamePadding(nn.Module):
    """TensorFlow's padding: what is odd goes to the end."""

    def __init__(self, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        padding: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            rest = size % self.stride or self.stride
            total = max(self.kernel - rest, 0)
            padding += [total // 2, total - total // 2]
        return functional.pad(x, padding)


class _Doubling(nn.Module):
    """Every pixel four times; the buffer is part of published checkpoints."""

    unpool_mat: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("unpool_mat", torch.ones(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2.0, mode="nearest")


class _ResidualStage(nn.Module):
    def __init__(self, incoming: int, inside: int, outgoing: int, count: int, stride: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            _residual_unit(incoming if i == 0 else outgoing, inside, outgoing, stride if i == 0 else 1, preact=i > 0)
            for i in range(count)
        )
        self.shortcut = nn.Conv2d(incoming, outgoing, 1, stride=stride, bias=False)
        self.blk_bna = _bna(outgoing)

    def forward(self, x: Tensor) -> Tensor:
        kept = self.shortcut(x)
        for unit in self.units:
            x = unit(x) + kept
            kept = x
        answer: Tensor = self.blk_bna(x)
        return answer


def _residual_unit(incoming: int, inside: int, outgoing: int, stride: int, *, preact: bool) -> nn.Sequential:
    before = [("preact/bn", nn.BatchNorm2d(incoming)), ("preact/relu", nn.ReLU())] if preact else []
    return nn.Sequential(
        OrderedDict(
            [
                *before,
                ("conv1", nn.Conv2d(incoming, inside, 1, bias=False)),
                ("conv1/bn", nn.BatchNorm2d(inside)),
                ("conv1/relu", nn.ReLU(inplace=True)),
                ("conv2/pad", _SamePadding(3, stride)),
                ("conv2", nn.Conv2d(inside, inside, 3, stride=stride, bias=False)),
                ("conv2/bn", nn.BatchNorm2d(inside)),
                ("conv2/relu", nn.ReLU(inplace=True)),
                ("conv3", nn.Conv2d(inside, outgoing, 1, bias=False)),
            ]
        )
    )


class _DenseBlock(nn.Module):
    def __init__(self, channels: int, kernel: int, count: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(_dense_unit(channels + i * _GROWTH, kernel) for i in range(count))
        self.blk_bna = _bna(channels + count * _GROWTH)

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            grown = unit(x)
            x = torch.cat([_cropped(x, x.shape[-1] - grown.shape[-1]), grown], 1)
        answer: Tensor = self.blk_bna(x)
        return answer


def _dense_unit(channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            [
                ("preact_bna/bn", nn.BatchNorm2d(channels)),
                ("preact_bna/relu", nn.ReLU()),
                ("conv1", nn.Conv2d(channels, _NARROW, 1, bias=False)),
                ("conv1/bn", nn.BatchNorm2d(_NARROW)),
                ("conv1/relu", nn.ReLU(inplace=True)),
                ("conv2", nn.Conv2d(_NARROW, _GROWTH, kernel, groups=_GROUPS, bias=False)),
            ]
        )
    )


def _branch(kernel: int, channels: int) -> nn.Sequential:
    third = OrderedDict(
        conva=nn.Conv2d(1024, 256, kernel, bias=False),
        dense=_DenseBlock(256, kernel, 8),
        convf=nn.Conv2d(512, 512, 1, bias=False),
    )
    second = OrderedDict(
        conva=nn.Conv2d(512, 128, kernel, bias=False),
        dense=_DenseBlock(128, kernel, 4),
        convf=nn.Conv2d(256, 256, 1, bias=False),
    )
    first: OrderedDict[str, nn.Module] = OrderedDict(
        [("conva/pad", _SamePadding(kernel)), ("conva", nn.Conv2d(256, 64, kernel, bias=False))]
    )
    last = OrderedDict(bn=nn.BatchNorm2d(64), relu=nn.ReLU(inplace=True), conv=nn.Conv2d(64, channels, 1))
    stages = {"u3": third, "u2": second, "u1": first, "u0": last}
    return nn.Sequential(OrderedDict((name, nn.Sequential(parts)) for name, parts in stages.items()))


def _bna(channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), relu=nn.ReLU(inplace=True)))


def _cropped(x: Tensor, total: int) -> Tensor:
    """Return a square tensor with ``total`` pixels per axis cut off, the odd one at the end."""
    before = total // 2
    return x[..., before : x.shape[-2] - (total - before), before : x.shape[-1] - (total - before)]
