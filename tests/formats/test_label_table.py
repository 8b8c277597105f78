from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import nibabel
import numpy as np
from hypothesis import HealthCheck, given, settings

from delineate.case import LabelMap
from delineate.formats.images import read_labels
from delineate.formats.label_table import write_labels_with_table
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
