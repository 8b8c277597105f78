"""Every way in which a file breaks gives one ImageReadError that names the file; none is read silently."""

import gzip
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
from broken_files import OBLIQUE, an_image, cut, noise, patched

from delineate.case import Image
from delineate.errors import ImageReadError
from delineate.formats.images import read_image, write_image
from delineate.geometry.grid import Grid

PLANE = Grid.regular((16, 24))
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".png", ".bmp")


def written(path):
    plane = path.name.endswith((".png", ".bmp", ".tif"))
    grid = PLANE if plane else OBLIQUE
    write_image(path, Image(array=noise(grid.shape, dtype=np.uint8), grid=grid))
    return path


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_a_truncated_file(tmp_path, ending, share):
    path = written(tmp_path / f"a{ending}")
    cut(path, share)
    with pytest.raises(ImageReadError, match=r"a\.") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_empty_file(tmp_path, ending):
    (tmp_path / f"a{ending}").touch()
    with pytest.raises(ImageReadError, match=r"empty \(0 bytes\)"):
        read_image(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file_and_a_folder(tmp_path, ending):
    with pytest.raises(ImageReadError, match="none of that name"):
        read_image(tmp_path / f"a{ending}")
    (tmp_path / f"b{ending}").mkdir()
    with pytest.raises(ImageReadError, match="found a folder"):
        read_image(tmp_path / f"b{ending}")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"/annex/objects/MD5E-s1--0", "git-annex pointer"),
        (b"PK\x03\x04rest", "ZIP"),
        (bytes(128) + b"DICM" + bytes(20), "DICOM"),
        (b"\x00\x01\x02\x03", "unknown data"),
    ],
)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".png"])
def test_a_file_of_another_kind(tmp_path, ending, content, found):
    (tmp_path / f"a{ending}").write_bytes(content)
    with pytest.raises(ImageReadError, match=found):
        read_image(tmp_path / f"a{ending}")


def test_a_png_named_nifti_and_the_reverse(tmp_path):
    written(tmp_path / "a.png").rename(tmp_path / "a.nii")
    with pytest.raises(ImageReadError, match=r"expected NIfTI .* found PNG"):
        read_image(tmp_path / "a.nii")
    written(tmp_path / "b.nii").rename(tmp_path / "b.png")
    with pytest.raises(ImageReadError, match=r"expected PNG .* found NIfTI"):
        read_image(tmp_path / "b.png")


def test_flipped_bytes_in_a_compressed_nifti_are_noticed(tmp_path):
    path = tmp_path / "a.nii.gz"
    an_image(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match="truncated or damaged"):
        read_image(path)


def test_a_gzip_file_of_several_members_is_whole(tmp_path):
    image = an_image(tmp_path / "a.nii")
    data = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in (data[:400], data[400:], b"")))
    assert np.array_equal(read_image(tmp_path / "a.nii.gz").array, image.array)


@pytest.mark.parametrize(
    ("layout", "offset", "values", "text"),
    [
        ("8h", 40, (3, 7, 6, 5000, 1, 1, 1, 1), "truncated"),
        ("8h", 40, (0, 1, 1, 1, 1, 1, 1, 1), "dim"),
        ("8h", 40, (3, -7, 6, 5, 1, 1, 1, 1), "dim"),
        ("h", 70, (1792,), "data type 1792"),
        ("4s", 344, (b"ni1\0",), "single-file NIfTI-1"),
    ],
)
def test_an_impossible_nifti_header(tmp_path, layout, offset, values, text):
    an_image(tmp_path / "a.nii")
    patched(tmp_path / "a.nii", layout, offset, *values)
    with pytest.raises(ImageReadError, match=text):
        read_image(tmp_path / "a.nii")


def test_a_gzip_file_without_an_image_in_it(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(ImageReadError, match="header of 348 bytes; found 5"):
        read_image(tmp_path / "a.nii.gz")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from delineate.case import Image
from delineate.errors import ResourceError
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
array = np.random.default_rng(0).integers(0, 255, (1, 40, 40, 40)).astype(np.uint8)
path = Path(sys.argv[1])
path.write_text("old")
try:
    write_image(path, Image(array=array, grid=Grid.regular((40, 40, 40))))
except (ResourceError, OSError) as error:
    print(type(error).__name__, path.read_text(), [p.name for p in path.parent.iterdir()])
"""


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_write_that_does_not_fit_fails_and_leaves_the_old_file(tmp_path, ending):
    """ITK alone writes half a NIfTI file here without a word."""
    assert resource.RLIMIT_FSIZE is not None
    assert signal.SIGXFSZ is not None
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / f"a{ending}")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"Error old ['a{ending}']" in done.stdout
