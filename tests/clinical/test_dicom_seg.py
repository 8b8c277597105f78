"""Segmentations: written, read back by this program and by highdicom, and what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from drafts import draft_of, orientations, source_on, structure
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from delineate.clinical import review
from delineate.clinical.coding import Code
from delineate.clinical.dicom_seg import SegmentationSettings, write_draft_seg, write_seg
from delineate.clinical.ledger import Ledger
from delineate.clinical.results import DraftResult
from delineate.clinical.source_datasets import source_datasets
from delineate.errors import GeometryError, ImageReadError, LabelError, UsageError
from delineate.formats.dicom.seg_reader import ReadSegmentation, read_seg
from delineate.formats.dicom.source_series import SourceSeries
from delineate.geometry.grid import Grid

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def round_trip(draft: DraftResult, path: Path, **how: Any) -> ReadSegmentation:
    write_draft_seg(path, draft, SegmentationSettings(**how))
    return read_seg(path, draft.source)


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@settings(max_examples=10, deadline=None)
@given(
    labels=arrays(
        np.uint8, st.tuples(st.integers(2, 5), st.integers(3, 9), st.integers(3, 9)), elements=st.integers(0, 3)
    )
)
def test_masks_come_back_voxel_for_voxel(
    kind: str, labels: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> None:
    # frames of fewer than 8 voxels are packed wrongly by highdicom 0.28, which rounds instead of taking the rest
    draft = draft_of(labels, structures=tuple(structure(f"s{v}", v) for v in (1, 2, 3)))
    found = round_trip(draft, tmp_path_factory.mktemp("seg") / "seg.dcm", kind=kind)
    assert np.array_equal(found.labels(), labels)
    assert (found.notices, [s.label for s in found.segments]) == ((), ["s1", "s2", "s3"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_every_orientation(kind: str, tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 9), dtype=np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    labels[3, 4, 5] = 2
    for direction in orientations():
        grid = Grid(shape=labels.shape, spacing_mm=(3.0, 0.7, 1.2), origin_mm=(-12.3, 45.6, 7.8), direction=direction)
        assert np.array_equal(round_trip(draft_of(labels, grid), tmp_path / "seg.dcm", kind=kind).labels(), labels)


def oblique(shape: tuple[int, int, int]) -> Grid:
    turn = np.deg2rad(20)
    direction = ((0.0, 0.0, 1.0), (-np.sin(turn), np.cos(turn), 0.0), (np.cos(turn), np.sin(turn), 0.0))
    return Grid(shape=shape, spacing_mm=(2.5, 0.8, 1.1), origin_mm=(10.0, -20.0, 30.0), direction=direction)


@pytest.mark.parametrize("empty_frames", [True, False])
def test_highdicom_reads_the_same_place(empty_frames: bool, tmp_path: Path) -> None:
    """A voxel's position by the library's own geometry is the grid's."""
    labels = np.zeros((5, 6, 7), dtype=np.uint8)
    labels[2, 3, 4] = 1
    draft = draft_of(labels, oblique(labels.shape))
    write_draft_seg(tmp_path / "seg.dcm", draft, SegmentationSettings(omit_empty_frames=not empty_frames))
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    (index,) = np.argwhere(volume.array)
    place = (volume.affine @ [*index, 1])[:3]
    assert np.allclose(place, (draft.source.grid.affine @ [2, 3, 4, 1])[:3], atol=1e-4)
    assert volume.spatial_shape[0] == (5 if empty_frames else 1)


def test_frames_refer_to_the_slices_that_they_lie_on(tmp_path: Path) -> None:
    labels = np.zeros((4, 6, 7), dtype=np.uint8)
    labels[2] = 1
    draft = draft_of(labels, oblique(labels.shape))
    write_draft_seg(tmp_path / "seg.dcm", draft)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    (frame,) = written.PerFrameFunctionalGroupsSequence
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == draft.source.slices[2].sop_instance_uid
    assert written.FrameOfReferenceUID == draft.source.frame_of_reference_uid
    assert written.PatientID == "P1"


def test_what_a_segment_says(tmp_path: Path) -> None:
    kidney = dataclasses.replace(
        structure("kidney_left", 1),
        label="Kidney_L",
        laterality=Code(value="7771000", scheme="SCT", meaning="Left"),
        region=Code(value="64033007", scheme="SCT", meaning="Kidney"),
    )
    draft = draft_of(np.ones((2, 3, 3), dtype=np.uint8), structures=(kidney, structure("none", 2)))
    found = round_trip(draft, tmp_path / "seg.dcm")
    assert [s.number for s in found.segments] == [1, 2]  # an empty structure keeps its number
    assert not found.mask(2).any()
    assert found.segments[0].tracking_uid == kidney.tracking_uid
    assert found.segments[0].type == ("10200004", "SCT", "Liver")
    item = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0]
    modifier = item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (modifier.CodeMeaning, item.AnatomicRegionSequence[0].CodeMeaning) == ("Left", "Kidney")
    assert item.SegmentDescription == "Kidney_L"
    assert item.SegmentAlgorithmType == "AUTOMATIC"
    assert item.SegmentationAlgorithmIdentificationSequence[0].AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    with pytest.raises(LabelError, match="no segment 7"):
        found.mask(7)


