"""NIfTI files: the header's geometry as SimpleITK sees it, the voxels read here.

ITK reads a truncated or damaged NIfTI file without a word and fills the rest with whatever was in memory, and it
writes half a file to a full disk without a word. So the voxels are read here, where length and checksum are looked at;
the geometry stays ITK's, because that is what nnU-Net and most viewers see. Asking ITK takes longer than everything
else about a small file, so it is asked only where a header leaves room for interpretation
(:func:`plain_geometry`). Knows no labels and no datasets.
"""

from __future__ import annotations

import errno
import gzip
import math
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError
from delineate.formats.header_geometry import Geometry
from delineate.formats.orthonormal import nearest_orthonormal

HEADER_BYTES = 348
"""Size of a NIfTI-1 header (nifti1.h)."""
GZIP_LEVEL = 4
"""Within 1 % of the size of zlib's level 6 on CT, in half the time (measured)."""
LARGEST_DEFLATE_RATIO = 1100
"""Deflate cannot pack more than 1032 bytes into one; a larger promised size means a damaged trailer."""

GEOMETRY_FIELDS = (slice(0, 4), slice(40, 70), slice(74, 108), slice(120, 124), slice(252, 328), slice(344, 348))
"""Bytes of a header that decide the geometry (nifti1.h): size, dim, intent, pixdim, units, qform, sform, magic."""
MOST_GEOMETRIES = 64
"""How many geometries are remembered."""

_GEOMETRIES: dict[bytes, Geometry] = {}

_QUATERNION_SIGNS: dict[tuple[float, ...], tuple[int, int, int]] = {
    (0.0, 0.0, 0.0): (1, 1, 1),
    (1.0, 0.0, 0.0): (1, -1, -1),
    (0.0, 1.0, 0.0): (-1, 1, -1),
    (0.0, 0.0, 1.0): (-1, -1, 1),
}
"""Quaternions (b, c, d) of nifti1.h that turn no axis into another: the signs of the axes."""
_MILLIMETRES = (0, 2)
"""Codes of spatial units that ITK takes as millimetres: unknown, and mm."""

_DTYPES: dict[int, tuple[str, int]] = {
    2: ("u1", 1),
    4: ("i2", 1),
    8: ("i4", 1),
    16: ("f4", 1),
    64: ("f8", 1),
    128: ("u1", 3),
    256: ("i1", 1),
    512: ("u2", 1),
    768: ("u4", 1),
    1024: ("i8", 1),
    1280: ("u8", 1),
    2304: ("u1", 4),
}
"""Data type code of nifti1.h: numpy type and interleaved components per voxel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NiftiHeader:
    """What is needed of a NIfTI-1 header to read its voxels; see nifti1.h for the fields."""

    order: str
    """``<`` or ``>``."""
    dim: tuple[int, ...]
    """Number of voxels per axis, fastest (x) first."""
    datatype: int
    vox_offset: int
    slope: float
    intercept: float

    @property
    def interleaved(self) -> int:
        """Colour components that lie together per voxel."""
        return _DTYPES[self.datatype][1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one stored number."""
        return np.dtype(self.order + _DTYPES[self.datatype][0])

    @property
    def plain_values(self) -> bool:
        """Whether the stored numbers are the values: one per voxel, slope 1 or none, intercept 0."""
        return self.interleaved == 1 and self.slope in (0.0, 1.0) and self.intercept == 0.0

    @property
    def data_bytes(self) -> int:
        """How many bytes of voxels the header promises."""
        count = self.interleaved * self.dtype.itemsize
        for size in self.dim:
            count *= size
        return count

    @property
    def file_bytes(self) -> int:
        """How long the uncompressed file must be."""
        return self.vox_offset + self.data_bytes


