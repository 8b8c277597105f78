"""Compiled CPU kernels: instance normalisation fused with the leaky ReLU, forward and backward, and weighted sums.

Arrays are channels-last views ``(batch, voxel, channel)`` of float32, or of uint16 that holds the bits of bfloat16;
all arithmetic is float32. The unfused operations read and write every activation about ten times per training step;
these kernels read it twice and write it once in each direction, which is what a step of a U-Net on a CPU waits for
(measured in ``benchmarks/bench_step.py``). Sums are taken over fixed blocks of voxels and added in a fixed order, so
the result does not depend on the number of threads.

Knows nothing of torch; needs numba.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import overload
from numpy.typing import NDArray

BLOCK_VOXELS = 1024
"""Voxels per partial sum: short enough for float32 accumulation, long enough to amortise the reduction."""


def _load(value: Any) -> float:
    """Return the float32 that ``value`` (float32, or bfloat16 bits as uint16) stands for."""
    raise NotImplementedError


def _pack(value: float, like: Any) -> Any:
    """Return ``value`` as an element of the kind of ``like``: itself, or bfloat16 bits rounded to nearest even."""
    raise NotImplementedError


@overload(_load, inline="always")
def _load_overload(value: Any) -> Callable[..., Any]:
    if value == types.uint16:

        def load_bfloat16(value: Any) -> Any:
            return np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)

        return load_bfloat16

    def load_float32(value: Any) -> Any:
        return value

    return load_float32


@overload(_pack, inline="always")
def _pack_overload(value: Any, like: Any) -> Callable[..., Any]:
    if like == types.uint16:

        def pack_bfloat16(value: Any, like: Any) -> Any:
            bits = np.float32(value).view(np.uint32)
            return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

        return pack_bfloat16

    def pack_float32(value: Any, like: Any) -> Any:
        return np.float32(value)

    return pack_float32


@njit(parallel=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, cache=True, nogil=True)
def moments(x: NDArray[Any], eps: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and 1 / sqrt(variance + eps), each ``(batch, channel)`` float32, over the voxels of ``x``."""
    batch, voxels, channels = x.shape
    blocks = (voxels + BLOCK_VOXELS - 1) // BLOCK_VOXELS
    partial = np.empty((batch * blocks, 2, channels), np.float32)
    for t in prange(batch * blocks):
        b = t // blocks
        lo = (t % blocks) * BLOCK_VOXELS
        hi = min(voxels, lo + BLOCK_VOXELS)
        origin = np.empty(channels, np.float32)
        for c in range(channels):
            origin[c] = _load(x[b, 0, c])
        first = np.zeros(channels, np.float32)
        second = np.zeros(channels, np.float32)
        for i in range(lo, hi):
            for c in range(channels):
                # shifted by the first voxel: no cancellation when the mean is far from zero
                v = _load(x[b, i, c]) - origin[c]
                first[c] += v
                second[c] += v * v
        partial[t, 0, :] = first
        partial[t, 1, :] = second
    mean = np.empty((batch, channels), np.float32)
    rstd = np.empty((batch, channels), np.float32)
    for b in range(batch):
        for c in range(channels):
            total = 0.0
            squares = 0.0
            for k in range(blocks):
                total += partial[b * blocks + k, 0, c]
                squares += partial[b * blocks + k, 1, c]
            shifted = total / voxels
            variance = max(squares / voxels - shifted * shifted, 0.0)
            mean[b, c] = shifted + _load(x[b, 0, c])
            rstd[b, c] = 1.0 / np.sqrt(variance + eps)
    return mean, rstd


@njit(parallel=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, cache=True, nogil=True)
def normalize_activate(
    x: NDArray[Any],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    slope: np.float32,
    y: NDArray[Any],
) -> None:
    """Write leaky_relu(x * scale + shift) into ``y`` (may be ``x``); scale and shift are ``(batch, channel)``."""
    batch, voxels, channels = x.shape
    blocks = (voxels + BLOCK_VOXELS - 1) // BLOCK_VOXELS
    for t in prange(batch * blocks):
        b = t // blocks
        lo = (t % blocks) * BLOCK_VOXELS
        hi = min(voxels, lo + BLOCK_VOXELS)
        for i in range(lo, hi):
            for c in range(channels):
                element = x[b, i, c]
                v = _load(element) * scale[b, c] + shift[b, c]
                y[b, i, c] = _pack(v if v > 0 else v * slope, element)


