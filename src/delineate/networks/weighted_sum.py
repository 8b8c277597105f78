"""Adding a weighed tile to running sums as one operation.

With numba installed (extra ``fast``) bfloat16 and float32 tiles on the CPU are read once and added in float32;
elsewhere it is ``sums.addcmul_`` plane by plane, which needs a float32 copy of a plane.
"""

from __future__ import annotations

import torch
from torch import Tensor

from delineate.networks.norm_activation import HAVE_KERNELS


def add_weighted(sums: Tensor, tile: Tensor, along_z: Tensor, in_plane: Tensor) -> None:
    """Add ``tile * along_z * in_plane`` to ``sums``, in place.

    Parameters
    ----------
    sums
        ``(z, y, x, channel)`` float32.
    tile
        ``(channel, z, y, x)`` of any floating-point format; quickest where it lies channels last in memory.
    along_z, in_plane
        ``(z,)`` and ``(y, x)`` float32, on the CPU.
    """
    rows = tile.detach().movedim(0, -1)
    if HAVE_KERNELS and sums.device.type == tile.device.type == "cpu" and tile.dtype in (torch.float32, torch.bfloat16):
        from delineate.networks import cpu_kernels

        rows = rows if rows.stride(-1) == 1 else rows.contiguous()
        source = rows.view(torch.uint16) if tile.dtype == torch.bfloat16 else rows
        cpu_kernels.add_weighted(source.numpy(), along_z.numpy(), in_plane.numpy(), sums.numpy())
        return
    weight = in_plane.to(sums.device)[..., None]
    for plane, target, share in zip(rows, sums, along_z.tolist(), strict=True):
        target.addcmul_(plane.to(sums), weight, value=share)
