"""A multi-label NIfTI file that carries its own table of labels: name and colour of every value.

The table stands in an extension of the NIfTI header, as the XML of Caret's label tables that
TotalSegmentator also writes; programs that do not know it skip it.
"""

from __future__ import annotations

import gzip
import html
import re
import struct
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import imagecodecs
import numpy as np

from delineate.case import Image, LabelMap
from delineate.execution.atomic import write_bytes
from delineate.formats.images import LARGEST_UINT8_LABEL, write_image
from delineate.formats.nifti import GZIP_LEVEL, HEADER_BYTES

EXTENSION_CODE = 0
"""``NIFTI_ECODE_IGNORE``: the code under which TotalSegmentator stores its table; readers look at the content."""
ALIGNMENT = 16
"""Extensions and the voxels after them begin at multiples of this (nifti1.h)."""
VOX_OFFSET = 108
"""Byte of the header that holds where the voxels begin."""

MOST_TABLE_BYTES = 1 << 20
"""A table is looked for in so many bytes; 117 structures take some 12 thousand."""
_LABEL = re.compile(r'<Label\b[^>]*\bKey="(\d+)"[^>]*>(?:<!\[CDATA\[(.*?)\]\]>|([^<]*))</Label>')

Colour = tuple[int, int, int]


def write_labels_with_table(path: Path, labels: LabelMap, table: Mapping[int, tuple[str, Colour]]) -> None:
    """Write a label map as ``.nii.gz`` with its table of labels; atomically.

    Parameters
    ----------
    path
        A name that ends in ``.nii.gz``.
    labels
        (z, y, x).
    table
        Value -> name and colour.

    Raises
    ------
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    dtype = np.uint8 if int(labels.array.max()) <= LARGEST_UINT8_LABEL else np.uint16
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "labels.nii"
        write_image(plain, Image(array=labels.array[None].astype(dtype), grid=labels.grid))
        content = plain.read_bytes()
    write_bytes(path, bytes(imagecodecs.gzip_encode(_with_extension(content, table_xml(table)), level=GZIP_LEVEL)))


def read_label_table(path: Path) -> dict[int, str]:
    """Return value -> name of the table in the header of a NIfTI file, as Delineate and TotalSegmentator write it.

    Empty if the file has none, is no NIfTI file, or cannot be read; that is told by whoever reads its voxels.
    """
    opener = gzip.open if path.name.endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            head = stream.read(MOST_TABLE_BYTES)
    except (OSError, EOFError, zlib.error):
        return {}
    if len(head) < HEADER_BYTES + 4 or head[HEADER_BYTES] == 0:
        return {}
    end = int(struct.unpack_from("<f", head, VOX_OFFSET)[0]) if head[:4] == HEADER_BYTES.to_bytes(4, "little") else 0
    text = head[HEADER_BYTES + 4 : min(end, len(head))].decode("utf-8", errors="ignore")
    return {int(key): html.unescape(data or plain).strip() for key, data, plain in _LABEL.findall(text)}


def table_xml(table: Mapping[int, tuple[str, Colour]]) -> str:
    """Return the table of labels as Caret's XML."""
    rows = "".join(
        f'<Label Key="{value}" Red="{red / 255:.6f}" Green="{green / 255:.6f}" Blue="{blue / 255:.6f}" Alpha="1">'
        f"<![CDATA[{name}]]></Label>\n"
        for value, (name, (red, green, blue)) in table.items()
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0"><LabelTable>\n'
        f"{rows}</LabelTable><VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>\n"
    )


def _with_extension(content: bytes, text: str) -> bytes:
    """Return a little-endian single-file NIfTI-1 with one extension between header and voxels."""
    header, voxels = bytearray(content[:HEADER_BYTES]), content[int(struct.unpack_from("<f", content, VOX_OFFSET)[0]) :]
    body = text.encode()
    size = -(-(len(body) + 8) // ALIGNMENT) * ALIGNMENT
    extension = struct.pack("<ii", size, EXTENSION_CODE) + body.ljust(size - 8, b"\0")
    start = HEADER_BYTES + 4 + size
    struct.pack_into("<f", header, VOX_OFFSET, float(start))
    return bytes(header) + b"\x01\0\0\0" + extension + voxels
