import json

import numpy as np
import pytest
from broken_files import OBLIQUE, a_mask, an_image, cut, noise
from test_datasets import nnunet_folder

from delineate.case import Image
from delineate.errors import DatasetError, Interrupted
from delineate.execution import Cancellation
from delineate.formats.datasets import open_dataset, verified, verify_dataset
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid


def kinds(faults):
    return sorted({fault.kind for fault in faults})


def changed(grid, **fields):
    names = ("shape", "spacing_mm", "origin_mm", "direction")
    return Grid(**{**{n: getattr(grid, n) for n in names}, **fields})


def image_of(root, case=0, channel=0):
    return root / "imagesTr" / f"case_{case}_{channel:04d}.nii.gz"


def mask_of(root, case=0):
    return root / "labelsTr" / f"case_{case}.nii.gz"


def with_value(path, value):
    array = noise().astype(np.float32)
    array.flat[0] = value
    write_image(path, Image(array=array, grid=OBLIQUE))


def a_float_mask(path):
    write_image(path, Image(array=np.full((1, *OBLIQUE.shape), 0.5, np.float32), grid=OBLIQUE))


TWO_COLOURS = np.stack([np.zeros(OBLIQUE.shape, np.uint8), np.ones(OBLIQUE.shape, np.uint8)])
FLIPPED = tuple(tuple(-v for v in axis) for axis in OBLIQUE.direction)
TINY = Grid.regular((1, 1, 1))

BREAKS = {
    "missing image": (lambda r: image_of(r).unlink(), "missing-file", "drop-faulty-cases", "error"),
    "missing mask": (lambda r: mask_of(r).unlink(), "missing-file", "drop-faulty-cases", "error"),
    "empty file": (lambda r: image_of(r).write_bytes(b""), "unreadable", "drop-faulty-cases", "error"),
    "truncated": (lambda r: cut(image_of(r), 0.5), "unreadable", "drop-faulty-cases", "error"),
    "wrong magic": (lambda r: mask_of(r).write_text("hello"), "unreadable", "drop-faulty-cases", "error"),
    "NaN": (lambda r: with_value(image_of(r), np.nan), "non-finite", "nan-to-zero", "error"),
    "infinity": (lambda r: with_value(image_of(r), np.inf), "non-finite", "nan-to-zero", "error"),
    "shape": (lambda r: a_mask(mask_of(r), grid=Grid.regular((5, 6, 8))), "shape", "drop-faulty-cases", "error"),
    "spacing": (
        lambda r: a_mask(mask_of(r), grid=changed(OBLIQUE, spacing_mm=(3.0, 0.75, 0.5))),
        "spacing", "geometry-from-image", "error",
    ),
    "origin": (
        lambda r: a_mask(mask_of(r), grid=changed(OBLIQUE, origin_mm=(0.0, 0.0, 0.0))),
        "origin", "geometry-from-image", "error",
    ),
    "direction": (
        lambda r: a_mask(mask_of(r), grid=changed(OBLIQUE, direction=FLIPPED)),
        "direction", "geometry-from-image", "error",
    ),
    "channel origin": (
        lambda r: an_image(image_of(r, channel=1), grid=changed(OBLIQUE, origin_mm=(0.0, 0.0, 0.0))),
        "origin", "geometry-from-image", "error",
    ),
    "undeclared": (
        lambda r: a_mask(mask_of(r), values=(0, 1, 2, 9)),
        "undeclared-label", "undeclared-to-background", "error",
    ),
    "black and white": (lambda r: a_mask(mask_of(r), values=(0, 255)), "black-and-white", "map-255-to-1", "error"),
    "fractions": (lambda r: a_float_mask(mask_of(r)), "non-integer", "round-mask", "error"),
    "colours": (
        lambda r: write_image(mask_of(r), Image(array=TWO_COLOURS, grid=OBLIQUE)),
        "colour-mask", "drop-faulty-cases", "error",
    ),
    "empty mask": (lambda r: a_mask(mask_of(r), values=(0,)), "empty-mask", None, "warning"),
    "constant": (
        lambda r: write_image(image_of(r), Image(array=np.ones((1, *OBLIQUE.shape), np.int16), grid=OBLIQUE)),
        "constant", "drop-faulty-cases", "error",
    ),
    "too many channels": (
        lambda r: an_image(image_of(r, channel=1), channels=2),
        "channels", "drop-faulty-cases", "error",
    ),
    "surplus channel": (lambda r: an_image(image_of(r, channel=7)), "surplus-file", None, "warning"),
    "surplus ending": (lambda r: an_image(r / "imagesTr" / "case_0_0000.nrrd"), "surplus-file", None, "warning"),
}  # fmt: skip


def test_a_sound_dataset_has_no_faults(tmp_path):
    dataset = open_dataset(nnunet_folder(tmp_path, channels=2))
    verification = verify_dataset(dataset)
    assert verification.faults == ()
    assert verification.cases == 3
    verification.raise_if_faulty()
    assert verified(dataset, verification) is dataset


@pytest.mark.parametrize("name", list(BREAKS))
def test_each_way_to_break_a_case_is_one_fault_with_its_repair(tmp_path, name):
    break_it, kind, repair, severity = BREAKS[name]
    root = nnunet_folder(tmp_path, channels=2)
    break_it(root)
    faults = verify_dataset(open_dataset(root)).faults
    found = [fault for fault in faults if fault.kind == kind]
    assert len(found) == 1
    assert (found[0].repair, found[0].severity) == (repair, severity)
    assert str(found[0].file or found[0].case_id) in found[0].text()
    assert {fault.kind for fault in faults if fault.severity == "error"} <= {kind}


