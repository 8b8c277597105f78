"""Restoring 118 classes to 512x512x400 against resampling every channel as nnU-Net does.

The peer's time is that of a few channels (skimage, double precision, stored as float16), multiplied by the number of
channels; its argmax is not even counted. Ours runs in a process of its own, whose peak memory is measured. Two inputs:
organ-like fields, on which most tiles have few candidates, and white noise, on which no class can be left out.

A third row restores 512x512x800 from slabs of logits that are made while they are consumed, as prediction makes them;
``python bench_restore.py --stream`` runs it alone, ``--stream --small`` an eighth of it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from delineate.case import LabelScheme
from delineate.case.prepared import Trace
from delineate.geometry.grid import Grid
from delineate.geometry.resample import axis_operator
from delineate.preprocessing import restore_labels, restore_stream
from peak_memory import peak_kilobytes

HEADS = 118
SMALL, FULL = (133, 170, 170), (400, 512, 512)
CHECKED_SLICES = 4
STREAMED = {
    False: {"prepared": (400, 256, 256), "full": (800, 512, 512)},
    True: {"prepared": (200, 128, 128), "full": (400, 256, 256)},
}
FEATURES, SLAB_PLANES = 32, 2


def measure(
    heads: int = HEADS, peer_channels: int = 2, kinds: tuple[str, ...] = ("organs", "noise")
) -> list[dict[str, Any]]:
    """Return one row per kind of input; the difference is the share of voxels unlike the double-precision argmax."""
    rows = []
    peer = _peer_seconds(peer_channels) * heads
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / f"{kind}.npy"
            _write_logits(path, kind, heads)
            command = [sys.executable, __file__, "--child", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            answer = json.loads(done.stdout)
            rows.append(
                {
                    "operation": f"restoring {heads} classes to 512x512x400 ({kind})",
                    "peer": f"skimage per channel, extrapolated from {peer_channels}",
                    "peer_seconds": peer,
                    "ours_seconds": answer["seconds"],
                    "ratio": peer / answer["seconds"],
                    "max_difference": answer["differing"],
                    "peak_gigabytes": answer["peak_gigabytes"],
                    "note": f"peak {answer['peak_gigabytes']:.2f} GB, the logits included",
                }
            )
            path.unlink()
    return [*rows, stream_row(heads)]


def stream_row(heads: int = HEADS, *, small: bool = False) -> dict[str, Any]:
    """Return the row of restoring from slabs; it has no peer, whose logits alone would need 49.5 GB as float16."""
    command = [sys.executable, __file__, "--stream", "--child", "slabs", *(["--small"] if small else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    z, y, x = STREAMED[small]["full"]
    return {
        "operation": f"restoring {heads} classes to {x}x{y}x{z} from slabs",
        "peer": "none",
        "ours_seconds": answer["seconds"],
        "peak_gigabytes": answer["peak_gigabytes"],
        "note": f"peak {answer['peak_gigabytes']:.2f} GB; making the slabs is part of the time",
    }


def _stream_child(small: bool) -> None:
    """Restore from slabs; print seconds and the peak memory of this process."""
    prepared, full = STREAMED[small]["prepared"], STREAMED[small]["full"]
    scheme = LabelScheme.simple(*(f"structure {number}" for number in range(1, HEADS)))
    start = time.perf_counter()
    restore_stream(_slabs(prepared), _trace(prepared, full), scheme)
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_gigabytes": peak_kilobytes() * 1024 / 1e9}))


def _slabs(prepared: tuple[int, ...]) -> Iterator[NDArray[np.float32]]:
    """Make logits of some planes at a time: noise features through a random last layer."""
    rng = np.random.default_rng(0)
    head = rng.standard_normal((HEADS, FEATURES), dtype=np.float32)
    for _ in range(0, prepared[0], SLAB_PLANES):
        features = rng.standard_normal((FEATURES, SLAB_PLANES * prepared[1] * prepared[2]), dtype=np.float32)
        yield (head @ features).reshape(HEADS, SLAB_PLANES, *prepared[1:])


def _peer_seconds(channels: int) -> float:
    rng = np.random.default_rng(0)
    volumes = [rng.standard_normal(SMALL) for _ in range(channels)]
    start = time.perf_counter()
    for volume in volumes:
        resize(volume, FULL, 1, mode="edge", anti_aliasing=False).astype(np.float16)
    return (time.perf_counter() - start) / channels


def _write_logits(path: Path, kind: str, heads: int) -> None:
    rng = np.random.default_rng(0)
    logits = np.lib.format.open_memmap(path, "w+", np.float16, (heads, *SMALL))
    for head in range(heads):
        noise = rng.standard_normal(SMALL, dtype=np.float32)
        logits[head] = noise if kind == "noise" else _organ(rng, head) + 0.5 * noise
    logits.flush()


def _organ(rng: np.random.Generator, head: int) -> NDArray[np.float32]:
    """Return logits that are high inside an ellipsoid and fall off outside, as trained networks give them."""
    if head == 0:
        return np.full(SMALL, 4, np.float32)
    distance = np.zeros(SMALL, np.float32)
    for axis, size in enumerate(SMALL):
        line = (np.arange(size) - rng.uniform(0.1, 0.9) * size) / rng.uniform(5, 20)
        distance += (line**2).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return np.clip(14 - 10 * np.sqrt(distance), -10, 14)


def _child(path: Path) -> None:
    """Restore one file; print seconds, the share of differing voxels and the peak memory of this process."""
    logits = np.load(path, mmap_mode="r")
    trace = _trace(SMALL, FULL)
    scheme = LabelScheme.simple(*(f"structure {number}" for number in range(1, len(logits))))
    start = time.perf_counter()
    found = restore_labels(logits, trace, scheme).array
    seconds = time.perf_counter() - start
    answer = {
        "seconds": seconds,
        "peak_gigabytes": peak_kilobytes() * 1024 / 1e9,
        "differing": _differing(found, logits),
    }
    print(json.dumps(answer))


def _trace(small: tuple[int, ...], full: tuple[int, ...]) -> Trace:
    return Trace(
        grid=Grid.regular(full),
        transpose=(0, 1, 2),
        spacing_mm=(1.0,) * 3,
        prepared_spacing_mm=tuple(wide / narrow for narrow, wide in zip(small, full, strict=True)),
        shape=full,
        box=tuple((0, size) for size in full),
        prepared_shape=small,
    )


def _differing(found: NDArray[Any], logits: NDArray[Any]) -> float:
    """Compare a few slices with the argmax of dense double-precision interpolation."""
    z, y, x = (axis_operator(small, large, 1) for small, large in zip(SMALL, FULL, strict=True))
    unlike = 0
    slices = np.linspace(0, FULL[0] - 1, CHECKED_SLICES).astype(int)
    for index in slices:
        used = np.flatnonzero(z[index])
        coarse = np.tensordot(z[index, used], logits[:, used].astype(np.float64), axes=(0, 1))
        best, label = np.full(FULL[1:], -math.inf), np.zeros(FULL[1:], int)
        for head, plane in enumerate(coarse):
            value = y @ plane @ x.T
            label[value > best] = head
            best = np.maximum(best, value)
        unlike += int((label != found[index]).sum())
    return unlike / (CHECKED_SLICES * FULL[1] * FULL[2])


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stream", action="store_true", help="only the row of slabs")
    parser.add_argument("--small", action="store_true", help="with --stream: an eighth of the voxels")
    options = parser.parse_args()
    if options.child is not None:
        _stream_child(options.small) if options.stream else _child(options.child)
        return
    for row in [stream_row(small=options.small)] if options.stream else measure():
        if "ratio" in row:
            print(
                f"{row['operation']}: {row['peer']} {row['peer_seconds']:.0f} s, {row['ratio']:.0f} times faster, "
                f"{row['max_difference']:.1e} of the voxels differ"
            )
        print(f"{row['operation']}: ours {row['ours_seconds']:.1f} s, {row['note']}")


if __name__ == "__main__":
    main()
