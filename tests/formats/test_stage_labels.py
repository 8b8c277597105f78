"""Label maps of a previous stage on disk."""

import blosc2
import numpy as np
import pytest

from delineate.errors import ImageReadError
from delineate.formats.stage_labels import open_stage_labels, stage_file, write_stage_labels


@pytest.mark.parametrize("patch", [(8, 8, 8), (12, 10)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_parts_are_read_as_they_were_written(tmp_path, patch, kind):
    labels = np.random.default_rng(0).integers(0, 4, (9, 14, 11)).astype(kind)
    write_stage_labels(tmp_path / "stage", "case", labels, patch)
    stored = open_stage_labels(tmp_path / "stage", "case")
    assert stored.shape == labels.shape
    assert stored.dtype == kind
    np.testing.assert_array_equal(stored[2:7, 3:, :5], labels[2:7, 3:, :5])
    np.testing.assert_array_equal(stored[4], labels[4])
    np.testing.assert_array_equal(blosc2.open(str(stage_file(tmp_path / "stage", "case")), mode="r")[:], labels)


def test_missing_and_damaged_files_are_told(tmp_path):
    with pytest.raises(ImageReadError, match="missing"):
        open_stage_labels(tmp_path, "case")
    stage_file(tmp_path, "case").write_bytes(b"nothing")
    with pytest.raises(ImageReadError, match="damaged"):
        open_stage_labels(tmp_path, "case")
