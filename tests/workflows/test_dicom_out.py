"""Label maps in files, and the objects that are made of them: on which voxels, under which names, approved by whom."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from ct_files import SHAPE, write_series

from delineate.case import Image, LabelMap, Structure
from delineate.cli.main import main
from delineate.clinical.ledger import Ledger
from delineate.clinical.review import State, state_of
from delineate.errors import GeometryError, InputError, LabelError, ReviewError, UsageError
from delineate.formats.dicom.reading import read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct
from delineate.formats.dicom.seg_reader import read_seg
from delineate.formats.images import write_image, write_labels
from delineate.geometry.grid import Grid
from delineate.workflows.dicom_draft import load_draft, on_grid, read_structures, structure_of
from delineate.workflows.dicom_out import ExportSettings, approval_request, export_approved, export_drafts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return write_series(tmp_path / "images")


@pytest.fixture
def labels(grid: Grid, tmp_path: Path) -> Path:
    array = np.zeros(SHAPE, dtype=np.uint8)
    array[1:3, 2:5, 3:7] = 1
    array[3, 5, 7] = 2
    write_labels(tmp_path / "labels" / "case.nii.gz", LabelMap(array=array, grid=grid))
    (tmp_path / "labels" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "GTV": 2}}))
    return tmp_path / "labels" / "case.nii.gz"


def test_a_draft_goes_out_and_comes_back(labels: Path, tmp_path: Path) -> None:
    loaded = load_draft(labels, tmp_path / "images")
    assert [(s.name, s.interpreted_type) for s in loaded.draft.structures] == [("liver", "ORGAN"), ("GTV", "GTV")]
    done = export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm", "sr": "sr.dcm", "fhir": "b.json"}, tmp_path)
    assert [path.name for path in done.files] == ["rt.dcm", "seg.dcm", "sr.dcm", "b.json"]
    source = read_dicom(tmp_path / "images").source
    expected = loaded.draft.result.labels.array
    assert np.array_equal(read_seg(tmp_path / "seg.dcm", source).labels(), expected)
    for value, found in enumerate(read_rtstruct(tmp_path / "rt.dcm", source).structures, start=1):
        assert np.array_equal(found.mask, expected == value)
    bundle = json.loads((tmp_path / "b.json").read_text())
    documents = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DocumentReference"]
    assert [d["content"][0]["attachment"]["title"] for d in documents] == ["rt.dcm", "seg.dcm", "sr.dcm"]


def test_any_order_and_direction_of_axes(grid: Grid) -> None:
    """Label maps that other programs turned are turned back; a voxel stays where it lies."""
    array = np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            axes = tuple(axis for axis, flip in enumerate(flips) if flip)
            turned = np.flip(array.transpose(order), axes)
            ends = [(SHAPE[a] - 1 if flip else 0) for a, flip in zip(order, flips, strict=True)]
            first = dict(zip(order, ends, strict=True))
            origin = (grid.affine @ [first[0], first[1], first[2], 1])[:3]
            direction = tuple(
                tuple((-1 if flip else 1) * v for v in grid.direction[a]) for a, flip in zip(order, flips, strict=True)
            )
            spacing = tuple(grid.spacing_mm[a] for a in order)
            other = Grid(
                shape=turned.shape,
                spacing_mm=spacing,
                origin_mm=tuple(float(v) for v in origin),
                direction=direction,
            )
            back = on_grid(LabelMap(array=turned, grid=other), grid, "x")
            assert np.array_equal(back.array, array), (order, flips)
            assert back.grid == grid


def test_masks_that_overlap_come_from_a_folder(grid: Grid, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    masks = {name: generator.random(SHAPE) < 0.4 for name in ("liver", "GTV", "spleen")}
    masks["all"], masks["none"] = np.ones(SHAPE, dtype=bool), np.zeros(SHAPE, dtype=bool)
    for name, mask in masks.items():
        write_labels(tmp_path / "masks" / f"{name}.nii.gz", LabelMap(array=mask.astype(np.uint8), grid=grid))
    loaded = load_draft(tmp_path / "masks", tmp_path / "images")
    assert any("empty masks were left out: ['none']" in notice for notice in loaded.notices)
    export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm"}, tmp_path)
    source = read_dicom(tmp_path / "images").source
    found = read_seg(tmp_path / "seg.dcm", source)
    assert {s.label for s in found.segments} == {"liver", "GTV", "spleen", "all"}
    for segment, drawn in zip(found.segments, read_rtstruct(tmp_path / "rt.dcm", source).structures, strict=True):
        assert np.array_equal(found.mask(segment.number), masks[segment.label])
        assert np.array_equal(drawn.mask, masks[segment.label])
    with pytest.raises(UsageError, match="named by their files"):
        load_draft(tmp_path / "masks", tmp_path / "images", structures=[structure_of("liver=1")])


def test_other_voxels_are_refused(grid: Grid, tmp_path: Path) -> None:
    shifted = Grid(
        shape=grid.shape, spacing_mm=grid.spacing_mm, origin_mm=(10.5, -20.0, 30.0), direction=grid.direction
    )
    cropped = Grid(shape=(3, 6, 8), spacing_mm=grid.spacing_mm, origin_mm=grid.origin_mm, direction=grid.direction)
    for other in (shifted, cropped):
        made = LabelMap(array=np.ones(other.shape, dtype=np.uint8), grid=other)
        with pytest.raises(GeometryError, match="does not lie on the voxels"):
            on_grid(made, grid, "x")


def test_names(labels: Path, grid: Grid, tmp_path: Path) -> None:
    assert structure_of("left kidney=3") == Structure(name="left kidney", values=(3,))
    assert structure_of("whole=1,2").values == (1, 2)
    for words in ("liver", "=3", "liver=x", "liver=0"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            structure_of(words)
    (tmp_path / "t.csv").write_text("value,structure\n1,liver\n4,spleen\n")
    assert read_structures(tmp_path / "t.csv")[1] == Structure(name="spleen", values=(4,))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="columns value and name"):
        read_structures(tmp_path / "t.csv")
    loaded = load_draft(labels, tmp_path / "images", structures=[structure_of("liver=1")])
    assert loaded.draft.structures[1].name == "label 2"
    assert any("without a name: [2]" in notice for notice in loaded.notices)


def test_approval_release_and_amendment(labels: Path, grid: Grid, tmp_path: Path) -> None:
    ledger, out = tmp_path / "l.jsonl", tmp_path / "out"
    loaded = load_draft(labels, tmp_path / "images")
    request = approval_request("Roe^Richard", ledger, identity="rroe")
    done = export_approved(loaded, request, {"rtstruct": "rt.dcm"}, out)
    assert pydicom.dcmread(out / "rt.dcm").ApprovalStatus == "APPROVED"
    assert done.ledger_row.startswith("4:")
    export_approved(loaded, request, {"seg": "seg.dcm"}, out)  # the same content again: no second signature
    kinds = [entry.payload["to"] for entry in Ledger(path=ledger).entries()]
    assert kinds == ["inferred", "needs review", "approved", "released", "released"]
    with pytest.raises(ReviewError, match="another person"):
        export_approved(loaded, approval_request("Poe^Paula", ledger), {"seg": "x.dcm"}, out)
    write_labels(labels, LabelMap(array=np.ones(SHAPE, dtype=np.uint8), grid=grid))
    changed = load_draft(labels, tmp_path / "images")
    with pytest.raises(ReviewError, match="needs a reason"):
        export_approved(changed, request, {"rtstruct": "rt2.dcm"}, out)
    assert not (out / "rt2.dcm").exists()
    again = approval_request("Roe^Richard", ledger, identity="rroe", reason="whole liver")
    export_approved(changed, again, {"fhir": "b.json"}, out)
    report = json.loads((out / "b.json").read_text())["entry"][-2]["resource"]
    assert (report["resourceType"], report["status"]) == ("DiagnosticReport", "amended")
    assert state_of(Ledger(path=ledger), loaded.draft.source.series_uid).state is State.RELEASED


def test_four_eyes(labels: Path, tmp_path: Path) -> None:
    loaded = load_draft(labels, tmp_path / "images")
    own = approval_request("Roe^R", tmp_path / "l.jsonl", identity="rroe", editor="rroe", four_eyes=True)
    with pytest.raises(ReviewError, match="four eyes"):
        export_approved(loaded, own, {"seg": "seg.dcm"}, tmp_path / "out")
    other = approval_request("Poe^P", tmp_path / "l.jsonl", identity="ppoe", editor="rroe", four_eyes=True)
    export_approved(loaded, other, {"seg": "seg.dcm"}, tmp_path / "out")


def test_reports_need_a_segmentation(labels: Path, tmp_path: Path) -> None:
    loaded = load_draft(labels, tmp_path / "images")
    with pytest.raises(UsageError, match="refers to segments"):
        export_drafts(loaded, {"sr": "sr.dcm"}, tmp_path)
    with pytest.raises(UsageError, match="a file of its own"):
        export_drafts(loaded, {"sr": "a.dcm", "seg": "a.dcm"}, tmp_path)


def test_the_commands(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> int:
        return main(["dicom", *(str(w) for w in words)])

    images, ledger = tmp_path / "images", tmp_path / "l.jsonl"
    assert run("to-rtstruct", labels, "--images", images, "-o", tmp_path / "rt.dcm", "--holes", "xor") == 0
    assert "draft, not reviewed" in capsys.readouterr().out
    approved = ("--approved-by", "Roe^Richard", "--ledger", ledger, "--edited-by", "rroe")
    assert run("to-sr", labels, "--images", images, "-o", tmp_path / "sr.dcm", *approved) == 0
    assert "approved and released; ledger row 3:" in capsys.readouterr().out
    assert hd.sr.srread(tmp_path / "sr.dcm").VerificationFlag == "VERIFIED"
    segment = pydicom.dcmread(tmp_path / "sr_seg.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert run("to-seg", labels, "--images", images, "-o", tmp_path / "s.dcm", "--seg-kind", "labelmap") == 0
    assert run("to-fhir", labels, "--images", images, "-o", tmp_path / "b.json", "--object", tmp_path / "s.dcm") == 0
    assert run("to-seg", labels, "--images", images, "-o", tmp_path / "t.dcm", "--approved-by", "Roe^R") == 2
    assert "both --approved-by and --ledger" in capsys.readouterr().err
    assert not (tmp_path / "t.dcm").exists()


def test_structures_that_share_a_value_are_both_drawn(labels: Path, tmp_path: Path) -> None:
    """Two names for one value, and a region with it: nothing comes out empty."""
    named = [structure_of(words) for words in ("liver=1", "organ=1", "both=1,2", "GTV=2")]
    loaded = load_draft(labels, tmp_path / "images", structures=named)
    export_drafts(loaded, {"rtstruct": "rt.dcm", "seg": "seg.dcm"}, tmp_path)
    source, array = read_dicom(tmp_path / "images").source, loaded.draft.result.labels.array
    drawn = read_rtstruct(tmp_path / "rt.dcm", source).structures
    segmentation = read_seg(tmp_path / "seg.dcm", source)
    for number, mask in enumerate((array == 1, array == 1, array > 0, array == 2)):
        assert np.array_equal(drawn[number].mask, mask)
        assert np.array_equal(segmentation.mask(number + 1), mask)


def test_what_simplified_contours_lose_is_told(grid: Grid, tmp_path: Path) -> None:
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    array = np.broadcast_to((x >= y) & (x < 7), SHAPE).astype(np.uint8)
    write_labels(tmp_path / "stairs.nii.gz", LabelMap(array=array, grid=grid))
    loaded = load_draft(tmp_path / "stairs.nii.gz", tmp_path / "images", structures=[structure_of("liver=1")])
    done = export_drafts(loaded, {"rtstruct": "rt.dcm"}, tmp_path, ExportSettings(simplify_voxels=1.5))
    (told,) = [notice for notice in done.notices if "Dice" in notice]
    read = read_rtstruct(tmp_path / "rt.dcm", read_dicom(tmp_path / "images").source).structures[0].mask
    dice = 2 * int((read & (array > 0)).sum()) / (int(read.sum()) + int(array.sum()))
    assert dice < 1
    assert told.endswith(f"Dice with the mask is {dice:.4f}")
    exact = export_drafts(loaded, {"rtstruct": "rt.dcm"}, tmp_path)
    assert not any("Dice" in notice for notice in exact.notices)


def test_an_amended_structure_set_names_the_one_that_it_replaces(labels: Path, grid: Grid, tmp_path: Path) -> None:
    ledger, out = tmp_path / "l.jsonl", tmp_path / "out"
    request = approval_request("Roe^Richard", ledger, identity="rroe", reason="whole liver")
    export_approved(load_draft(labels, tmp_path / "images"), request, {"rtstruct": "rt.dcm"}, out)
    first = pydicom.dcmread(out / "rt.dcm")
    assert "PredecessorStructureSetSequence" not in first
    write_labels(labels, LabelMap(array=np.ones(SHAPE, dtype=np.uint8), grid=grid))
    export_approved(load_draft(labels, tmp_path / "images"), request, {"rtstruct": "rt.dcm"}, out)
    (item,) = pydicom.dcmread(out / "rt.dcm").PredecessorStructureSetSequence
    assert item.ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert item.ReferencedSOPClassUID == first.SOPClassUID
    write_labels(labels, LabelMap(array=np.full(SHAPE, 2, dtype=np.uint8), grid=grid))
    last = export_approved(load_draft(labels, tmp_path / "images"), request, {"rtstruct": "rt.dcm"}, tmp_path / "new")
    assert any("names no predecessor" in notice for notice in last.notices)


def test_objects_appear_together_or_not_at_all(labels: Path, tmp_path: Path) -> None:
    loaded = load_draft(labels, tmp_path / "images")
    (tmp_path / "out" / "rt.dcm").mkdir(parents=True)
    with pytest.raises(UsageError, match="is a folder"):
        export_drafts(loaded, {"seg": "seg.dcm", "rtstruct": "rt.dcm"}, tmp_path / "out")
    kinds = ExportSettings(seg_kind="fractional")  # refused only when it is written, after the structure set
    with pytest.raises(UsageError, match="holds probabilities"):
        export_drafts(loaded, {"rtstruct": "a.dcm", "seg": "b.dcm"}, tmp_path / "out", kinds)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rt.dcm"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--label", "a label of more than 16"], "1 to 16 characters"),
        (["--simplify", "-1"], "0 or more voxels"),
        (["--simplify", "nan"], "0 or more voxels"),
        (["--structure", "liver=1", "--structure", "liver=2"], "Several structures are called liver"),
        (["--approved-by", " ", "--ledger", "l.jsonl"], "names the person"),
    ],
)
def test_bad_wishes_are_refused(words: list[str], told: str, labels: Path, tmp_path: Path, capsys) -> None:
    command = ["dicom", "to-rtstruct", str(labels), "--images", str(tmp_path / "images"), "-o", str(tmp_path / "x.dcm")]
    assert main([*command, *words]) in (2, 3)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "x.dcm").exists()


def test_label_maps_that_mean_nothing(labels: Path, grid: Grid, tmp_path: Path) -> None:
    array = np.zeros(SHAPE, dtype=np.int16)
    array[0, 0, 0] = -1
    write_image(tmp_path / "minus.nii.gz", Image(array=array[None], grid=grid))
    with pytest.raises(LabelError, match="0 or more; found -1"):
        load_draft(tmp_path / "minus.nii.gz", tmp_path / "images")
    write_labels(tmp_path / "none.nii.gz", LabelMap(array=np.zeros(SHAPE, dtype=np.uint8), grid=grid))
    with pytest.raises(InputError, match="nothing to write"):
        load_draft(tmp_path / "none.nii.gz", tmp_path / "images")
    empty = load_draft(tmp_path / "none.nii.gz", tmp_path / "images", structures=[structure_of("liver=1")])
    assert "no voxel is marked as liver" in empty.notices


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_images_without_identifiers_make_no_objects(keyword: str, labels: Path, tmp_path: Path) -> None:
    """Nothing is invented: objects of such images would refer to nothing."""
    for file in (tmp_path / "images").iterdir():
        dataset = pydicom.dcmread(file)
        delattr(dataset, keyword)
        dataset.save_as(file)
    with pytest.raises(InputError, match="belong to nothing"):
        load_draft(labels, tmp_path / "images")


def test_a_patient_without_identifier_is_told(labels: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "images").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.PatientID = ""
        dataset.save_as(file)
    assert any("no Patient ID" in notice for notice in load_draft(labels, tmp_path / "images").notices)


def test_objects_are_made_of_studies_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An object that was asked for is never left out in silence."""
    command = ["predict", "model", "-i", "scan.nii.gz", "-o", str(tmp_path / "out"), "--rtstruct", "rt.dcm"]
    assert main(command) == 2
    assert "--rtstruct works with --dicom STUDY only" in capsys.readouterr().err
