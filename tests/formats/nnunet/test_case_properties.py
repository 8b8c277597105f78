from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import ImageReadError, UnsafeModelError
from delineate.formats.nnunet.case_properties import read_case_properties, spatial_properties, write_probabilities
from delineate.geometry.grid import Grid

PROPERTIES = {
    "shape_before_cropping": (np.int64(9), 8, 7),
    "bbox_used_for_cropping": [[np.int32(1), 9], [0, np.uint16(8)], [2, 6]],
    "spacing": [np.float64(1.5), 1.0, np.float32(0.5)],
    "class_locations": {1: np.arange(12).reshape(3, 4), (1, 2): [], 2: np.ones((2, 4), np.int16, order="F")},
    "sitk_stuff": {"origin": (0.0, np.float64(1.0), 2.0)},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_shape_and_box_are_read_and_arrays_stepped_over(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "case.pkl").write_bytes(pickle.dumps(PROPERTIES, protocol=protocol))
    found = read_case_properties(tmp_path / "case.pkl")
    assert found.shape == (9, 8, 7)
    assert found.box == ((1, 9), (0, 8), (2, 6))


class Call:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, np.load, np.frombuffer, getattr])
def test_nothing_but_plain_values_is_made(function: object, tmp_path: Path) -> None:
    path = tmp_path / "case.pkl"
    path.write_bytes(pickle.dumps({**PROPERTIES, "more": Call(function, f"touch {tmp_path / 'done'}")}))
    with pytest.raises(UnsafeModelError, match=r"case\.pkl asks for"):
        read_case_properties(path)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"text", pickle.dumps([]), pickle.dumps({"spacing": 1})])
def test_damage_is_told_with_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "case.pkl").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"case\.pkl"):
        read_case_properties(tmp_path / "case.pkl")
    with pytest.raises(ImageReadError, match="no such file"):
        read_case_properties(tmp_path / "other.pkl")


def test_probabilities_of_planes_get_the_axis_of_one_slice(tmp_path: Path) -> None:
    probabilities = np.random.default_rng(0).random((3, 5, 4)).astype(np.float32)
    write_probabilities(tmp_path / "a.b", probabilities, Grid.regular((5, 4), (2.0, 1.0)))
    with np.load(tmp_path / "a.b.npz") as stored:
        np.testing.assert_array_equal(stored["probabilities"], probabilities[:, None])
    assert pickle.loads((tmp_path / "a.b.pkl").read_bytes()) == {"spacing": [999.0, 2.0, 1.0]}


def test_the_direction_is_that_of_simpleitk() -> None:
    sitk = pytest.importorskip("SimpleITK")
    turned = ((0.0, 0.0, -1.0), (0.6, 0.8, 0.0), (0.8, -0.6, 0.0))
    grid = Grid(shape=(4, 5, 6), spacing_mm=(3.0, 2.0, 1.0), origin_mm=(7.0, 8.0, 9.0), direction=turned)
    found = spatial_properties(grid)["sitk_stuff"]
    image = sitk.Image([6, 5, 4], sitk.sitkUInt8)
    image.SetSpacing(found["spacing"])
    image.SetOrigin(found["origin"])
    image.SetDirection(found["direction"])
    for index in ((0, 0, 0), (1, 0, 0), (0, 2, 0), (3, 4, 5)):
        expected = (grid.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index[::-1]), expected, atol=1e-9)
