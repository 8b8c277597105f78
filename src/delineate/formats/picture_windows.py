"""Pictures read window by window where the file allows it: tiled and stripped TIFF; other files are read whole.

A slide scanner's picture does not fit into memory; its tiles do.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from delineate.errors import ImageReadError, InputError
from delineate.formats.images import read_file
from delineate.formats.magic import check_file, image_ending
from delineate.formats.raster import TIFF_ENDINGS

CACHED_BYTES = 1 << 27
"""Decoded tiles that are kept, because neighbouring windows overlap."""
LEAST_PIXELS = 1 << 24
"""Smaller pictures are read whole; that is quicker."""
MOST_COLOURS = 4
"""Grey, grey with alpha, colour, colour with alpha; more are channels of which one must be chosen."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PictureSource:
    """A picture of which windows can be read."""

    shape: tuple[int, int]
    """Rows and columns."""
    read: Callable[[slice, slice], NDArray[Any]]
    """Rows and columns to pixels (y, x, 1 or 3), the numbers of the file."""
    whole: bool
    """Whether all of it is in memory."""

    def sample(self, every: int) -> NDArray[Any]:
        """Return every so many rows and columns (y, x, 1 or 3)."""
        height = max(every, (1 << 22) // max(self.shape[1], 1) // every * every)
        columns = slice(0, self.shape[1])
        parts = [
            self.read(slice(top, min(top + height, self.shape[0])), columns)[::every, ::every].copy()
            for top in range(0, self.shape[0], height)
        ]
        return np.concatenate(parts)


@contextmanager
def open_picture(path: Path, *, channel: int | None = None) -> Iterator[PictureSource]:
    """Open a picture; an alpha channel is left out, of grey and alpha the first is taken.

    Parameters
    ----------
    path
        The file.
    channel
        Number, from 1, of the only channel to look at; None: grey or colours as they are.

    Raises
    ------
    ImageReadError
        If the file is missing, empty, truncated, damaged, or not a picture; windows raise it too.
    InputError
        If the picture has several channels that are no colours and none was chosen, or not the chosen one.
    """
    check_file(path)
    separate = 1
    if image_ending(path) in TIFF_ENDINGS:
        with _tiff(path) as file:
            page, separate = file.pages.first, _separate_channels(file)
            if _can_be_windowed(file):
                _require_channel(page.samplesperpixel, 1, channel, path)
                windows = _TiffWindows(file, path, channel)
                yield PictureSource(shape=(page.imagelength, page.imagewidth), read=windows.read, whole=False)
                return
    array = read_file(path).array
    if array.ndim != 3:
        raise ImageReadError(
            f"{path}: expected a picture of one plane; found a stack of shape {array.shape}. Save one file per plane."
        )
    _require_channel(len(array), separate, channel, path)
    chosen = array if channel is None else array[channel - 1 : channel]
    yield source_of(chosen.transpose(1, 2, 0))


def source_of(picture: NDArray[Any]) -> PictureSource:
    """Return a picture (y, x) or (y, x, colour) in memory as a source of windows; see :func:`open_picture`.

    Raises
    ------
    InputError
        If it has more than four colours.
    """
    array = picture[..., None] if picture.ndim == 2 else picture
    if array.ndim != 3 or array.shape[2] > MOST_COLOURS:
        raise InputError(
            f"Expected a picture (y, x) or (y, x, 1 to {MOST_COLOURS} colours); got shape {picture.shape}."
        )
    colours = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
    return PictureSource(
        shape=(colours.shape[0], colours.shape[1]), read=lambda rows, columns: colours[rows, columns], whole=True
    )


def _separate_channels(file: tifffile.TiffFile) -> int:
    """Return how many channels, that are no colours of a pixel, the first series of a TIFF declares."""
    series = file.series[0]
    return int(series.shape[series.axes.index("C")]) if "C" in series.axes else 1


def _require_channel(found: int, separate: int, channel: int | None, path: Path) -> None:
    if channel is None and (found > MOST_COLOURS or separate > 1):
        raise InputError(
            f"{path}: expected a grey or coloured picture; found {found} channels. Say which one shows the nuclei: "
            f"--channel 1 to {found}."
        )
    if channel is not None and not 1 <= channel <= found:
        raise InputError(f"{path}: channel {channel} was asked for; the picture has {found}.")


@contextmanager
def _tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    try:
        file = tifffile.TiffFile(path)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise ImageReadError(f"{path}: expected a TIFF; it is damaged ({error}). Copy or export it again.") from error
    with file:
        yield file


def _can_be_windowed(file: tifffile.TiffFile) -> bool:
    """Say whether the first page is a large plane with grey or colour samples beside each other, in several parts."""
    page = file.pages.first
    return bool(
        page.imagelength * page.imagewidth >= LEAST_PIXELS
        and page.imagedepth == 1
        and page.planarconfig == 1
        and page.samplesperpixel in (1, 2, 3, 4)
        and page.photometric in (0, 1, 2, 6)
        and page.sampleformat in (1, 2, 3)
        and page.bitspersample in (8, 16, 32)
        and len(page.dataoffsets) > 1
        and file.series[0].axes in ("YX", "YXS")
    )


class _TiffWindows:
    """Windows of the first page of a TIFF; its tiles or strips are decoded when they are needed."""

    def __init__(self, file: tifffile.TiffFile, path: Path, channel: int | None) -> None:
        page = file.pages.first
        self._file, self._page, self._path = file, page, path
        self._length = path.stat().st_size
        if page.is_tiled:
            self._side = (page.tilelength, page.tilewidth)
        else:
            self._side = (page.rowsperstrip, page.imagewidth)
        self._across = -(-page.imagewidth // self._side[1])
        if channel is not None:
            self._taken = slice(channel - 1, channel)
        else:
            self._taken = slice(0, 3 if page.samplesperpixel >= 3 else 1)
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return pixels (y, x, colour); threads wait for each other."""
        with self._lock:
            return self._read(rows, columns)

    def _read(self, rows: slice, columns: slice) -> NDArray[Any]:
        height, width = self._side
        window = np.zeros(
            (rows.stop - rows.start, columns.stop - columns.start, self._taken.stop - self._taken.start),
            self._page.dtype,
        )
        for row in range(rows.start // height, -(-rows.stop // height)):
            for column in range(columns.start // width, -(-columns.stop // width)):
                part = self._part(row * self._across + column)
                top, left = row * height, column * width
                y = slice(max(rows.start, top), min(rows.stop, top + len(part)))
                x = slice(max(columns.start, left), min(columns.stop, left + part.shape[1]))
                window[y.start - rows.start : y.stop - rows.start, x.start - columns.start : x.stop - columns.start] = (
                    part[y.start - top : y.stop - top, x.start - left : x.stop - left]
                )
        return window

    def _part(self, index: int) -> NDArray[Any]:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        part = self._decoded(index)
        self._kept[index] = part
        while sum(kept.nbytes for kept in self._kept.values()) > CACHED_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return part

    def _decoded(self, index: int) -> NDArray[Any]:
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if offset + count > self._length:
            raise ImageReadError(
                f"{self._path}: part {index} of the picture lies beyond the end of the file. Copy or export it again."
            )
        options = {}
        if page.compression in (6, 7, 33007, 34892):
            options = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        handle = self._file.filehandle
        handle.seek(offset)
        packed = handle.read(count)  # before `decode` is asked for: of JPEG files it reads something else first
        try:
            data = page.decode(packed, index, _fullsize=page.is_tiled, **options)[0]
        except (ValueError, OSError, RuntimeError, tifffile.TiffFileError) as error:
            raise ImageReadError(f"{self._path}: part {index} of the picture is damaged ({error}).") from error
        if data is None:  # a part that was never written
            data = np.zeros((1, *self._side, page.samplesperpixel), page.dtype)
        kept: NDArray[Any] = data[0, ..., self._taken]
        return kept
