"""Cubic resampling against ``skimage.transform.resize``, as nnU-Net calls it, on one core each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from skimage.transform import resize

from delineate.geometry.resample import resample

SHAPES = [((96, 128, 128), (120, 192, 180)), ((120, 256, 256), (180, 200, 200))]


def measure(repeats: int = 5) -> list[dict[str, Any]]:
    """Return one row per pair of shapes; the difference is the largest one, relative to the range of the input."""
    rows = []
    for shape, target in SHAPES:
        volume = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        peer, expected = _fastest(
            lambda v=volume, t=target: resize(v.astype(np.float64), t, 3, mode="edge", anti_aliasing=False), 2
        )
        ours, found = _fastest(lambda v=volume, t=target: resample(v[None], t, 3)[0], repeats)
        rows.append(
            {
                "operation": f"cubic resampling {_text(shape)} to {_text(target)}",
                "peer": "skimage",
                "peer_seconds": peer,
                "ours_seconds": ours,
                "ratio": peer / ours,
                "max_difference": float(np.abs(found - expected).max() / np.ptp(volume)),
            }
        )
    return rows


def _fastest(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - start)
    return best, result


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)


def main() -> None:
    for row in measure():
        print(
            f"{row['operation']}: {row['peer']} {row['peer_seconds']:.3f} s, ours {row['ours_seconds']:.4f} s, "
            f"{row['ratio']:.1f} times faster, largest difference {row['max_difference']:.1e} of the range"
        )


if __name__ == "__main__":
    main()