def test_drafts_and_approved_ones_say_which_they_are(tmp_path: Path) -> None:
    draft = draft_of(np.ones((2, 3, 3), dtype=np.uint8))
    write_draft_seg(tmp_path / "draft.dcm", draft)
    written = pydicom.dcmread(tmp_path / "draft.dcm")
    assert "not reviewed" in written.SeriesDescription
    assert "not reviewed" in written.ContentDescription
    assert not written.get("ContentCreatorName")
    ledger = Ledger(path=tmp_path / "l.jsonl")
    review.record_inference(ledger, draft, actor="d")
    review.request_review(ledger, draft, actor="d")
    write_seg(tmp_path / "a.dcm", review.approve(draft, review.Reviewer(name="Richard Roe"), ledger))
    written = pydicom.dcmread(tmp_path / "a.dcm")
    assert written.ContentDescription.startswith("Approved ")
    assert written.ContentCreatorName.family_name == "Richard Roe"


def test_overlapping_structures(tmp_path: Path) -> None:
    labels = np.zeros((2, 4, 4), dtype=np.uint8)
    labels[0, 1, 1], labels[0, 1, 2] = 1, 2
    draft = draft_of(labels, None, (structure("both", 1, 2), structure("one", 1)))
    found = round_trip(draft, tmp_path / "seg.dcm")
    assert np.array_equal(found.mask(1), labels > 0)
    assert np.array_equal(found.mask(2), labels == 1)
    with pytest.raises(LabelError, match="1 with 2"):
        found.labels()
    with pytest.raises(UsageError, match="overlap"):
        write_draft_seg(tmp_path / "x.dcm", draft, SegmentationSettings(kind="labelmap"))


def test_probabilities(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    heads = generator.dirichlet([1, 1, 1], size=(3, 5, 6)).transpose(3, 0, 1, 2).astype(np.float32)
    draft = draft_of(heads.argmax(axis=0).astype(np.uint8), structures=(structure("a", 1), structure("b", 2)))
    with pytest.raises(UsageError, match="holds probabilities"):
        write_draft_seg(tmp_path / "x.dcm", draft, SegmentationSettings(kind="fractional"))
    draft = dataclasses.replace(draft, result=dataclasses.replace(draft.result, probabilities=heads))
    found = round_trip(draft, tmp_path / "seg.dcm", kind="fractional")
    assert np.abs(found.fraction(2) - heads[2]).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(found.mask(1), found.fraction(1) >= 0.5)
    assert pydicom.dcmread(tmp_path / "seg.dcm").SegmentationFractionalType == "PROBABILITY"


def multi_frame(source: SourceSeries) -> SourceSeries:
    uid = source.slices[0].sop_instance_uid
    slices = tuple(
        dataclasses.replace(one, sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1", sop_instance_uid=uid, frame=n)
        for n, one in enumerate(source.slices, start=1)
    )
    return dataclasses.replace(source, slices=slices)


def test_enhanced_images(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), dtype=np.uint8)
    labels[1:3, 2, 3] = 1
    draft = draft_of(labels, oblique(labels.shape))
    draft = dataclasses.replace(draft, source=multi_frame(draft.source))
    found = round_trip(draft, tmp_path / "seg.dcm")
    assert np.array_equal(found.labels(), labels)
    frame = pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence[0]
    plane = round((float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) - 30.0) / 2.5)
    assert int(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber) == plane + 1


def test_other_images_and_other_voxels_are_refused(tmp_path: Path) -> None:
    draft = draft_of(np.ones((2, 3, 4), dtype=np.uint8))
    write_draft_seg(tmp_path / "seg.dcm", draft)
    with pytest.raises(GeometryError, match="another frame of reference"):
        read_seg(tmp_path / "seg.dcm", source_on(draft.source.grid))
    moved = dataclasses.replace(draft.source.grid, origin_mm=(0.3, 0.0, 0.0))
    with pytest.raises(GeometryError, match="between the voxels"):
        read_seg(tmp_path / "seg.dcm", dataclasses.replace(draft.source, grid=moved))
    (tmp_path / "x.dcm").write_bytes(b"no dicom")
    with pytest.raises(ImageReadError, match="DICOM segmentation"):
        read_seg(tmp_path / "x.dcm", draft.source)


