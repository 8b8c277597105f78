"""What a file is by its name and its first bytes. Knows no pixels.

Readers ask here first, so that a missing, empty, or wrong file gives one sentence that says what was found instead of
a library's message about a reader that could not be created.
"""

from __future__ import annotations

from pathlib import Path

from delineate.errors import ImageReadError

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".tiff", ".tif", ".png", ".jpeg", ".jpg", ".bmp")
"""File endings of the images that can be read, longest first where one ends in another."""

_FORMATS = {
    ".nii.gz": "gzip data",
    ".nii": "NIfTI",
    ".nrrd": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
}
_MAGIC = (
    (b"\x1f\x8b", "gzip data"),
    (b"NRRD", "NRRD"),
    (b"ObjectType", "MetaImage"),
    (b"NDims", "MetaImage"),
    (b"Comment", "MetaImage"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer; the file itself was never downloaded"),
    (b"/annex/objects", "a git-annex pointer; the file itself was never downloaded"),
    (b"<", "a web page or XML text; a download that failed looks like this"),
)
_NIFTI_HEADER_SIZES = (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")
_DICOM_PREAMBLE = 128
_HEAD_BYTES = 132


def image_ending(path: Path) -> str | None:
    """Return the image file ending of ``path`` in lower case (``.nii.gz``), or None if it has none that can be read."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending) and len(name) > len(ending)), None)


def image_stem(path: Path) -> str:
    """Return the file name without its image file ending (``case_1.nii.gz`` gives ``case_1``)."""
    ending = image_ending(path)
    return path.name[: -len(ending)] if ending else path.name


def kind_of(head: bytes) -> str:
    """Return what a file is by its first bytes: a format's name, or the bytes themselves if they are unknown."""
    if head[:4] in _NIFTI_HEADER_SIZES:
        return "NIfTI"
    if head[_DICOM_PREAMBLE : _DICOM_PREAMBLE + 4] == b"DICM":
        return "DICOM"
    known = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    return known or f"unknown data that start with {head[:8]!r}"


def is_dicom(path: Path) -> bool:
    """Say whether a file that is there begins as DICOM files do."""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)[_DICOM_PREAMBLE:] == b"DICM"
    except OSError:
        return False


def check_file(path: Path) -> None:
    """Make sure that a file is there, has content, and is what its ending says.

    Raises
    ------
    ImageReadError
        Otherwise; the text names the file, what was expected, what was found and what to do.
    """
    ending = image_ending(path)
    if ending is None:
        raise ImageReadError(
            f"{path}: expected an image file ({', '.join(sorted(ENDINGS))}); its name has none of these endings. "
            "Convert it, or rename it if only the ending is wrong."
        )
    head = _first_bytes(path)
    expected, found = _FORMATS[ending], kind_of(head)
    if found != expected:
        raise ImageReadError(
            f"{path}: expected {expected} because of the ending {ending}; found {found}. "
            "Export or download the file again, or give it the ending of its real format."
        )


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        raise ImageReadError(f"{path}: expected an image file; there is none of that name. Check the path.") from None
    except IsADirectoryError:
        raise ImageReadError(f"{path}: expected an image file; found a folder. Name the file inside it.") from None
    except OSError as error:
        raise ImageReadError(f"{path}: could not be opened ({error.strerror}). Check its permissions.") from error
    if not head:
        raise ImageReadError(f"{path}: expected an image; the file is empty (0 bytes). Copy it again from its source.")
    return head