def read_nifti(path: Path) -> tuple[NDArray[Any], Geometry]:
    """Read a NIfTI file.

    Returns
    -------
    array
        ``(channel, z, y, x)`` or ``(channel, y, x)``; rescale slope and intercept applied; writable.
    geometry
        Size, spacing, origin and direction as ITK sees them.

    Raises
    ------
    ImageReadError
        If the file is truncated, damaged, or of a kind that cannot be read.
    """
    content = _content(path)
    head = content[:HEADER_BYTES].tobytes()
    header = parse_header(head, path)
    if content.size < header.file_bytes:
        raise ImageReadError(
            f"{path}: expected {header.data_bytes} bytes of voxels for {header.dim} voxels; found "
            f"{max(0, content.size - header.vox_offset)}: the file is truncated. Copy or export it again."
        )
    geometry = plain_geometry(head, header) or _remembered_geometry(path, content, header)
    return _voxels(content, header, geometry, path), geometry


def plain_geometry(head: bytes, header: NiftiHeader) -> Geometry | None:
    """Return the geometry of a header that can be read in one way only; None if ITK must be asked.

    Such a header describes a volume of plain values in millimetres whose axes run along the patient's; where it has
    both a qform and an sform, they say the same.

    Parameters
    ----------
    head
        The first 348 bytes.
    header
        The same, parsed.
    """
    intent, units = struct.unpack_from(header.order + "h", head, 68)[0], head[123] & 0x07
    if len(header.dim) != 3 or min(header.dim) < 2 or intent or units not in _MILLIMETRES or not header.plain_values:
        return None
    handedness, *spacing = struct.unpack_from(header.order + "4f", head, 76)
    qform_code, sform_code = struct.unpack_from(header.order + "2h", head, 252)
    told = []
    if qform_code > 0:
        told.append(_axis_aligned_qform(head, header.order, handedness))
    if sform_code > 0:
        told.append(_axis_aligned_sform(head, header.order, spacing))
    if not told or told[0] is None or told[0] != told[-1] or not all(math.isfinite(s) and s > 0 for s in spacing):
        return None
    (x, y, z), (left, posterior, superior) = told[0]
    # nifti1.h counts to the right and to the front, ITK to the left and to the back
    return Geometry(
        size=header.dim,
        spacing_mm=tuple(spacing),
        origin_mm=(-left, -posterior, superior),
        direction=(-float(x), 0.0, 0.0, 0.0, -float(y), 0.0, 0.0, 0.0, float(z)),
    )


_Axes = tuple[tuple[int, ...], tuple[float, ...]]
"""Signs of the three axes, and the position of the first voxel (RAS mm)."""


def _axis_aligned_qform(head: bytes, order: str, handedness: float) -> _Axes | None:
    quaternion, offset = struct.unpack_from(order + "3f", head, 256), struct.unpack_from(order + "3f", head, 268)
    signs = _QUATERNION_SIGNS.get(quaternion)
    if signs is None or not all(map(math.isfinite, offset)):
        return None
    return (*signs[:2], -signs[2] if handedness < 0 else signs[2]), offset


def _axis_aligned_sform(head: bytes, order: str, spacing: list[float]) -> _Axes | None:
    rows = [struct.unpack_from(order + "4f", head, 280 + 16 * axis) for axis in range(3)]
    off_axis = any(rows[i][j] != 0 for i in range(3) for j in range(3) if i != j)
    fitting = all(abs(rows[axis][axis]) == spacing[axis] for axis in range(3))
    offset = tuple(row[3] for row in rows)
    if off_axis or not fitting or not all(map(math.isfinite, offset)):
        return None
    return tuple(1 if rows[axis][axis] > 0 else -1 for axis in range(3)), offset