@pytest.mark.parametrize("name", [n for n, b in BREAKS.items() if b[2] and b[2] != "drop-faulty-cases"])
def test_a_repair_that_was_asked_for_turns_the_fault_into_a_record(tmp_path, name):
    break_it, kind, repair, _ = BREAKS[name]
    root = nnunet_folder(tmp_path, channels=2)
    break_it(root)
    dataset = open_dataset(root, repairs=frozenset({repair}))
    verification = verify_dataset(dataset)
    assert verification.errors == ()
    assert [f.message.endswith(f"repaired by {repair}") for f in verification.warnings if f.kind == kind] == [True]
    for files in verified(dataset, verification).training:
        dataset.load(files)


def test_all_faults_of_all_cases_are_told_at_once(tmp_path):
    root = nnunet_folder(tmp_path, cases=5)
    cut(image_of(root, 0), 0.4)
    with_value(image_of(root, 1), np.nan)
    a_mask(mask_of(root, 2), values=(0, 1, 5))
    mask_of(root, 3).unlink()
    verification = verify_dataset(open_dataset(root), workers=2)
    assert kinds(verification.errors) == ["missing-file", "non-finite", "undeclared-label", "unreadable"]
    with pytest.raises(DatasetError, match=r"4 error\(s\) in 5 cases.*--repair nan-to-zero") as caught:
        verification.raise_if_faulty()
    assert len(caught.value.faults) == 4


def test_faulty_cases_are_left_out_only_when_asked_for(tmp_path):
    root = nnunet_folder(tmp_path, cases=4)
    cut(image_of(root, 1), 0.4)
    strict = open_dataset(root)
    with pytest.raises(DatasetError):
        verified(strict, verify_dataset(strict))
    dataset = open_dataset(root, repairs=frozenset({"drop-faulty-cases"}))
    kept = verified(dataset, verify_dataset(dataset))
    assert [c.case_id for c in kept.training] == ["case_0", "case_2", "case_3"]
    assert kept.declared_training_count == 3


def test_a_dataset_without_a_sound_case_is_an_error(tmp_path):
    root = nnunet_folder(tmp_path, cases=2)
    for i in range(2):
        cut(image_of(root, i), 0.4)
    dataset = open_dataset(root, repairs=frozenset({"drop-faulty-cases"}))
    with pytest.raises(DatasetError, match="all 2 training cases are faulty"):
        verified(dataset, verify_dataset(dataset))


def test_a_class_in_no_mask_and_a_wrong_count_are_warned_of(tmp_path):
    root = nnunet_folder(tmp_path, labels={"background": 0, "a": 1, "b": 2, "rare": 3}, numTraining=9)
    verification = verify_dataset(open_dataset(root))
    assert verification.errors == ()
    assert kinds(verification.warnings) == ["absent-class", "count"]
    assert "rare" in " ".join(fault.message for fault in verification.warnings)


def test_a_case_listed_twice_is_an_error(tmp_path):
    root = nnunet_folder(tmp_path)
    pairs = [{"image": f"imagesTr/case_{i}_0000.nii.gz", "label": f"labelsTr/case_{i}.nii.gz"} for i in (0, 1, 1)]
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(content))
    faults = verify_dataset(open_dataset(root)).errors
    assert kinds(faults) == ["duplicate-case"]


def test_two_files_of_one_name_in_a_plain_folder_are_an_error(tmp_path):
    an_image(tmp_path / "images" / "a.nii.gz")
    an_image(tmp_path / "images" / "a.nrrd")
    a_mask(tmp_path / "labels" / "a.nii.gz")
    assert kinds(verify_dataset(open_dataset(tmp_path)).errors) == ["duplicate-case"]


@pytest.mark.parametrize(("removed", "kept"), [("images", "labels"), ("labels", "images")])
def test_a_file_without_its_partner_in_a_plain_folder_is_an_error(tmp_path, removed, kept):
    for i in range(3):
        an_image(tmp_path / "images" / f"a{i}.nii.gz")
        a_mask(tmp_path / "labels" / f"a{i}.nii.gz")
    (tmp_path / removed / "a1.nii.gz").unlink()
    (fault,) = verify_dataset(open_dataset(tmp_path)).errors
    assert (fault.kind, fault.file) == ("missing-file", tmp_path / removed / "a1.nii.gz")


def test_a_patient_in_training_and_testing_is_warned_of(tmp_path):
    root = nnunet_folder(tmp_path)
    an_image(root / "imagesTs" / "new_0000.nii.gz")
    (root / "patients.csv").write_text("case,patient\ncase_0,p\ncase_1,q\ncase_2,r\nnew,p\n")
    assert kinds(verify_dataset(open_dataset(root)).warnings) == ["leak"]


def test_planes_among_volumes_and_a_single_voxel_are_errors(tmp_path):
    root = nnunet_folder(tmp_path)
    plane = Grid.regular((6, 7))
    an_image(image_of(root, 0), grid=plane)
    a_mask(mask_of(root, 0), grid=plane)
    an_image(image_of(root, 1), grid=TINY)
    a_mask(mask_of(root, 1), grid=TINY, values=(1,))
    assert kinds(verify_dataset(open_dataset(root)).errors) == ["degenerate", "dimensions"]


def test_the_verifier_stops_when_asked_to(tmp_path):
    cancellation = Cancellation()
    cancellation.request()
    with pytest.raises(Interrupted):
        verify_dataset(open_dataset(nnunet_folder(tmp_path)), cancellation=cancellation)
