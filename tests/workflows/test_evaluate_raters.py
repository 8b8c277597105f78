"""Folders of raters' masks as files of every encoding, and the real ones of 17 images and ten experts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from delineate.case import Image, Structure
from delineate.errors import DatasetError, InputError, Interrupted, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.datasets.rater_folders import rater_folders
from delineate.formats.images import write_image
from delineate.geometry.grid import Grid
from delineate.metrics.evaluation.rater_case import RaterRules
from delineate.workflows.evaluate_raters import RaterSettings, study_rater_folders

DATA = os.environ.get("DELINEATE_DATA")
WATCHED = Watched(progress=Silent(), cancellation=Cancellation())
CASES = ("B01", "B02", "B10")


def cell(case: int, rater: int) -> np.ndarray:
    """Return a disc that every rater draws with another radius and another shift."""
    y, x = np.indices((40, 50))
    return (y - 20 - rater % 2) ** 2 + (x - 25 + case) ** 2 < (9 + 0.7 * rater + case) ** 2


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Write three raters and a model: 0 and 1; three channels of 0 and 255; inverted with an alpha channel; bits."""
    for i, case in enumerate(CASES):
        save(tmp_path / "raters" / "ann" / f"{case}.png", cell(i, 0).astype(np.uint8))
        save(
            tmp_path / "raters" / "bob" / f"seg_{case}.png",
            np.repeat(cell(i, 1)[..., None], 3, 2).astype(np.uint8) * 255,
        )
        pixels = np.full((40, 50, 4), 255, np.uint8)
        pixels[cell(i, 2), :3] = 0
        save(tmp_path / "raters" / "cy" / f"Seg_{case.lower()}.png", pixels)
        save(tmp_path / "model" / f"{case}.png", cell(i, 1))
    return tmp_path


def study(folder: Path, predictions: Path | None = None, settings: RaterSettings | None = None, **words):
    return study_rater_folders(rater_folders([folder]), predictions, settings, **words, **WATCHED)


INVERTED = RaterSettings(inverted=frozenset({"cy"}))


def test_files_of_every_encoding_give_the_study_of_their_masks(folders: Path) -> None:
    found = study(folders / "raters", folders / "model", INVERTED)
    (structure,) = found.structures
    dices = np.array(
        [
            [[2 * (a & b).sum() / (a.sum() + b.sum()) for b in masks] for a in masks]
            for masks in ([cell(i, r) for r in range(3)] for i in range(3))
        ]
    )
    np.testing.assert_allclose(structure.pairwise, dices.mean(axis=0))
    assert structure.between_people.value == pytest.approx(dices[:, [0, 0, 1], [1, 2, 2]].mean())
    assert structure.model_against_majority.n_used == 3
    text = " ".join(found.notices)
    assert "6 files were matched to cases by a part of their names, such as seg_B01.png to B01" in text
    assert "0 was read as the structure in the masks of cy" in text
    assert "read as 0 and structure: bob" in text
    assert "bob and model are equal voxel by voxel" in text
    assert "may be inverted" not in text