def write_nifti(path: Path, image: Any) -> None:
    """Write a SimpleITK image as NIfTI to ``path`` (``.nii`` or ``.nii.gz``), and make sure that it is complete.

    Raises
    ------
    OSError
        If the disk is full or the file cannot be written.
    """
    from delineate.formats import itk

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        plain = Path(folder) / "image.nii"
        itk.write(plain, image, compressed=False)
        _check_written(plain)
        if path.name.lower().endswith(".gz"):
            path.write_bytes(imagecodecs.gzip_encode(plain.read_bytes(), level=GZIP_LEVEL))
        else:
            plain.replace(path)


def parse_header(head: bytes, path: Path) -> NiftiHeader:
    """Return the fields of a NIfTI-1 header.

    Raises
    ------
    ImageReadError
        If these are not the first 348 bytes of a NIfTI-1 file of a readable data type.
    """
    order = _byte_order(head, path)
    rank, *sizes = struct.unpack_from(order + "8h", head, 40)
    datatype = struct.unpack_from(order + "h", head, 70)[0]
    offset, slope, intercept = struct.unpack_from(order + "3f", head, 108)
    dim = tuple(sizes[:rank]) if 1 <= rank <= len(sizes) else ()
    if not dim or min(dim) < 1:
        raise ImageReadError(
            f"{path}: expected a NIfTI header with 2 to 7 axes of at least one voxel; found `dim` {(rank, *sizes)}. "
            "The header is damaged; export the image again."
        )
    if datatype not in _DTYPES:
        raise ImageReadError(
            f"{path}: expected real numbers or colours; found NIfTI data type {datatype} (complex, binary or 128 bit). "
            "Convert the image to float32."
        )
    return NiftiHeader(
        order=order, dim=dim, datatype=datatype, vox_offset=int(offset), slope=slope, intercept=intercept
    )


def _byte_order(head: bytes, path: Path) -> str:
    if len(head) < HEADER_BYTES:
        raise ImageReadError(
            f"{path}: expected a NIfTI header of {HEADER_BYTES} bytes; found {len(head)}: the file is truncated. "
            "Copy or export it again."
        )
    for order in "<>":
        if struct.unpack_from(order + "i", head)[0] == HEADER_BYTES and head[344:347] == b"n+1":
            return order
    raise ImageReadError(
        f"{path}: expected a single-file NIfTI-1 image; found header size {head[:4]!r} and magic {head[344:348]!r} "
        "(NIfTI-2, a header/image pair, or no NIfTI at all). Convert it to NIfTI-1."
    )


def _content(path: Path) -> NDArray[np.uint8]:
    """Return the whole uncompressed file, writable."""
    if not path.name.lower().endswith(".gz"):
        return np.fromfile(path, dtype=np.uint8)
    packed = path.read_bytes()
    try:
        return np.frombuffer(_inflated(packed, path), dtype=np.uint8)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImageReadError(
            f"{path}: expected a complete gzip file; it is truncated or damaged ({error}). Copy or export it again."
        ) from error


def _inflated(packed: bytes, path: Path) -> bytearray:
    """Return the uncompressed bytes: by libdeflate, or by zlib if there are several gzip members or damage."""
    size = int.from_bytes(packed[-4:], "little")
    if HEADER_BYTES <= size <= LARGEST_DEFLATE_RATIO * len(packed):
        data = bytearray(size)
        try:
            complete = len(imagecodecs.gzip_decode(packed, out=data)) == size
        except (imagecodecs.DeflateError, ValueError):
            complete = False
        if complete and size >= parse_header(bytes(data[:HEADER_BYTES]), path).file_bytes:
            return data
    return bytearray(gzip.decompress(packed))


def _remembered_geometry(path: Path, content: NDArray[np.uint8], header: NiftiHeader) -> Geometry:
    """Return ITK's view of the header; equal headers, as of an image and its mask, are asked for only once.

    ITK's pixel type counts only where values are rescaled, so those files are asked each time.
    """
    if not header.plain_values:
        return _geometry(path, content, header)
    key = b"".join(content[part].tobytes() for part in GEOMETRY_FIELDS)
    known = _GEOMETRIES.get(key)
    if known is None:
        known = _geometry(path, content, header)
        if len(_GEOMETRIES) >= MOST_GEOMETRIES:
            _GEOMETRIES.clear()
        _GEOMETRIES[key] = known
    return known


