"""Label maps of a cascade's previous stage beside the prepared cases of the next one.

One ``{id}.b2nd`` per case, (z, y, x) uint8 or uint16, compressed in blocks of the next stage's patch: nnU-Net's
``predicted_next_stage`` folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from numpy.typing import NDArray

from delineate.execution.atomic import write_bytes
from delineate.formats.blosc_frames import compressed_frame
from delineate.formats.prepared_store import StoredArray, block_shapes


def stage_file(folder: Path, case_id: str) -> Path:
    """Return where the label map of a case stands."""
    return folder / f"{case_id}.b2nd"


def write_stage_labels(folder: Path, case_id: str, labels: NDArray[Any], patch_size: tuple[int, ...]) -> None:
    """Write the label map (z, y, x) of a case, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    blocks, chunks = block_shapes((1, *labels.shape), patch_size, labels.itemsize)
    array = np.ascontiguousarray(labels)
    frame = compressed_frame(array, chunks[1:], blocks[1:], byte_filter=blosc2.Filter.SHUFFLE)
    write_bytes(stage_file(folder, case_id), frame)


def open_stage_labels(folder: Path, case_id: str) -> StoredArray:
    """Open the label map of a case for reading patches.

    Raises
    ------
    ImageReadError
        If it is missing or damaged.
    """
    return StoredArray(stage_file(folder, case_id))