def test_inverted_masks_are_never_turned_unasked_and_always_told(
    folders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = study(folders / "raters")
    assert any("may be inverted" in notice and "cy (3)" in notice for notice in found.notices)
    assert "may be inverted" in caplog.text
    assert found.structures[0].pairwise[0, 2] < 0.1
    with pytest.raises(UsageError, match="unknown raters cannot be inverted: zoe"):
        study(folders / "raters", None, RaterSettings(inverted=frozenset({"zoe"})))


def test_cases_patients_and_workers_do_as_they_are_told(folders: Path) -> None:
    whole = study(folders / "raters", None, INVERTED)
    parallel = study(folders / "raters", None, INVERTED, workers=3)
    assert whole.structures[0].between_people == parallel.structures[0].between_people
    some = study(folders / "raters", None, INVERTED, case_ids=["B01", "B10"])
    assert {case.case_id for case in some.cases} == {"B01", "B10"}
    assert any("cy/Seg_b02.png" in notice for notice in some.notices)
    one = study(folders / "raters", None, INVERTED, patient_of=dict.fromkeys(CASES, "p"))
    assert one.structures[0].between_people.n_patients == 1


def test_missing_masks_and_predictions_are_named(folders: Path) -> None:
    (folders / "raters" / "ann" / "B02.png").unlink()
    (folders / "raters" / "ann" / "B10.png").unlink()
    (folders / "raters" / "bob" / "seg_B10.png").unlink()
    (folders / "model" / "B01.png").unlink()
    found = study(folders / "raters", folders / "model", INVERTED)
    assert dict(found.left_out_cases)["B10"] == "drawn by one rater only (cy)"
    assert "drawn by 2 people" in dict(found.left_out_cases)["B02"]
    assert any("1 cases have no prediction" in notice and "B01" in notice for notice in found.notices)
    assert found.structures[0].verdict.difference.value < -0.8  # the missing prediction counts as nothing found


def test_masks_that_do_not_fit_are_refused_all_at_once(folders: Path) -> None:
    save(folders / "raters" / "ann" / "B01.png", np.zeros((40, 49), np.uint8))
    save(folders / "raters" / "bob" / "seg_B02.png", np.arange(2000, dtype=np.uint8).reshape(40, 50))
    (folders / "raters" / "cy" / "Seg_b10.png").write_bytes(b"")
    with pytest.raises(DatasetError) as told:
        study(folders / "raters", None, INVERTED, workers=2)
    text = told.value.diagnostics()
    assert "3 of 3 cases cannot be compared" in text
    assert "ann/B01.png: expected (40, 50) voxels, as most masks of case B01; found (40, 49)" in text
    assert "bob/seg_B02.png: expected a mask of 0 and one other value" in text
    assert "cy/Seg_b10.png: expected an image; the file is empty" in text


def test_volumes_that_lie_elsewhere_are_refused_and_their_spacing_is_used(tmp_path: Path) -> None:
    shape = (4, 12, 12)
    for rater, shift in (("ann", 0), ("bob", 1), ("cy", 2)):
        labels = np.zeros((1, *shape), np.uint8)
        labels[0, 1:3, 2 + shift : 8 + shift, 3:9] = 1
        labels[0, 1, 4, 4] = 2
        write_image(tmp_path / rater / "c.nii.gz", Image(array=labels, grid=Grid.regular(shape, (5.0, 2.0, 1.0))))
    settings = RaterSettings(
        rules=RaterRules(metric="hd", margin=1),
        structures=(Structure(name="organ", values=(1, 2)), Structure(name="core", values=(2,))),
    )
    found = study(tmp_path, None, settings)
    assert [s.structure for s in found.structures] == ["organ", "core"]
    assert found.structures[0].pairwise[0, 2] == 4.0  # two voxels of 2 mm
    assert found.structures[1].pairwise[0, 2] == 0.0
    assert found.structures[0].unit == "mm"
    grid = Grid(shape=shape, spacing_mm=(5.0, 2.0, 1.0), origin_mm=(9.0, 0, 0), direction=Grid.regular(shape).direction)
    write_image(tmp_path / "cy" / "c.nii.gz", Image(array=labels, grid=grid))
    with pytest.raises(DatasetError) as told:
        study(tmp_path, None, settings)
    assert "cy/c.nii.gz: expected the grid of" in told.value.diagnostics()
    assert "origin" in told.value.diagnostics()


def test_the_size_of_pixels_may_be_given_by_hand(folders: Path) -> None:
    rules = RaterRules(metric="hd", margin=1)
    plain = study(folders / "raters", None, RaterSettings(rules=rules, inverted=frozenset({"cy"}))).structures[0]
    sized = RaterSettings(rules=rules, inverted=frozenset({"cy"}), spacing_mm=(0.5, 0.5))
    given = study(folders / "raters", None, sized).structures[0]
    assert (plain.unit, given.unit) == ("px", "mm")
    np.testing.assert_allclose(given.pairwise, plain.pairwise / 2)


def test_people_who_drew_twice_are_found_by_a_pattern(folders: Path) -> None:
    (folders / "raters" / "bob").rename(folders / "raters" / "ann_2")
    settings = RaterSettings(inverted=frozenset({"cy"}), person_pattern="^[a-z]+")
    found = study(folders / "raters", None, settings)
    assert found.people == ("ann", "ann", "cy")
    assert found.structures[0].within_people is not None
    assert len(found.left_out_cases) == 3  # two people are too few for a consensus
    with pytest.raises(UsageError, match="cannot be read"):
        study(folders / "raters", None, RaterSettings(person_pattern="("))


def test_folders_that_share_no_case_and_wrong_names_are_refused(folders: Path) -> None:
    save(folders / "others" / "x" / "C1.png", cell(0, 0))
    save(folders / "others" / "y" / "C2.png", cell(0, 0))
    with pytest.raises(InputError, match=r"No case was drawn by two raters \(x, y\)\. Found 2 masks, such as C1"):
        study(folders / "others")
    with pytest.raises(UsageError, match="may not be called 'model'"):
        study_rater_folders({"model": folders, "x": folders}, None, **WATCHED)
    with pytest.raises(UsageError, match="2 to 16 raters"):
        study_rater_folders({f"r{i}": folders for i in range(17)}, None, **WATCHED)


def test_a_study_can_be_stopped(folders: Path) -> None:
    cancellation = Cancellation()
    cancellation.request()
    with pytest.raises(Interrupted):
        study_rater_folders(rater_folders([folders / "raters"]), None, progress=Silent(), cancellation=cancellation)


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set")
def test_ten_experts_of_real_images() -> None:
    raters = rater_folders([Path(str(DATA)) / "multi_annotator_cells" / "ExpertsAnnotations"])
    settings = RaterSettings(
        inverted=frozenset(raters), person_pattern=r"Person\d+", structures=(Structure(name="cell", values=(1,)),)
    )
    some = [f"B{i:02}" for i in (1, 9, 25, 31)]
    found = study_rater_folders(raters, None, settings, case_ids=some, workers=2, **WATCHED)
    (structure,) = found.structures
    assert structure.structure == "cell"
    assert len(set(found.people)) == 5
    assert {case.case_id for case in found.cases} == set(some)
    assert all(len(case.raters) == 10 for case in found.cases)
    assert 0.8 < structure.between_people.value < structure.within_people.value < 1
    assert sum("Person2_Amira and Person2_ImageJ are equal" in notice for notice in found.notices) == 1


@pytest.mark.data
@pytest.mark.skipif(not DATA, reason="DELINEATE_DATA is not set")
def test_masks_of_cropped_images_are_refused_with_their_sizes() -> None:
    folder = Path(str(DATA)) / "multi_annotator_cells"
    raters = {
        "crowd": folder / "CrowdsourcedAnnotations" / "mturk_annotation1-1",
        "expert": folder / "ExpertsAnnotations" / "Person1_Amira",
    }
    with pytest.raises(DatasetError) as told:
        study_rater_folders(raters, None, **WATCHED)
    assert len(told.value.faults) == 16  # one of the 17 is not cropped
