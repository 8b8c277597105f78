"""Pictures and picture stacks: PNG, JPEG, BMP through Pillow; TIFF planes and stacks through tifffile.

These formats hold no world geometry. Spacing stands in ``{stem}.json`` beside the file, as ``{"spacing": [z, y, x]}``,
which is what nnU-Net's TIFF reader expects; without it the spacing is 1 mm. Knows no label meanings.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray

from delineate.case import Image
from delineate.errors import GeometryError, ImageReadError, UsageError
from delineate.execution import atomic_path, write_text
from delineate.formats.magic import image_ending, image_stem
from delineate.geometry.grid import Grid

_log = logging.getLogger(__name__)

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_ENDINGS = (".tif", ".tiff")
CHANNEL_SUFFIX = re.compile(r"_\d{4}$")
"""How nnU-Net marks a channel at the end of a file's stem."""

_PNG_DEPTH_BYTE = 24
_PNG_TAIL_BYTES = 4096  # some writers leave padding behind the last chunk
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, tifffile.TiffFileError)
"""What Pillow and tifffile raise on files that end early or are damaged."""


def read_picture(path: Path) -> Image:
    """Read a PNG, JPEG or BMP picture as ``(channel, y, x)``: 1 channel for grey and palette pictures, 3 for colour.

    An alpha channel is left out; a palette picture gives its colours unless :func:`read_picture_values` is asked.

    Raises
    ------
    ImageReadError
        If the file is truncated, damaged, or too large for the picture library.
    """
    array = _decoded(path, palette_as_values=False)
    return Image(array=array, grid=_grid(path, array.shape[1:]))


def read_picture_values(path: Path) -> Image:
    """Read a picture that holds label values: of a palette picture the indices, not the colours.

    Raises
    ------
    ImageReadError
        As for :func:`read_picture`.
    """
    array = _decoded(path, palette_as_values=True)
    return Image(array=array, grid=_grid(path, array.shape[1:]))


def read_tiff(path: Path) -> Image:
    """Read a TIFF plane ``(channel, y, x)`` or stack ``(channel, z, y, x)``; pages are slices, samples are channels.

    Raises
    ------
    ImageReadError
        If the file is truncated, damaged, or has more axes than a stack with channels.
    """
    try:
        with tifffile.TiffFile(path) as file:
            _check_tiff_length(file, path)
            array, axes = file.series[0].asarray(), file.series[0].axes
            inks = file.pages.first.photometric == tifffile.PHOTOMETRIC.SEPARATED
    except (*_DAMAGE, RuntimeError, IndexError) as error:
        raise ImageReadError(
            f"{path}: expected a complete TIFF image; it is truncated or damaged ({error}). Copy or export it again."
        ) from error
    stack = _channels_first(np.asarray(array), axes, path)
    if inks and len(stack) >= 4 and stack.dtype.kind == "u":
        stack = _colours_of_inks(stack)
    if not has_spacing_file(path) and stack.ndim == 4:
        _log.warning("%s: no %s beside the stack; its spacing is taken as 1 mm", path, spacing_file(path).name)
    return Image(array=stack, grid=_grid(path, stack.shape[1:]))


def write_picture(path: Path, image: Image) -> None:
    """Write a plane of uint8 or uint16 as a picture, with its spacing beside it if that is not 1 mm; atomically.

    Raises
    ------
    UsageError
        If the image has more than two axes, two channels, or values that a picture cannot hold.
    GeometryError
        If the grid has an origin or a direction, which a picture cannot hold.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    array = image.array.astype(np.uint8) if image.array.dtype == np.bool_ else image.array
    lossy = image_ending(path) in (".jpg", ".jpeg")
    grey16 = array.dtype == np.uint16 and array.shape[0] == 1 and image_ending(path) == ".png"
    if array.ndim != 3 or array.shape[0] not in (1, 3) or not (array.dtype == np.uint8 or grey16) or lossy:
        raise UsageError(
            f"{path}: a picture can hold a plane of uint8 with 1 or 3 channels (PNG also uint16, JPEG nothing without "
            f"loss); got {array.dtype} of shape {array.shape}. Write .nii.gz, .nrrd, .mha or .tif instead."
        )
    pixels = array[0] if array.shape[0] == 1 else np.ascontiguousarray(np.moveaxis(array, 0, -1))
    _check_geometry(path, image.grid)
    with atomic_path(path) as temporary:
        PIL.Image.fromarray(pixels).save(temporary)
    _write_spacing(path, image.grid)


def write_tiff(path: Path, image: Image) -> None:
    """Write a plane or stack as a compressed TIFF, with its spacing beside it if that is not 1 mm; atomically.

    Raises
    ------
    GeometryError
        If the grid has an origin or a direction, which this format cannot hold.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    _check_geometry(path, image.grid)
    array = image.array.astype(np.uint8) if image.array.dtype == np.bool_ else image.array
    pages = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    planar = None if array.shape[0] == 1 else "contig"
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary, pages, compression="zlib", photometric="minisblack", planarconfig=planar, metadata=None
        )
    _write_spacing(path, image.grid)


def spacing_file(path: Path) -> Path:
    """Return the JSON file that holds the spacing of ``path``: its stem without nnU-Net's channel number."""
    return path.with_name(CHANNEL_SUFFIX.sub("", image_stem(path)) + ".json")