@njit(parallel=True, fastmath={"contract", "nsz"}, cache=True, nogil=True)
def add_weighted(
    x: NDArray[Any], along_z: NDArray[np.float32], in_plane: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """Add ``x * along_z * in_plane`` to ``sums``; arrays ``(z, y, x, channel)``, weights ``(z,)`` and ``(y, x)``."""
    planes, rows, columns, channels = x.shape
    for t in prange(planes * rows):
        z = t // rows
        r = t % rows
        for i in range(columns):
            weight = along_z[z] * in_plane[r, i]
            for c in range(channels):
                sums[z, r, i, c] += weight * _load(x[z, r, i, c])


@njit(parallel=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, cache=True, nogil=True)
def backward(  # noqa: C901 - plain nested loops over batch, voxels and channels, three times
    grad: NDArray[Any],
    x: NDArray[Any],
    mean: NDArray[np.float32],
    rstd: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    slope: np.float32,
    grad_x: NDArray[Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Write the gradient by ``x`` into ``grad_x`` and return those by weight and bias, each ``(channel,)``."""
    batch, voxels, channels = x.shape
    blocks = (voxels + BLOCK_VOXELS - 1) // BLOCK_VOXELS
    scale = np.empty((batch, channels), np.float32)
    shift = np.empty((batch, channels), np.float32)
    for b in range(batch):
        for c in range(channels):
            scale[b, c] = rstd[b, c] * weight[c]
            shift[b, c] = bias[c] - mean[b, c] * scale[b, c]
    partial = np.empty((batch * blocks, 2, channels), np.float32)
    for t in prange(batch * blocks):
        b = t // blocks
        lo = (t % blocks) * BLOCK_VOXELS
        hi = min(voxels, lo + BLOCK_VOXELS)
        plain = np.zeros(channels, np.float32)
        weighted = np.zeros(channels, np.float32)
        for i in range(lo, hi):
            for c in range(channels):
                v = _load(x[b, i, c])
                g = _load(grad[b, i, c])
                g = g if v * scale[b, c] + shift[b, c] > 0 else g * slope
                plain[c] += g
                weighted[c] += g * ((v - mean[b, c]) * rstd[b, c])
        partial[t, 0, :] = plain
        partial[t, 1, :] = weighted
    grad_weight = np.zeros(channels, np.float32)
    grad_bias = np.zeros(channels, np.float32)
    by_x = np.empty((batch, channels), np.float32)
    constant = np.empty((batch, channels), np.float32)
    for b in range(batch):
        for c in range(channels):
            total = 0.0
            product = 0.0
            for k in range(blocks):
                total += partial[b * blocks + k, 0, c]
                product += partial[b * blocks + k, 1, c]
            grad_bias[c] += total
            grad_weight[c] += product
            # d/dx = scale * (g - mean(g) - x_hat * mean(g * x_hat))
            by_x[b, c] = -scale[b, c] * rstd[b, c] * product / voxels
            constant[b, c] = -scale[b, c] * total / voxels - by_x[b, c] * mean[b, c]
    for t in prange(batch * blocks):
        b = t // blocks
        lo = (t % blocks) * BLOCK_VOXELS
        hi = min(voxels, lo + BLOCK_VOXELS)
        for i in range(lo, hi):
            for c in range(channels):
                element = x[b, i, c]
                v = _load(element)
                g = _load(grad[b, i, c])
                g = g if v * scale[b, c] + shift[b, c] > 0 else g * slope
                grad_x[b, i, c] = _pack(scale[b, c] * g + by_x[b, c] * v + constant[b, c], element)
    return grad_weight, grad_bias