def _geometry(path: Path, content: NDArray[np.uint8], header: NiftiHeader) -> Geometry:
    """Return ITK's view of the header; a slightly sheared one is straightened first."""
    from delineate.formats.itk import ask_itk, last_line

    try:
        return ask_itk(path)
    except RuntimeError as error:
        if "orthonormal" not in str(error):
            raise ImageReadError(f"{path}: ITK cannot read this NIfTI header ({last_line(error)}).") from error
    head = content[: header.vox_offset].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "header.nii"
        straight.write_bytes(straightened(head, header, path))
        return ask_itk(straight)


def straightened(head: bytes, header: NiftiHeader, path: Path) -> bytes:
    """Return the header bytes with the nearest orthonormal axes in the sform, if that moves no voxel by half a voxel.

    Raises
    ------
    ImageReadError
        If the image is truly sheared.
    """
    rows = np.array(struct.unpack_from(header.order + "12f", head, 280), dtype=np.float64).reshape(3, 4)
    spacing = np.linalg.norm(rows[:, :3], axis=0)
    size = (*header.dim, 1, 1, 1)[:3]
    with np.errstate(invalid="ignore"):  # an axis without a length has no direction, which is told below
        directions = (rows[:, :3] / spacing).T
    axes = nearest_orthonormal(directions, spacing, size, path)
    rows[:, :3] = axes.T * spacing
    fixed = bytearray(head)
    struct.pack_into(header.order + "3f", fixed, 80, *spacing)
    struct.pack_into(header.order + "hh", fixed, 252, 0, 1)
    struct.pack_into(header.order + "12f", fixed, 280, *rows.ravel())
    return bytes(fixed)


def _voxels(content: NDArray[np.uint8], header: NiftiHeader, geometry: Geometry, path: Path) -> NDArray[Any]:
    raw = content[header.vox_offset : header.file_bytes].view(header.dtype)
    size = geometry.size[::-1]
    if header.interleaved > 1:
        array = np.moveaxis(raw.reshape(*size, header.interleaved), -1, 0)
    else:
        array = raw.reshape(-1, *size)
    array = _channels_first(_rescaled(array, header, double=geometry.double), len(size), path)
    native = np.asarray(array, dtype=array.dtype.newbyteorder("="))
    usable: NDArray[Any] = np.require(native, requirements=["C", "A", "W"])
    return usable


def _channels_first(array: NDArray[Any], rank: int, path: Path) -> NDArray[Any]:
    """Turn ``(component, [t,] [z,] y, x)`` into ``(channel, [z,] y, x)``."""
    if rank <= 3:
        return array
    if rank == 4 and array.shape[0] == 1:
        return array.reshape(array.shape[1:])
    raise ImageReadError(
        f"{path}: expected a 2-D or 3-D image with channels; found {rank} axes and {array.shape[0]} components per "
        "voxel. Save one file per channel."
    )


def _rescaled(array: NDArray[Any], header: NiftiHeader, *, double: bool) -> NDArray[Any]:
    """Apply slope and intercept exactly when and as ITK does: in double precision, stored as ITK's pixel type."""
    usable = math.isfinite(header.slope) and header.slope != 0
    slope = header.slope if usable else 1.0
    intercept = header.intercept if math.isfinite(header.intercept) else 0.0
    if slope == 1 and intercept == 0:
        return array
    rescaled: NDArray[Any] = array.astype(np.float64) * slope + intercept
    return rescaled if double else rescaled.astype(np.float32)


def _check_written(path: Path) -> None:
    with path.open("rb") as stream:
        header = parse_header(stream.read(HEADER_BYTES), path)
    if path.stat().st_size < header.file_bytes:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
