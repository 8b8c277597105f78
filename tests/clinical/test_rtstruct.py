"""Structure sets: written, read back, and what is told on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from drafts import draft_of, orientations, source_on, structure
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from delineate.clinical.rtstruct import StructureSetSettings, write_draft_rtstruct
from delineate.errors import GeometryError, ImageReadError
from delineate.formats.dicom.rtstruct_reader import ReadStructureSet, read_rtstruct
from delineate.geometry.grid import Grid


def round_trip(labels: NDArray[Any], tmp_path: Path, grid: Grid | None = None, **how: Any) -> ReadStructureSet:
    draft = draft_of(labels, grid)
    write_draft_rtstruct(tmp_path / "rt.dcm", draft, StructureSetSettings(**how))
    return read_rtstruct(tmp_path / "rt.dcm", draft.source)


@pytest.mark.parametrize("holes", ["keyhole", "xor"])
@settings(max_examples=25, deadline=None)
@given(labels=arrays(np.uint8, st.tuples(*[st.integers(1, 7)] * 3), elements=st.integers(0, 2)))
def test_masks_come_back_voxel_for_voxel(
    holes: str, labels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not labels.any():
        return
    found = round_trip(labels, tmp_path_factory.mktemp("rt"), holes=holes)
    for read in found.structures:
        assert np.array_equal(read.mask, labels == int(read.name[1:]))
    assert found.notices == ()


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (3.0, 0.7, 1.2)])
@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 5, 9)])
def test_every_orientation(spacing: tuple[float, ...], shape: tuple[int, ...], tmp_path: Path) -> None:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    labels[1, 2, 3] = 0
    labels[3, 4, 5] = 2
    for direction in orientations():
        grid = Grid(shape=shape, spacing_mm=spacing, origin_mm=(-12.3, 45.6, 7.8), direction=direction)
        found = round_trip(labels, tmp_path, grid)
        assert [np.array_equal(s.mask, labels == v) for s, v in zip(found.structures, (1, 2), strict=True)] == [
            True,
            True,
        ]


def test_the_position_of_a_voxel_is_the_headers(tmp_path: Path) -> None:
    labels = np.zeros((5, 6, 7), dtype=np.uint8)
    labels[2, 3, 4] = 1
    turn = np.deg2rad(20)
    direction = ((0.0, 0.0, 1.0), (-np.sin(turn), np.cos(turn), 0.0), (np.cos(turn), np.sin(turn), 0.0))
    grid = Grid(shape=(5, 6, 7), spacing_mm=(2.5, 0.8, 1.1), origin_mm=(10.0, -20.0, 30.0), direction=direction)
    draft = draft_of(labels, grid)
    write_draft_rtstruct(tmp_path / "rt.dcm", draft)
    contour = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].ContourSequence[0]
    centre = np.reshape(np.array(contour.ContourData, dtype=float), (-1, 3)).mean(axis=0)
    assert np.allclose(centre, (grid.affine @ [2, 3, 4, 1])[:3], atol=1e-4)
    assert contour.ContourImageSequence[0].ReferencedSOPInstanceUID == draft.source.slices[2].sop_instance_uid


def test_a_draft_says_that_nobody_approved_it(tmp_path: Path) -> None:
    round_trip(np.ones((2, 3, 3), dtype=np.uint8), tmp_path)
    written = pydicom.dcmread(tmp_path / "rt.dcm")
    assert written.ApprovalStatus == "UNAPPROVED"
    assert "not reviewed" in written.SeriesDescription
    assert written.file_meta.TransferSyntaxUID.is_implicit_VR
    assert written.StructureSetROISequence[0].ROIGenerationAlgorithm == "AUTOMATIC"
    assert written.PatientID == "P1"
    assert written.ReferringPhysicianName == ""


def test_regions_and_empty_structures(tmp_path: Path) -> None:
    labels = np.zeros((2, 4, 4), dtype=np.uint8)
    labels[0, 1, 1], labels[0, 1, 2] = 1, 2
    draft = draft_of(labels, None, (structure("both", 1, 2), structure("one", 1), structure("none", 3)))
    write_draft_rtstruct(tmp_path / "rt.dcm", draft)
    found = {s.name: s.mask for s in read_rtstruct(tmp_path / "rt.dcm", draft.source).structures}
    assert np.array_equal(found["both"], labels > 0)
    assert np.array_equal(found["one"], labels == 1)
    assert not found["none"].any()


def test_simplification_tells_what_it_costs(tmp_path: Path) -> None:
    y, x = np.mgrid[-20:21, -20:21]
    labels = np.repeat((y**2 + x**2 <= 250)[None], 2, axis=0).astype(np.uint8)
    draft = draft_of(labels)
    exact = write_draft_rtstruct(tmp_path / "a.dcm", draft).structures[0]
    short = write_draft_rtstruct(tmp_path / "b.dcm", draft, StructureSetSettings(simplify_voxels=0.7)).structures[0]
    back = read_rtstruct(tmp_path / "b.dcm", draft.source).structures[0].mask
    assert exact.dice_kept == 1.0
    assert short.points < exact.points
    # long edges run through voxel centres, which the rounding of millimetres puts on either side
    dice = 2 * (back & (labels > 0)).sum() / (back.sum() + labels.sum())
    assert short.dice_kept == pytest.approx(dice, abs=2e-3)
    assert short.dice_kept > 0.97


def test_structures_of_other_images_are_refused(tmp_path: Path) -> None:
    labels = np.ones((2, 3, 3), dtype=np.uint8)
    draft = draft_of(labels)
    write_draft_rtstruct(tmp_path / "rt.dcm", draft)
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_rtstruct(tmp_path / "rt.dcm", source_on(draft.source.grid))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.dcm").write_bytes(b"no dicom")
    with pytest.raises(ImageReadError, match="RT Structure Set"):
        read_rtstruct(tmp_path / "x.dcm", source_on(Grid.regular((2, 2, 2))))


def test_nested_plain_contours_are_told(tmp_path: Path) -> None:
    labels = np.zeros((1, 7, 7), dtype=np.uint8)
    labels[0, 1:6, 1:6] = 1
    labels[0, 3, 3] = 0
    draft = draft_of(labels)
    write_draft_rtstruct(tmp_path / "rt.dcm", draft, StructureSetSettings(holes="xor"))
    dataset = pydicom.dcmread(tmp_path / "rt.dcm")
    contours = dataset.ROIContourSequence[0].ContourSequence
    for contour in contours:
        contour.ContourGeometricType = "CLOSED_PLANAR"
    point = pydicom.Dataset()
    point.ContourGeometricType, point.ContourData = "POINT", [0, 0, 0]
    contours.append(point)
    dataset.save_as(tmp_path / "nested.dcm")
    even_odd = read_rtstruct(tmp_path / "nested.dcm", draft.source)
    union = read_rtstruct(tmp_path / "nested.dcm", draft.source, nesting="union")
    assert np.array_equal(even_odd.structures[0].mask, labels == 1)
    assert union.structures[0].mask[0, 3, 3]
    assert any("inside each other" in notice for notice in even_odd.notices)
    assert any("POINT" in notice for notice in even_odd.notices)
