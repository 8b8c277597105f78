"""Small architectures that the tests of this room share; each is a different shape of trouble."""

from __future__ import annotations

from delineate.planning.plan import Architecture, NetworkKind


def isotropic(kind: NetworkKind = "plain_unet", *, features: tuple[int, ...] = (4, 6, 8)) -> Architecture:
    """Three-dimensional, all kernels 3, all strides 2."""
    n = len(features)
    return Architecture(
        kind=kind,
        dims=3,
        features=features,
        kernel_sizes=((3, 3, 3),) * n,
        strides=((1, 1, 1), *((2, 2, 2),) * (n - 1)),
        encoder_blocks=(2,) * n,
        decoder_convs=(2,) * (n - 1),
    )


def anisotropic(kind: NetworkKind = "plain_unet") -> Architecture:
    """Thick slices: flat kernels and strides first, uneven depths; one stage keeps its width."""
    return Architecture(
        kind=kind,
        dims=3,
        features=(4, 6, 6, 8),
        kernel_sizes=((1, 3, 3), (1, 3, 3), (3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 3, 2)),
        encoder_blocks=(1, 2, 3, 1),
        decoder_convs=(1, 2, 1),
    )


def planar(kind: NetworkKind = "plain_unet") -> Architecture:
    """Two-dimensional, one large kernel."""
    return Architecture(
        kind=kind,
        dims=2,
        features=(4, 6, 8),
        kernel_sizes=((5, 3), (3, 3), (3, 3)),
        strides=((1, 1), (2, 2), (1, 2)),
        encoder_blocks=(2, 1, 2),
        decoder_convs=(2, 1),
    )


def patch_of(architecture: Architecture) -> tuple[int, ...]:
    """Return the smallest patch with two voxels per axis in the bottleneck."""
    return tuple(2 * step for step in architecture.divisor)
