"""Files of probabilities, one head at a time."""

import zipfile

import numpy as np
import pytest

from delineate.errors import ImageReadError
from delineate.formats.nnunet.case_properties import write_probabilities
from delineate.formats.probabilities import opened_probabilities, written_while_read
from delineate.geometry.grid import Grid

VALUES = np.random.default_rng(0).random((3, 4, 5, 6)).astype(np.float32)


def read(path):
    with opened_probabilities(path) as (shape, heads):
        found = np.stack(list(heads))
    assert shape == found.shape
    return found


def test_heads_are_those_of_the_file(tmp_path):
    write_probabilities(tmp_path / "ours", VALUES, Grid.regular(VALUES.shape[1:]))
    np.savez_compressed(tmp_path / "theirs.npz", probabilities=VALUES)
    np.testing.assert_array_equal(read(tmp_path / "ours.npz"), VALUES)
    np.testing.assert_array_equal(read(tmp_path / "theirs.npz"), VALUES)


def test_what_passes_through_is_written_as_numpy_reads_it(tmp_path):
    passed = list(written_while_read(tmp_path / "mean.npz", VALUES.shape, iter(VALUES)))
    np.testing.assert_array_equal(np.stack(passed), VALUES)
    np.testing.assert_array_equal(np.load(tmp_path / "mean.npz")["probabilities"], VALUES.astype(np.float16))


def test_a_file_appears_only_when_all_heads_were_taken(tmp_path):
    stream = written_while_read(tmp_path / "mean.npz", VALUES.shape, iter(VALUES))
    next(stream)
    stream.close()
    assert not list(tmp_path.glob("*.npz"))


def test_damaged_and_foreign_files_are_told(tmp_path):
    with pytest.raises(ImageReadError, match=r"nothing\.npz"):
        read(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no zip")
    np.savez(tmp_path / "other.npz", softmax=VALUES)
    np.savez(tmp_path / "integers.npz", probabilities=np.zeros((3, 4, 5, 6), np.int16))
    np.savez(tmp_path / "objects.npz", probabilities=np.array([{}, {}], dtype=object))
    for name in ("text", "other", "integers", "objects"):
        with pytest.raises(ImageReadError, match=name):
            read(tmp_path / f"{name}.npz")


def test_a_file_with_fewer_values_than_it_says_is_told(tmp_path):
    np.savez(tmp_path / "whole.npz", probabilities=VALUES)
    data = zipfile.ZipFile(tmp_path / "whole.npz").read("probabilities.npy")
    with zipfile.ZipFile(tmp_path / "cut.npz", "w") as archive:
        archive.writestr("probabilities.npy", data[:-40])
    with pytest.raises(ImageReadError, match="cut short"):
        read(tmp_path / "cut.npz")
