"""The record of a prepared case: one line of JSON, then the sampled voxels as flat indices.

One file instead of two, because for small cases making files costs more than computing them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError

FORMAT_VERSION = 2
LONGEST_LINE = 16 * 1024**2
"""Bytes; a record's first line has a few kilobytes."""


def write_record(
    path: Path, facts: Mapping[str, Any], locations: Mapping[int, NDArray[np.integer[Any]]], shape: tuple[int, ...]
) -> None:
    """Write the record of a case.

    Parameters
    ----------
    path
        The file.
    facts
        Plain JSON values.
    locations
        Key -> (n, 3) indices (z, y, x).
    shape
        (z, y, x) of the prepared array.
    """
    parts = [np.ravel_multi_index(tuple(voxels.T), shape) for voxels in locations.values()]
    flat = np.concatenate([*parts, np.empty(0, np.intp)]).astype(_kind(shape))
    samples = {"keys": list(locations), "counts": [part.size for part in parts], "bytes": flat.nbytes}
    line = json.dumps({"version": FORMAT_VERSION, **facts, "samples": samples}).encode()
    path.write_bytes(line + b"\n" + flat.tobytes())


def read_facts(path: Path) -> dict[str, Any] | None:
    """Return the facts of a record, or None if there is no complete record of this version."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(LONGEST_LINE)
        facts = json.loads(line)
    except (FileNotFoundError, ValueError):
        return None
    ours = isinstance(facts, dict) and facts.get("version") == FORMAT_VERSION and {"files", "samples"} <= set(facts)
    return facts if ours and path.stat().st_size == len(line) + facts["samples"]["bytes"] else None


def read_locations(path: Path, shape: tuple[int, ...]) -> dict[int, NDArray[np.int32]]:
    """Return the sampled voxels: key -> (n, 3) int32 indices (z, y, x).

    Raises
    ------
    ImageReadError
        If the record is missing, cut short, or of another version.
    """
    facts = read_facts(path)
    if facts is None:
        raise damaged(path)
    keys, counts = facts["samples"]["keys"], facts["samples"]["counts"]
    flat = np.frombuffer(path.read_bytes().partition(b"\n")[2], _kind(shape)).astype(np.int64)
    indices = np.stack(np.unravel_index(flat, shape), axis=1).astype(np.int32)
    parts = np.split(indices, np.cumsum(counts)[:-1]) if keys else []
    return dict(zip(keys, parts, strict=True))


def damaged(path: Path) -> ImageReadError:
    """Return the error that a file of a prepared case is not what it should be."""
    state = "is damaged or incomplete" if path.exists() else "is missing"
    return ImageReadError(f"The prepared file {path} {state}. Delete the case's files there and prepare it again.")


def _kind(shape: tuple[int, ...]) -> np.dtype[Any]:
    return np.dtype("<u4" if math.prod(shape) <= np.iinfo(np.uint32).max else "<u8")
