"""The frames of a segmentation as they are stored; bits stay packed until a frame is asked for.

A hundred organs with a frame on every plane of a long scan fill gigabytes as bytes and an eighth of that as bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from delineate.errors import ImageReadError
from delineate.formats.dicom.pixels import stored_frames, unreadable
from delineate.formats.dicom.planes import Plane


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedFrames:
    """Frames of one bit per voxel."""

    packed: NDArray[np.uint8]
    """Eight voxels a byte, the first in the lowest bit (PS3.5 8.2)."""
    count: int
    rows: int
    columns: int
    distance: int
    """Bits from the beginning of a frame to that of the next."""

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Return one frame (row, column), 0 or 1."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        size = self.rows * self.columns
        byte, bit = divmod(number * self.distance, 8)
        window = self.packed[byte : byte + (bit + size + 7) // 8]
        bits = np.unpackbits(window, count=bit + size, bitorder="little")
        return bits[bit:].reshape(self.rows, self.columns)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield every frame."""
        return (self[number] for number in range(self.count))


Frames = NDArray[Any] | PackedFrames
"""(frame, row, column) as stored."""


def frames_of(path: Path, dataset: Dataset, plane: Plane) -> Frames:
    """Return the frames of a segmentation.

    Raises
    ------
    ImageReadError
        If they cannot be decoded, or are not all there.
    """
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    if int(dataset.BitsAllocated) > 1 or compressed:
        strange = [words for code, words in unreadable(plane) if code == "UNKNOWN_COMPRESSION"]
        if strange:
            raise ImageReadError(f"{path}: {strange[0]}. Export it uncompressed.")
        try:
            return stored_frames(plane)
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise ImageReadError(
                f"{path}: its frames cannot be decoded ({type(error).__name__}). Copy or export it again."
            ) from error
    count, size = int(dataset.get("NumberOfFrames", 1)), plane.rows * plane.columns
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    padded = -(-size // 8)
    for distance, needed in ((size, -(-count * size // 8)), (8 * padded, count * padded)):
        if len(packed) - needed in (0, 1):  # early writers began every frame at a new byte
            return PackedFrames(packed=packed, count=count, rows=plane.rows, columns=plane.columns, distance=distance)
    raise ImageReadError(
        f"{path}: {count} frames of {plane.rows} x {plane.columns} bits need {-(-count * size // 8)} bytes; found "
        f"{len(packed)}. Copy it again."
    )
