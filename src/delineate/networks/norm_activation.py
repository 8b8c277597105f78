"""Instance normalisation and leaky ReLU as one operation.

On a CPU this pair costs more time than the convolutions around it when it runs as two library calls. With numba
installed (extra ``fast``) it runs as one fused kernel on channels-last memory, float32 or bfloat16; elsewhere (GPU,
float64, no numba) it is exactly ``leaky_relu(instance_norm(x))``.

Letters: B batch, C channel, spatial axes ``*p``.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HAVE_KERNELS = importlib.util.find_spec("numba") is not None
"""Whether the fused CPU kernels can be used."""

_MEMORY_FORMAT = {4: torch.channels_last, 5: torch.channels_last_3d}


def instance_norm_leaky_relu(x: Tensor, weight: Tensor, bias: Tensor, eps: float, negative_slope: float) -> Tensor:
    """Normalise each channel of each sample over its voxels, scale, shift, and apply the leaky ReLU.

    Parameters
    ----------
    x
        (B, C, *p); overwritten when no gradient is needed.
    weight, bias
        (C,) affine parameters.
    eps
        Added to the variance.
    negative_slope
        Slope below zero; 1.0 means no activation.

    Returns
    -------
    Tensor
        (B, C, *p), dtype of ``x``, in channels-last memory when the fused kernel ran.
    """
    if not _fusable(x):
        y = F.instance_norm(x, weight=weight.to(x.dtype), bias=bias.to(x.dtype), eps=eps)
        return y if negative_slope == 1.0 else F.leaky_relu(y, negative_slope, inplace=True)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        result: Tensor = _Fused.apply(x, weight, bias, eps, negative_slope)  # type: ignore[no-untyped-call]
        return result
    x = _channels_last(x)
    _forward(x, weight, bias, eps, negative_slope, out=x)
    return x


def _fusable(x: Tensor) -> bool:
    # what is written down for another runtime are operations of torch
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return False
    return HAVE_KERNELS and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.dim() in (4, 5)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float) -> Tensor:
        x = _channels_last(x)
        y = torch.empty_like(x)
        ctx.statistics = _forward(x, weight, bias, eps, slope, out=y)
        ctx.save_for_backward(x, weight, bias)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        from delineate.networks import cpu_kernels

        x, weight, bias = ctx.saved_tensors
        mean, rstd = ctx.statistics
        grad = _channels_last(grads[0])
        grad_x = torch.empty_like(x)
        grad_weight, grad_bias = cpu_kernels.backward(
            _rows(grad),
            _rows(x),
            mean,
            rstd,
            _vector(weight),
            _vector(bias),
            np.float32(ctx.slope),
            _rows(grad_x),
        )
        return grad_x, torch.from_numpy(grad_weight), torch.from_numpy(grad_bias), None, None


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float, slope: float, *, out: Tensor) -> tuple[Any, Any]:
    from delineate.networks import cpu_kernels

    rows = _rows(x)
    mean, rstd = cpu_kernels.moments(rows, eps)
    scale = rstd * _vector(weight)
    cpu_kernels.normalize_activate(rows, scale, _vector(bias) - mean * scale, np.float32(slope), _rows(out))
    return mean, rstd


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_MEMORY_FORMAT[x.dim()])


def _rows(x: Tensor) -> Any:
    """View channels-last memory as (B, voxel, C); bfloat16 as its uint16 bits, which numpy can hold."""
    view = x.detach().movedim(1, -1).flatten(1, -2)
    return (view.view(torch.uint16) if x.dtype == torch.bfloat16 else view).numpy()


def _vector(parameter: Tensor) -> Any:
    return parameter.detach().float().numpy()
