from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
from hypothesis import HealthCheck, given, settings

from delineate.case import LabelMap
from delineate.formats.images import read_labels, write_labels
from delineate.formats.label_table import read_label_table, write_labels_with_table
from delineate.geometry.grid import Grid
from strategies import label_maps

TABLE = {1: ("liver", (200, 100, 0)), 3: ("kidney_left", (255, 0, 51))}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(label_maps())
def test_the_file_is_an_ordinary_label_map(tmp_path: Path, labels: LabelMap) -> None:
    path = tmp_path / "labels.nii.gz"
    write_labels_with_table(path, labels, TABLE)
    again = read_labels(path)
    np.testing.assert_array_equal(again.array, labels.array)
    assert again.grid.matches(labels.grid)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj).T, labels.array)


def test_the_table_stands_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    labels = LabelMap(array=np.ones((2, 3, 4), np.uint8), grid=Grid.regular((2, 3, 4)))
    write_labels_with_table(path, labels, TABLE)
    (extension,) = nibabel.load(path).header.extensions
    content = extension.get_content()
    text = content if isinstance(content, bytes) else content.encode()
    root = ElementTree.fromstring(text.rstrip(b"\0").decode())
    rows = root.findall(".//Label")
    assert [(row.get("Key"), row.text) for row in rows] == [("1", "liver"), ("3", "kidney_left")]
    assert float(rows[1].get("Blue")) == 0.2


def test_large_values_keep(tmp_path: Path) -> None:
    labels = LabelMap(array=np.full((2, 3, 4), 300, np.int16), grid=Grid.regular((2, 3, 4)))
    write_labels_with_table(tmp_path / "labels.nii.gz", labels, {300: ("x", (0, 0, 0))})
    assert read_labels(tmp_path / "labels.nii.gz").array.max() == 300


def test_a_table_is_read_back_and_other_files_have_none(tmp_path: Path) -> None:
    path = tmp_path / "labels.nii.gz"
    labels = LabelMap(array=np.arange(24, dtype=np.uint8).reshape(2, 3, 4), grid=Grid.regular((2, 3, 4)))
    write_labels_with_table(path, labels, {1: ("liver & more", (255, 0, 0)), 7: ("spleen", (0, 255, 0))})
    assert read_label_table(path) == {1: "liver & more", 7: "spleen"}
    write_labels(tmp_path / "plain.nii.gz", labels)
    assert read_label_table(tmp_path / "plain.nii.gz") == {}
    for content in (b"", b"\x1f\x8b\x08\x00broken", path.read_bytes()[:200]):
        (tmp_path / "bad.nii.gz").write_bytes(content)
        assert read_label_table(tmp_path / "bad.nii.gz") == {}
    assert read_label_table(tmp_path / "nothing.nii") == {}