def test_frames_beyond_the_images_are_told(tmp_path: Path) -> None:
    draft = draft_of(np.ones((3, 3, 4), dtype=np.uint8))
    write_draft_seg(tmp_path / "seg.dcm", draft)
    fewer = dataclasses.replace(draft.source.grid, shape=(2, 3, 4))
    found = read_seg(tmp_path / "seg.dcm", dataclasses.replace(draft.source, grid=fewer))
    assert found.labels().shape == (2, 3, 4)
    assert found.labels().all()
    assert "1 frames reach beyond" in found.notices[0]


def test_frames_are_cut_at_the_border_of_the_images(tmp_path: Path) -> None:
    """Images that are a part of those that the segmentation was made of, of one frame of reference and voxels."""
    labels = np.random.default_rng(3).integers(0, 3, (4, 9, 11)).astype(np.uint8)
    for direction in orientations()[::5]:
        grid = Grid(shape=labels.shape, spacing_mm=(3.0, 0.7, 1.2), origin_mm=(-12.3, 45.6, 7.8), direction=direction)
        draft = draft_of(labels, grid)
        write_draft_seg(tmp_path / "seg.dcm", draft)
        part = (slice(1, 3), slice(2, 7), slice(4, 10))
        origin = (grid.affine @ [1, 2, 4, 1])[:3]
        smaller = Grid(
            shape=(2, 5, 6),
            spacing_mm=grid.spacing_mm,
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=direction,
        )
        found = read_seg(tmp_path / "seg.dcm", dataclasses.replace(draft.source, grid=smaller))
        assert np.array_equal(found.labels(), labels[part])
        assert np.array_equal(found.mask(2), labels[part] == 2)
        lost = int((labels[1:3] > 0).sum()) - int((labels[part] > 0).sum())
        assert f"which leaves out {lost} marked voxels" in found.notices[1]


def test_other_images_of_one_place_are_told(tmp_path: Path) -> None:
    """Another phase, or a copy of the images under other identifiers."""
    draft = draft_of(np.ones((2, 3, 4), dtype=np.uint8))
    write_draft_seg(tmp_path / "seg.dcm", draft)
    again = dataclasses.replace(
        source_on(draft.source.grid), frame_of_reference_uid=draft.source.frame_of_reference_uid
    )
    found = read_seg(tmp_path / "seg.dcm", again)
    assert found.labels().all()
    assert "made of other images" in found.notices[0]


def test_padded_frames_of_early_writers(tmp_path: Path) -> None:
    """Frames of 21 bits, each begun at a new byte."""
    labels = np.random.default_rng(1).integers(0, 2, (8, 3, 7)).astype(np.uint8)
    draft = draft_of(labels)
    write_draft_seg(tmp_path / "seg.dcm", draft, SegmentationSettings(omit_empty_frames=False))
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    bits = dataset.pixel_array.reshape(len(labels), -1)
    dataset.PixelData = b"".join(np.packbits(frame, bitorder="little").tobytes() for frame in bits)
    dataset.save_as(tmp_path / "padded.dcm")
    assert np.array_equal(read_seg(tmp_path / "padded.dcm", draft.source).labels(), labels)


def test_a_label_map_with_a_palette(tmp_path: Path) -> None:
    """As highdicom writes it: colours, one byte a voxel, and numbers with a gap."""
    labels = np.zeros((3, 4, 5), dtype=np.uint8)
    labels[0, 1, 2], labels[2, 3, 4] = 1, 4
    draft = draft_of(labels)
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"s{number}",
            segmented_property_category=hd.sr.CodedConcept("91723000", "SCT", "Anatomical Structure"),
            segmented_property_type=hd.sr.CodedConcept("10200004", "SCT", "Liver"),
            algorithm_type="MANUAL",
        )
        for number in (1, 4)
    ]
    colours = hd.PaletteColorLUTTransformation.from_colors(["black", "red", "green", "blue", "white"])
    written = hd.seg.Segmentation(
        source_images=source_datasets(draft.source),
        pixel_array=labels,
        segmentation_type="LABELMAP",
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        palette_color_lut_transformation=colours,
    )
    written.save_as(tmp_path / "seg.dcm")
    found = read_seg(tmp_path / "seg.dcm", draft.source)
    assert pydicom.dcmread(tmp_path / "seg.dcm").PhotometricInterpretation == "PALETTE COLOR"
    assert [segment.number for segment in found.segments] == [1, 4]
    assert np.array_equal(found.labels(), labels)