def has_spacing_file(path: Path) -> bool:
    """Say whether a spacing file lies beside ``path``."""
    return spacing_file(path).is_file()


def _decoded(path: Path, *, palette_as_values: bool) -> NDArray[Any]:
    """Return ``(channel, y, x)``."""
    try:
        _check_png_end(path)
        pixels = _deep_colour(path) if _is_deep_colour_png(path) else _pillow(path, palette_as_values=palette_as_values)
    except (*_DAMAGE, RuntimeError, PIL.Image.DecompressionBombError) as error:
        raise ImageReadError(
            f"{path}: expected a complete picture; it is truncated, damaged or too large ({error}). Export it again."
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def _pillow(path: Path, *, palette_as_values: bool) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
        with PIL.Image.open(path) as picture:
            picture.load()
            if picture.mode == "P" and not palette_as_values:
                return np.array(picture.convert("RGB"))
            if picture.mode in ("RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB"):
                return np.array(picture.convert("L" if picture.mode == "LA" else "RGB"))
            array = np.array(picture)
    return array.astype(np.uint8) if array.dtype == np.bool_ else array


def _check_png_end(path: Path) -> None:
    """Pillow is content with a PNG whose last chunk is cut off; a complete one has the chunk IEND."""
    if image_ending(path) == ".png" and b"IEND" not in path.read_bytes()[-_PNG_TAIL_BYTES:]:
        raise EOFError("the file ends before its last chunk")


def _is_deep_colour_png(path: Path) -> bool:
    """Say whether this is a 16-bit colour PNG, which Pillow would silently cut down to 8 bits."""
    with path.open("rb") as stream:
        head = stream.read(_PNG_DEPTH_BYTE + 2)
    deep = head[_PNG_DEPTH_BYTE : _PNG_DEPTH_BYTE + 1] == b"\x10"
    return image_ending(path) == ".png" and deep and head[_PNG_DEPTH_BYTE + 1] in (2, 4, 6)


def _deep_colour(path: Path) -> NDArray[Any]:
    array = np.asarray(imagecodecs.png_decode(path.read_bytes()))
    colours = array.shape[-1] - (array.shape[-1] in (2, 4))
    return array[..., 0] if colours == 1 else array[..., :colours]


def _check_tiff_length(file: tifffile.TiffFile, path: Path) -> None:
    """Tifffile gives zeros for strips beyond the end of the file; find that out before."""
    length = path.stat().st_size
    for page in file.series[0].pages:
        if page is None:
            continue
        ends = (start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(ends, default=0) > length:
            raise ValueError(f"image data reach beyond the end of the file at {length} bytes")


def _channels_first(array: NDArray[Any], axes: str, path: Path) -> NDArray[Any]:
    """Turn a TIFF series into ``(channel, z, y, x)`` or ``(channel, y, x)``; `S` and `C` are channels."""
    keep = [i for i, name in enumerate(axes) if array.shape[i] > 1 or name in "YX"]
    array, axes = array.reshape([array.shape[i] for i in keep]), "".join(axes[i] for i in keep)
    channel = [i for i, name in enumerate(axes) if name in "SC"]
    if len(channel) > 1 or array.ndim - len(channel) not in (2, 3):
        raise ImageReadError(
            f"{path}: expected a plane or a stack with channels; found axes {axes} of shape {array.shape}. "
            "Save one file per channel and time point."
        )
    return np.ascontiguousarray(np.moveaxis(array, channel[0], 0) if channel else array[None])


def _colours_of_inks(inks: NDArray[Any]) -> NDArray[Any]:
    """Return red, green and blue of cyan, magenta, yellow and black (4, ...), as Pillow does; more channels go."""
    full = np.float64(np.iinfo(inks.dtype).max)
    light = full - inks[:4]
    colours: NDArray[Any] = np.rint(light[:3] * light[3] / full).astype(inks.dtype)
    return colours


def _grid(path: Path, shape: tuple[int, ...]) -> Grid:
    if not has_spacing_file(path):
        return Grid.regular(shape)
    source = spacing_file(path)
    try:
        content = json.loads(source.read_text("utf-8"))
        if not isinstance(content, dict) or "spacing" not in content:
            return Grid.regular(shape)
        values = tuple(float(v) for v in content["spacing"])
        return Grid.regular(shape, values[-len(shape) :])
    except (ValueError, TypeError, GeometryError) as error:
        raise ImageReadError(
            f'{source}: expected {{"spacing": [z, y, x]}} with {len(shape)} positive numbers in mm ({error}). '
            "Correct it or remove it."
        ) from error


def _check_geometry(path: Path, grid: Grid) -> None:
    if not grid.matches(Grid.regular(grid.shape, grid.spacing_mm)):
        raise GeometryError(
            f"{path}: this format cannot hold an origin or a direction; the grid has origin {grid.origin_mm} and "
            f"direction {grid.direction}. Write .nii.gz, .nrrd or .mha instead."
        )


def _write_spacing(path: Path, grid: Grid) -> None:
    target = spacing_file(path)
    if set(grid.spacing_mm) == {1.0} and not target.is_file():
        return
    spacing = [999.0] * (3 - grid.dims) + list(grid.spacing_mm)
    write_text(target, json.dumps({"spacing": spacing}) + "\n")
