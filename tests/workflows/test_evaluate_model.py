"""The flow of an evaluation on real files: what is measured, what is refused, and in which words."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

import delineate
from delineate.errors import DatasetError, DelineateError, Interrupted, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.datasets import Dataset
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.thresholds import Threshold
from delineate.metrics.table import METRICS_RELOADED, NNUNET
from delineate.workflows.evaluate_model import EvaluationRequest, evaluate_model
from delineate.workflows.evaluation_request import METRICS, read_structures
from evaluation_folders import SHAPE, SPACING, grid, plain_pair, two_organs, write_map, write_picture


def evaluate(predictions: Path, references: Path | None, out: Path, **wishes: object) -> Evaluation:
    return evaluate_model(EvaluationRequest(predictions=predictions, references=references, **wishes), out)  # type: ignore[arg-type]


def dice(first, second):
    return 2 * np.sum(first & second) / (first.sum() + second.sum())


def hd95(first, second):
    """Brute force over the border voxels."""
    surfaces = [np.argwhere(m & ~ndimage.binary_erosion(m)) * SPACING for m in (first, second)]
    distances = cdist(*surfaces)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


def row(evaluation: Evaluation, case: str, structure: str):
    (found,) = [c for c in evaluation.cases if c.case_id == case]
    return next(r for r in found.rows if r.name == structure)


def test_a_plain_folder_is_measured_and_written(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    found = evaluate(predictions, references, tmp_path / "out")
    truth = two_organs() == 1
    for case, shift in (("a", 0), ("b", 1), ("c", 2)):
        assert row(found, case, "liver").values["dice"] == pytest.approx(dice(two_organs(shift) == 1, truth))
    assert row(found, "c", "liver").values["hd95"] == pytest.approx(hd95(two_organs(2) == 1, truth))
    assert [r.name for r in found.table] == ["liver", "tumour"]
    assert found.metrics == METRICS
    assert not found.failed
    assert not found.planar
    assert found.calibrated
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "cases.csv", "structures.csv", "summary.json", "report.html"} <= written
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["mean"]["1"]["Dice"] == pytest.approx(found.table[0].metrics["dice"].mean)


def test_everything_in_the_files_is_what_was_found(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    found = evaluate(predictions, references, tmp_path / "out", command="delineate evaluate x", seed=7)
    content = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    assert (content["seed"], content["command"], content["policy"]) == (7, "delineate evaluate x", "worst value")
    assert content["tolerance"] == {"unit": "mm", "by_structure": {"liver": 2.0, "tumour": 2.0}}
    told = content["structures"][0]["metrics"]["dice"]
    assert told["mean"] == pytest.approx(found.table[0].metrics["dice"].mean)
    assert (told["n_used"], told["n_excluded"]) == (3, 0)
    assert content["cases"][0]["prediction"]["bytes"] == (predictions / "a.nii.gz").stat().st_size
    with (tmp_path / "out" / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert float(rows[2]["dice"]) == pytest.approx(row(found, "b", "liver").values["dice"], rel=1e-9)


def test_a_missing_and_a_damaged_prediction_count_with_the_worst_values(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path, dict.fromkeys("abcd", 0))
    (predictions / "a.nii.gz").unlink()
    (predictions / "b.nii.gz").write_bytes(b"")
    (predictions / "c.nii.gz").write_bytes((predictions / "d.nii.gz").read_bytes()[:60])
    write_map(predictions, "x", two_organs())
    diagonal = math.hypot(*(n * s for n, s in zip(SHAPE, SPACING, strict=True)))
    for policy in (None, NNUNET, METRICS_RELOADED):
        wishes = {} if policy is None else {"policy": policy}
        found = evaluate(predictions, references, tmp_path / "out", **wishes)
        assert [failure.case_id for failure in found.failed] == ["a", "b", "c"]
        assert "there is no prediction" in found.failed[0].reason
        assert "b.nii.gz" in found.failed[1].reason
        assert found.without_reference == ("x",)
        for case in "abc":
            values = row(found, case, "liver").values
            assert values["dice"] == values["nsd"] == values["precision"] == 0
            assert values["hd95"] == values["assd"] == pytest.approx(diagonal)
            assert values["relative_volume_error"] == -1
        assert found.table[0].metrics["dice"].n_used == 4
        assert found.table[0].metrics["dice"].mean == pytest.approx(0.25)
        assert found.table[0].metrics["hd95"].mean == pytest.approx(0.75 * diagonal)
        assert found.table[0].presence.false_negative == 3
    assert json.loads((tmp_path / "out" / "results.json").read_text())["failed"][0]["case_id"] == "a"


def test_a_failure_earns_nothing_for_a_structure_that_is_not_there(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    only_liver = np.where(two_organs() == 2, 1, two_organs()).astype(np.uint8)
    write_map(references, "a", only_liver)
    (predictions / "a.nii.gz").unlink()
    found = evaluate(predictions, references, tmp_path / "out", policy=METRICS_RELOADED)
    assert math.isnan(row(found, "a", "tumour").values["dice"])
    assert found.table[1].metrics["dice"].n_excluded == 1


def test_cases_without_a_prediction_can_be_left_out_on_request(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    (predictions / "a.nii.gz").unlink()
    found = evaluate(predictions, references, tmp_path / "out", some=True)
    assert [case.case_id for case in found.cases] == ["b", "c"]
    assert any("Left out on request" in notice and "(a)" in notice for notice in found.notices)


def test_other_grids_are_all_told_and_resampled_only_when_asked(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    coarse = two_organs()[:, ::2, ::2]
    write_map(predictions, "a", coarse, grid(coarse.shape, (3.0, 1.6, 2.2)))
    write_map(predictions, "b", two_organs(), grid(origin=(5.0, -7.0, 5.0)))
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out")
    words = told.value.diagnostics()
    assert "a.nii.gz: must lie on the reference's grid; found against expected: shape (4, 5, 6) against" in words
    assert "b.nii.gz" in words
    assert "origin (5, -7, 5) against (5, -7, 2) mm" in words
    assert "--resample" in words
    assert not (tmp_path / "out" / "results.json").exists()
    found = evaluate(predictions, references, tmp_path / "out", resample=True)
    assert found.resampled == ("a", "b")
    assert any("Resampled to the grid of the reference" in notice for notice in found.notices)
    moved = np.zeros(SHAPE, np.uint8)
    moved[1:] = two_organs()[:-1]  # one slice of 3 mm higher
    assert row(found, "b", "liver").values["dice"] == pytest.approx(dice(moved == 1, two_organs() == 1))


def test_a_prediction_elsewhere_is_not_resampled_to_nothing(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    write_map(predictions, "a", two_organs(), grid(origin=(500.0, -7.0, 2.0)))
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out", resample=True)
    assert "no place in common" in told.value.diagnostics()


@pytest.mark.parametrize("resample", [False, True])
def test_spacing_and_axes_in_the_wrong_order_are_recognised_and_never_resampled(tmp_path: Path, resample: bool) -> None:
    predictions, references = plain_pair(tmp_path)
    write_map(predictions, "a", two_organs(), grid(spacing=SPACING[::-1]))
    write_map(predictions, "b", np.ascontiguousarray(two_organs().transpose()), grid(SHAPE[::-1]))
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out", resample=resample)
    words = told.value.diagnostics()
    assert "its spacing (1.1, 0.8, 3) mm is (3, 0.8, 1.1) mm in another order" in words
    assert "saved with its axes exchanged" in words


def test_flips_that_no_header_tells_are_suspected(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    one_sided = two_organs()
    one_sided[:, :, 6:] = 0
    write_map(references, "a", one_sided)
    write_map(predictions, "a", np.ascontiguousarray(one_sided[:, :, ::-1]))
    found = evaluate(predictions, references, tmp_path / "out")
    assert "a (axis 2 flipped: Dice of the foreground 0.00 as stored, 1.00 if undone)" in found.notices[0]
    assert row(found, "a", "liver").values["dice"] == 0  # told, not repaired


def test_undeclared_values_are_told_by_value_with_voxels_files_and_remedies(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    wild = two_organs()
    wild[0, 0, :3] = 7
    write_map(predictions, "a", wild)
    write_map(predictions, "c", np.where(wild == 7, 9, wild).astype(np.uint8))
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out")
    words = told.value.diagnostics()
    assert "predictions hold the value 7, which is not declared (liver=1, tumour=2): 3 voxels in 1 file (a)" in words
    assert "the value 9" in words
    assert "--map 7=1" in words
    mapped = evaluate(predictions, references, tmp_path / "out", renamed=((7, 2), (9, 0)))
    assert row(mapped, "a", "tumour").values["precision"] < 1
    assert row(mapped, "c", "tumour").values["precision"] == 1
    dropped = evaluate(predictions, references, tmp_path / "out", repairs=frozenset({"undeclared-to-background"}))
    assert row(dropped, "a", "tumour").values["precision"] == 1


def test_undeclared_values_of_references_are_faults_too(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out", structures=read_structures(["liver=1"]))
    words = told.value.diagnostics()
    assert "references hold the value 2" in words
    assert "predictions hold the value 2" in words


def test_structures_can_be_named_as_regions_or_are_named_by_value(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    (references / "labels.json").unlink()
    found = evaluate(predictions, references, tmp_path / "out")
    assert [r.name for r in found.table] == ["label 1", "label 2"]
    assert any("named by their value" in notice for notice in found.notices)
    regions = read_structures(["whole=1,2", "tumour=2"])
    named = evaluate(predictions, references, tmp_path / "out", structures=regions)
    assert row(named, "b", "whole").values["dice"] == pytest.approx(dice(two_organs(1) > 0, two_organs() > 0))


def test_ignored_voxels_count_for_nobody(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    declared = {"labels": {"background": 0, "liver": 1, "tumour": 2, "ignore": 3}}
    (references / "labels.json").write_text(json.dumps(declared))
    unsure = two_organs()
    unsure[(unsure == 0) & (two_organs(2) == 1)] = 3
    unsure[(unsure == 1) & (two_organs(2) == 0)] = 3
    write_map(references, "c", unsure)
    found = evaluate(predictions, references, tmp_path / "out")
    assert row(found, "c", "tumour").values["precision"] == 1
    assert row(found, "c", "liver").values["dice"] == 1
    write_map(predictions, "c", unsure)
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out")
    assert "predictions hold the value 3" in told.value.diagnostics()


def test_values_with_gaps_and_a_declaration_above_the_folder(tmp_path: Path) -> None:
    for name in ("labelsTr", "predictions"):
        write_map(tmp_path / name, "a", np.where(two_organs() == 2, 4, two_organs()).astype(np.uint8))
    gaps = evaluate(tmp_path / "predictions", tmp_path / "labelsTr", tmp_path / "out", structures=())
    assert [r.name for r in gaps.table] == ["label 1", "label 4"]
    write_map(tmp_path / "labelsTr", "a", two_organs())
    write_map(tmp_path / "predictions", "a", two_organs())
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1, "tumour": 2}}))
    named = evaluate(tmp_path / "predictions", tmp_path / "labelsTr", tmp_path / "out")
    assert [r.name for r in named.table] == ["liver", "tumour"]


def test_binary_pictures_of_0_and_255_are_measured_in_pixels(tmp_path: Path) -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, 5:15] = 255
    guess = np.roll(truth, 2, axis=1)
    for case in "ab":
        write_picture(tmp_path / "references", case, truth)
        write_picture(tmp_path / "predictions", case, guess // 255 if case == "b" else guess)
    found = evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out")
    assert found.planar
    assert not found.calibrated
    assert row(found, "a", "label 1").values["dice"] == row(found, "b", "label 1").values["dice"] == pytest.approx(0.8)
    assert row(found, "a", "label 1").values["hd95"] == pytest.approx(2.0)
    assert any("0 and 255 alone were read as 0 and 1" in notice for notice in found.notices)
    assert any("pixels" in notice for notice in found.notices)
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    units = {metric["name"]: metric["unit"] for metric in content["metrics"]}
    assert (units["hd95"], units["volume_error"], units["dice"]) == ("px", "px2", "1")
    assert content["cases"][0]["structures"][0]["reference_volume"] == pytest.approx(100)
    sized = evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out", spacing_mm=(0.5, 0.25))
    assert sized.calibrated
    assert row(sized, "a", "label 1").values["hd95"] == pytest.approx(0.5)
    assert any("given by hand" in notice for notice in sized.notices)


def test_a_given_spacing_does_not_overrule_a_file(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out", spacing_mm=SPACING[::-1])
    words = told.value.diagnostics()
    assert "its header says a spacing of 3 x 0.8 x 1.1 mm; given was 1.1 x 0.8 x 3 mm" in words
    assert "the same numbers in another order" in words
    with pytest.raises(DatasetError, match="fault") as told:
        evaluate(predictions, references, tmp_path / "out", spacing_mm=(1.0, 1.0))
    assert "one number per axis" in told.value.diagnostics()
    assert evaluate(predictions, references, tmp_path / "out", spacing_mm=SPACING).calibrated


def test_a_picture_is_laid_on_a_placed_reference_and_told(tmp_path: Path) -> None:
    truth = np.zeros((20, 30), np.uint8)
    truth[5:15, 5:15] = 1
    write_map(tmp_path / "references", "a", truth, grid((20, 30), (0.5, 0.5)))
    write_picture(tmp_path / "predictions", "a", truth)
    found = evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out")
    assert row(found, "a", "label 1").values["dice"] == 1
    assert any("laid on the grid of their reference" in notice for notice in found.notices)
    write_picture(tmp_path / "predictions", "a", truth.T)
    with pytest.raises(DatasetError) as told:
        evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out")
    assert "axes exchanged" in told.value.diagnostics()


def test_a_volume_of_one_slice_is_measured_as_a_plane(tmp_path: Path) -> None:
    truth = np.zeros((1, 20, 30), np.uint8)
    truth[0, 5:15, 5:15] = 1
    write_map(tmp_path / "references", "a", truth)
    write_map(tmp_path / "predictions", "a", np.roll(truth, 3, axis=2))
    found = evaluate(tmp_path / "predictions", tmp_path / "references", tmp_path / "out")
    assert found.planar
    assert row(found, "a", "label 1").values["assd"] > 1  # not the zeros of a slice that is all surface
    assert any("measured as planes" in notice for notice in found.notices)


def test_names_with_role_words_fit_and_two_files_of_one_name_do_not(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    (predictions / "a.nii.gz").rename(predictions / "a_seg.nii.gz")
    (predictions / "c.nii.gz").rename(predictions / "c_0000.nii.gz")
    assert not evaluate(predictions, references, tmp_path / "out").failed
    (predictions / "b.nii").write_bytes(b"x")
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out")
    assert "b: b.nii, b.nii.gz" in told.value.diagnostics()


def test_one_label_map_in_a_folder_per_case(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    for case in "abc":
        (predictions / case).mkdir()
        (predictions / f"{case}.nii.gz").rename(predictions / case / "segmentation.nii.gz")
    assert not evaluate(predictions, references, tmp_path / "out").failed


def test_nothing_that_fits_says_what_was_expected(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    for case in "abc":
        (predictions / f"{case}.nii.gz").rename(predictions / f"scan_{case}.nii.gz")
    with pytest.raises(DatasetError, match=r"such as a\.nii\.gz; found scan_a\.nii\.gz"):
        evaluate(predictions, references, tmp_path / "out")
    with pytest.raises(DatasetError, match="expected predicted label maps"):
        evaluate(tmp_path / "nowhere", references, tmp_path / "out")
    with pytest.raises(UsageError, match="references must be named"):
        evaluate(predictions, None, tmp_path / "out")
    with pytest.raises(UsageError, match="same folder"):
        evaluate(references, references, tmp_path / "out")


def test_a_damaged_reference_is_a_fault_and_not_a_failure(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    (references / "a.nii.gz").write_bytes(b"nothing")
    with pytest.raises(DatasetError) as told:
        evaluate(predictions, references, tmp_path / "out")
    assert str(references / "a.nii.gz") in told.value.diagnostics()


def test_wrong_wishes_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    table = tmp_path / "cases.csv"
    table.write_text("case,site\na,x\n")
    threshold = Threshold(task="", structure="lung", metric="dice", value=0.9, source="")
    for wishes, told in (
        ({"metrics": ("dice", "beauty")}, "beauty"),
        ({"tolerance_mm": {"lung": 3.0}}, "lung"),
        ({"tolerance_mm": -1.0}, "0 or more"),
        ({"by": ("site",)}, "needs a table"),
        ({"by": ("scanner",), "table": table}, "it has: site"),
        ({"by": ("site:wide",), "table": table}, "column:width"),
        ({"others": {"predictions": predictions}}, "Two models"),
        ({"thresholds": (threshold,)}, "lung"),
        ({"repairs": frozenset({"pray"})}, "pray"),
        ({"seed": -1}, "0 or more"),
        ({"spacing_mm": (0.0, 1.0, 1.0)}, "a spacing is positive"),
        ({"metrics": ("dice", "dice")}, "once each"),
        ({"metrics": ()}, "once each"),
    ):
        with pytest.raises(DelineateError, match=told):
            evaluate(predictions, references, tmp_path / "out", **wishes)
    assert not (tmp_path / "out" / "measured").exists()


def test_tolerances_by_structure(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    found = evaluate(predictions, references, tmp_path / "out", tolerance_mm={"liver": 2.5, "*": 0.1})
    assert row(found, "c", "liver").values["nsd"] == pytest.approx(1.0)
    assert [r.tolerance_mm for r in found.cases[0].rows] == [2.5, 0.1]


def test_groups_patients_and_notices_of_a_table(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path, {f"c{i}": i % 3 for i in range(8)})
    table = tmp_path / "cases.csv"
    rows = [f"c{i},{'north' if i < 4 else 'south'},p{i // 2},{30 + i}" for i in range(7)]
    table.write_text("\n".join(["case,site,patient,age", *rows, "z9,north,p9,40"]))
    found = evaluate(
        predictions, references, tmp_path / "out", table=table, by=("site", "age:4", "size"), least_cases=2
    )
    assert [case.patient_id for case in found.cases[:4]] == ["p0", "p0", "p1", "p1"]
    sites = next(s for s in found.subgroups if (s.column, s.structure, s.metric) == ("site", "liver", "dice"))
    assert [(g.name, g.n_cases, g.n_patients) for g in sites.groups] == [
        ("north", 4, 2), ("south", 3, 2), ("not recorded", 1, 1),
    ]  # fmt: skip
    means = [row(found, f"c{i}", "liver").values["dice"] for i in range(4)]
    assert sites.groups[0].mean.value == pytest.approx(np.mean(means))
    ages = next(s for s in found.subgroups if s.column == "age")
    assert {g.name for g in ages.groups} == {"28 to under 32", "32 to under 36", "36 to under 40", "not recorded"}
    assert {s.column for s in found.subgroups} == {"site", "age", "size"}
    told = " ".join(found.notices)
    assert "rows of cases that are not evaluated: 1 row (z9)" in told
    assert "does not have 1 case (c7)" in told
    with (tmp_path / "out" / "subgroups.csv").open() as stream:
        written = next(csv.DictReader(stream))
    assert (written["column"], written["group"], written["n_cases"]) == ("site", "north", "4")


def test_another_model_on_the_same_cases(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path, {f"c{i}": 0 for i in range(8)})
    for i in range(8):
        write_map(tmp_path / "worse", f"c{i}", two_organs(1 + i % 3))
    (tmp_path / "worse" / "c7.nii.gz").unlink()
    found = evaluate(predictions, references, tmp_path / "out", others={"worse": tmp_path / "worse"}, name="ours")
    assert found.comparison is not None
    assert found.comparison.names == ("ours", "worse")
    liver = found.comparison.rows[0][1][0]
    assert liver.first.value == 1
    assert liver.difference.n_used == 8  # the missing case counts for the other model as well
    assert "ours is better" in found.comparison.sentences[0]
    assert any("worse: 1 case (c7) without a usable prediction" in notice for notice in found.notices)
    assert (tmp_path / "out" / "comparison.csv").read_text().startswith("first,second,structure,metric")
    alone = evaluate(predictions, references, tmp_path / "out", name="ours")
    assert alone.comparison is None
    assert not (tmp_path / "out" / "comparison.csv").exists()


def test_a_dataset_counts_the_part_that_was_predicted(phantoms: Path, dataset: Dataset, tmp_path: Path) -> None:
    for case in dataset.testing:
        assert case.labels is not None
        target = tmp_path / "predictions" / case.labels.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(case.labels.read_bytes())
    found = evaluate(tmp_path / "predictions", phantoms, tmp_path / "out", metrics=("dice",))
    assert len(found.cases) == len(dataset.testing)
    assert all(r.metrics["dice"].mean == 1 for r in found.table)
    assert any("6 training cases" in notice for notice in found.notices)
    training = dataset.training[0]
    assert training.labels is not None
    (tmp_path / "predictions" / training.labels.name).write_bytes(training.labels.read_bytes())
    both = evaluate(tmp_path / "predictions", phantoms, tmp_path / "out", metrics=("dice",))
    assert (len(both.cases), len(both.failed)) == (8, 5)


class Counting(Silent):
    """Stops after some steps of measuring."""

    def __init__(self, cancellation: Cancellation, after: int) -> None:
        self.left, self.cancellation = after, cancellation

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= steps
        if self.left <= 0:
            self.cancellation.request()


def test_an_interrupted_evaluation_goes_on_and_a_changed_file_is_measured_again(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    request, out = EvaluationRequest(predictions=predictions, references=references), tmp_path / "out"
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        evaluate_model(request, out, progress=Counting(cancellation, 2), cancellation=cancellation)
    stored = {path: path.stat().st_mtime_ns for path in (out / "measured").iterdir()}
    assert len(stored) == 2
    assert not (out / "results.json").exists()
    first = evaluate_model(request, out)
    assert all(path.stat().st_mtime_ns == time for path, time in stored.items())
    assert len(list((out / "measured").iterdir())) == 3
    write_map(predictions, "a", two_organs(3))
    second = evaluate_model(request, out)
    assert row(second, "a", "liver").values["dice"] < row(first, "a", "liver").values["dice"]
    for path in (out / "measured").iterdir():
        path.write_text("{}")
    assert evaluate_model(request, out).cases == second.cases


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    alone = evaluate(predictions, references, tmp_path / "one")
    assert evaluate(predictions, references, tmp_path / "two", workers=2) == alone


def fake_run(root: Path, dataset: Dataset, folds: dict[str, list[str]], **files: str) -> Path:
    """Make the files by which a run is known, and its validation predictions: the references themselves."""
    root.mkdir()
    for name in ("plans.json", "recipe.json"):
        (root / name).write_text("{}")
    (root / "run.json").write_text(json.dumps({"dataset": str(dataset.root)}))
    ids = [case.case_id for case in dataset.training]
    splits = [{"train": [i for i in ids if i not in held], "val": held} for held in folds.values()]
    (root / "splits_final.json").write_text(json.dumps(splits))
    by_id = {case.case_id: case for case in dataset.training}
    for fold, held in folds.items():
        if fold not in files.get("left_out", ""):
            target = root / f"fold_{fold}" / "validation"
            target.mkdir(parents=True)
            for case in held:
                labels = by_id[case].labels
                assert labels is not None
                (target / labels.name).write_bytes(labels.read_bytes())
    return root


def test_a_run_is_evaluated_as_a_cross_validation(dataset: Dataset, tmp_path: Path) -> None:
    ids = [case.case_id for case in dataset.training]
    run = fake_run(tmp_path / "run", dataset, {"0": ids[:2], "1": ids[2:4], "2": ids[4:]}, left_out="2")
    (run / "fold_1" / "validation" / f"{ids[3]}.nii.gz").unlink()
    found = evaluate(run, None, tmp_path / "out", by=("fold",), least_cases=1, metrics=("dice",))
    assert [case.case_id for case in found.cases] == ids[:4]
    assert [failure.case_id for failure in found.failed] == [ids[3]]
    folds = found.subgroups[0]
    assert (folds.column, folds.worst, {g.name: g.mean.value for g in folds.groups}) == (
        "fold",
        "fold 1",
        {"fold 0": 1, "fold 1": 0.5},
    )
    assert any("predicted by the fold that was not trained on it (0, 1)" in notice for notice in found.notices)
    assert any("Folds without predictions are not part of this: 2" in notice for notice in found.notices)
    twice = run / "fold_1" / "validation" / f"{ids[0]}.nii.gz"
    twice.write_bytes((run / "fold_0" / "validation" / twice.name).read_bytes())
    with pytest.raises(DatasetError, match="held out by one fold") as told:
        evaluate(run, None, tmp_path / "out")
    assert f"{ids[0]}: folds 0, 1" in told.value.diagnostics()


def test_nnunets_folder_of_a_trained_model_needs_the_references(dataset: Dataset, tmp_path: Path) -> None:
    ids = [case.case_id for case in dataset.training]
    folder = fake_run(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres", dataset, {"0": ids[:3], "1": ids[3:]})
    for name in ("run.json", "splits_final.json", "recipe.json"):
        (folder / name).unlink()
    with pytest.raises(UsageError, match="references must be named"):
        evaluate(folder, None, tmp_path / "out")
    found = evaluate(folder, dataset.root, tmp_path / "out", metrics=("dice",))
    assert (len(found.cases), len(found.failed)) == (6, 0)


def test_a_run_that_predicted_nothing_says_how_to(dataset: Dataset, tmp_path: Path) -> None:
    ids = [case.case_id for case in dataset.training]
    run = fake_run(tmp_path / "run", dataset, {"0": ids[:3]}, left_out="0")
    with pytest.raises(DatasetError, match="delineate report"):
        evaluate(run, None, tmp_path / "out")


def test_the_python_door(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    found = delineate.evaluate(predictions, str(references), out=tmp_path / "out", metrics=["dice"], by=["size"])
    assert found.table[0].metrics["dice"].n_used == 3
    request = delineate.EvaluationRequest(predictions=predictions, references=references, metrics=("dice",))
    assert delineate.evaluate(request, out=tmp_path / "out").table == found.table


def test_label_maps_in_sub_folders_are_called_by_their_names(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    for case, part in (("a", "one"), ("b", "one"), ("c", "two")):
        (references / part).mkdir(exist_ok=True)
        (references / f"{case}.nii.gz").rename(references / part / f"{case}.nii.gz")
    found = evaluate(predictions, references, tmp_path / "out", metrics=("dice",))
    assert [case.case_id for case in found.cases] == ["a", "b", "c"]


def test_a_dataset_with_faults_is_not_taken_for_label_maps(tmp_path: Path) -> None:
    predictions, references = plain_pair(tmp_path)
    for name in ("images", "labels"):
        write_map(tmp_path / "set" / name, "a", np.where(two_organs() == 2, 4, two_organs()).astype(np.uint8))
    with pytest.raises(DatasetError, match="without gaps"):
        evaluate(predictions, tmp_path / "set", tmp_path / "out")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match="layout is not understood"):
        evaluate(predictions, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(DatasetError, match="found nothing"):
        evaluate(predictions, references / "nowhere", tmp_path / "out")


def test_an_evaluation_needs_no_torch() -> None:
    code = "import sys, delineate.workflows.evaluate_model\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
