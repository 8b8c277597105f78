"""Folds that leave one site out: planned, trained, told in the report, and compared with runs that knew the sites."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cascade_run import SETTINGS, network

from delineate.case import LabelMap
from delineate.cli.run_options import read_folds
from delineate.errors import DatasetError, PlanError, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.datasets import open_dataset
from delineate.formats.datasets.phantom import write_phantom_dataset
from delineate.formats.fold_groups_json import read_fold_groups
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet.splits_json import read_splits, write_splits
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.site_shift import SiteShift
from delineate.phantoms import SCANNERS
from delineate.planning.splits import Split
from delineate.workflows.case_groups import case_groups
from delineate.workflows.compare_sites import SitesRequest, compare_sites
from delineate.workflows.plan_dataset import named_folds, split_of
from delineate.workflows.resume_run import open_run, report_run, train_run
from delineate.workflows.run_dataset import plan_run
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.split_rule import SplitRule, split_rule

BY_SCANNER = replace(SETTINGS, split=SplitRule(column="Scanner"))
WATCHED = Watched(progress=Silent(), cancellation=Cancellation())


@pytest.fixture(scope="module")
def torsos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven cases of six patients on two scanners, each patient on one; torso_0003 has two cases."""
    folder = tmp_path_factory.mktemp("sites") / "torsos"
    write_phantom_dataset(
        folder, cases=7, held_out=0, scale=3.0, scanners=SCANNERS[:2], one_scanner=True, structures=("liver", "spleen")
    )
    return folder


@pytest.fixture(scope="module")
def by_scanner(torsos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "by_scanner"
    plan_run(torsos, root, BY_SCANNER)
    return root


@pytest.fixture(scope="module")
def by_patient(torsos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "by_patient"
    plan_run(torsos, root, SETTINGS)
    return root


def scanners(torsos: Path) -> dict[str, str]:
    with (torsos / "patients.csv").open() as stream:
        return {row["case"]: row["scanner"] for row in csv.DictReader(stream)}


def test_each_fold_holds_out_one_scanner_and_the_folder_says_which(torsos: Path, by_scanner: Path) -> None:
    folder, scanner_of = RunFolder(root=by_scanner), scanners(torsos)
    groups = read_fold_groups(folder.fold_groups)
    assert (groups.column, groups.names) == ("scanner", ("sharp", "soft"))
    for name, split in zip(groups.names, read_splits(folder.splits), strict=True):
        assert {scanner_of[i] for i in split.validation} == {name}
        assert {scanner_of[i] for i in split.train} == {"sharp", "soft"} - {name}
    assert set(json.loads(folder.splits.read_text())[0]) == {"train", "val"}  # nnU-Net's form, nothing else


def test_a_planned_run_is_read_back_with_its_groups(by_scanner: Path) -> None:
    run = open_run(by_scanner)
    assert run.planned.title("1") == "fold 1 (scanner soft)"
    assert run.planned.title("all") == "fold all"
    assert named_folds(run.planned, ("every",)) == ("0", "1")
    assert named_folds(run.planned, ("1", "every", "all")) == ("1", "0", "all")


def test_planning_again_with_the_same_table_changes_nothing(torsos: Path, by_scanner: Path) -> None:
    before = RunFolder(root=by_scanner).splits.read_bytes()
    _, words = plan_run(torsos, by_scanner, replace(BY_SCANNER, split=SplitRule(column="scanner")))
    assert words[-1] == "Folds leave one scanner out: 0: sharp; 1: soft."
    assert RunFolder(root=by_scanner).splits.read_bytes() == before


def test_another_strategy_in_the_same_folder_is_refused(torsos: Path, by_scanner: Path, by_patient: Path) -> None:
    with pytest.raises(UsageError, match=r"folds that leave one scanner out .* \(now folds divided by patient\)"):
        plan_run(torsos, by_scanner, SETTINGS)
    with pytest.raises(UsageError, match=r"folds divided by patient \(now folds that leave one scanner out"):
        plan_run(torsos, by_patient, BY_SCANNER)


def test_other_groups_of_the_same_column_are_refused(torsos: Path, by_scanner: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("case,scanner\n" + "".join(f"{i},{i[-3]}\n" for i in scanners(torsos)))
    with pytest.raises(UsageError, match="other groups than the table now says"):
        plan_run(torsos, by_scanner, replace(BY_SCANNER, split=SplitRule(column="scanner", table=other)))


def test_a_run_of_before_the_choice_goes_on(torsos: Path, by_patient: Path) -> None:
    for path in (RunFolder(root=by_patient).settings, RunFolder(root=by_patient).shared_settings):
        content = json.loads(path.read_text())
        content.pop("split_by")
        path.write_text(json.dumps(content))
    plan_run(torsos, by_patient, SETTINGS)


def test_patients_on_two_scanners_are_named(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"1 patient\(s\) are in several: torso_0003 in sharp .* and soft"):
        plan_run(phantoms, tmp_path / "run", BY_SCANNER)


def test_a_column_that_is_not_there_says_which_are(torsos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'site' needs a table .* has scanner\. Name one with --table"):
        plan_run(torsos, tmp_path / "run", replace(SETTINGS, split=SplitRule(column="site")))
    with pytest.raises(DatasetError, match="there is none of that name"):
        plan_run(torsos, tmp_path / "run", replace(SETTINGS, split=SplitRule(column="a", table=tmp_path / "no.csv")))
    # a slip does not claim the folder
    with pytest.raises(UsageError, match="--table needs --split-by"):
        split_rule(None, tmp_path / "no.csv")


def test_cases_of_unknown_scanner_are_a_fold_and_told(
    torsos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "cases.csv"
    known = {i: scanner for i, scanner in scanners(torsos).items() if i != "torso_0000_0"}
    table.write_text("case,scanner\n" + "".join(f"{i},{s}\n" for i, s in known.items()) + "torso_0000_0,n/a\n")
    plan_run(torsos, tmp_path / "run", replace(BY_SCANNER, split=SplitRule(column="scanner", table=table)))
    groups = read_fold_groups(RunFolder(root=tmp_path / "run").fold_groups)
    assert groups.names == ("sharp", "soft", "not recorded")
    assert groups.not_recorded == ("torso_0000_0",)
    assert "no scanner is recorded for 1 case(s) (torso_0000_0)" in caplog.text


def test_a_table_of_participants_serves_all_cases_of_a_patient(torsos: Path, tmp_path: Path) -> None:
    table = tmp_path / "participants.csv"
    table.write_text("patient_id,id,site\n" + "".join(f"x,torso_{i:04d},{'AB'[i % 2]}\n" for i in range(6)))
    cases = open_dataset(torsos).training
    assert case_groups(cases, torsos, "SITE", table).group_of == {
        case.case_id: "AB"[int(case.patient_id[-1]) % 2] for case in cases
    }


def test_words_for_folds() -> None:
    assert read_folds(["every"]) == ("every",)
    assert read_folds(["5fold"]) == ("0", "1", "2", "3", "4")
    with pytest.raises(UsageError, match="'every'"):
        read_folds(["each"])


@pytest.mark.slow
def test_every_fold_is_trained_and_the_report_says_which_is_which(torsos: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    plan_run(torsos, root, BY_SCANNER)
    path = RunFolder(root=root).recipe
    configuration, recipe = read_recipe(path)
    tiny = replace(configuration, patch_size=(16, 16, 16), batch_size=2, architecture=network(3))
    short = replace(recipe, iterations=4, iterations_per_epoch=2, validation_batches=1, mirror_axes=())
    write_recipe(path, tiny, short)
    trained = train_run(root, folds=("every",), device="cpu")
    assert list(trained.folds) == ["0", "1"]
    report_run(root, device="cpu")
    page = RunFolder(root=root).report.read_text(encoding="utf-8")
    assert "fold 0 (scanner sharp)" in page
    assert "Folds leave one scanner out" in page


# known and unseen -------------------------------------------------------------------------------------------------


def predict(torsos: Path, root: Path, shift: int, fold: str | None = None) -> None:
    """Write predicted validation cases: the references, moved along x."""
    dataset, folder = open_dataset(torsos), RunFolder(root=root)
    ids = [case.case_id for case in dataset.training]
    folds = {fold: ids} if fold else {str(i): s.validation for i, s in enumerate(read_splits(folder.splits))}
    for name, held_out in folds.items():
        for case in (case for case in dataset.training if case.case_id in held_out):
            assert case.labels is not None
            truth = read_labels(case.labels)
            moved = LabelMap(array=np.roll(truth.array, shift, axis=2), grid=truth.grid)
            write_labels(folder.validation(name) / f"{case.case_id}.nii.gz", moved)


@pytest.fixture(scope="module")
def pair(
    torsos: Path, by_patient: Path, by_scanner: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A run that knew the scanners (perfect) and one that did not (moved by a voxel)."""
    folder = tmp_path_factory.mktemp("pair")
    known, unseen = (shutil.copytree(run, folder / run.name) for run in (by_patient, by_scanner))
    predict(torsos, known, 0)
    predict(torsos, unseen, 1)
    return known, unseen


def compare(known: Path, unseen: Path, out: Path, *, own_patients: bool = False) -> Evaluation:
    request = SitesRequest(known=known, unseen=unseen, by="scanner", metrics=("dice",), own_patients=own_patients)
    return compare_sites(request, out, **WATCHED)


def moved_dice(torsos: Path, value: int) -> dict[str, float]:
    found = {}
    for case in open_dataset(torsos).training:
        assert case.labels is not None
        truth = read_labels(case.labels).array == value
        found[case.case_id] = 2 * float((truth & np.roll(truth, 1, axis=2)).sum()) / (2 * float(truth.sum()))
    return found


def of(found: Evaluation, structure: str) -> SiteShift:
    return next(shift for shift in found.shifts if shift.structure == structure)


def test_the_drop_is_that_of_the_predictions(torsos: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    found = compare(*pair, tmp_path / "out")
    for value, structure in enumerate(("liver", "spleen"), start=1):
        expected, shift = moved_dice(torsos, value), of(found, structure)
        assert shift.paired
        assert shift.known.value == pytest.approx(1.0)
        assert shift.drop_points.value == pytest.approx(100 * (1 - np.mean(list(expected.values()))))
        scanner_of = scanners(torsos)
        for site, cases, _, mean in shift.by_site:
            inside = [dice for i, dice in expected.items() if scanner_of[i] == site]
            assert (cases, mean) == (len(inside), pytest.approx(np.mean(inside)))
    assert {s.column for s in found.subgroups} == {"scanner"}
    assert any(
        "7 case(s) were predicted by trainings on other patients of the same scanner" in n for n in found.notices
    )
    told = json.loads((tmp_path / "out" / "results.json").read_text())["shifts"][0]
    assert told["drop_points"]["value"] == pytest.approx(found.shifts[0].drop_points.value)
    assert [site["site"] for site in told["by_site"]] == ["sharp", "soft"]
    with (tmp_path / "out" / "shifts.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["structure"], row["site"]) for row in rows][:3] == [
        ("liver", "all"),
        ("liver", "sharp"),
        ("liver", "soft"),
    ]
    assert float(rows[0]["drop"]) == pytest.approx(found.shifts[0].drop_points.value)
    assert "Unseen sites" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "known" / "results.json").is_file()


def test_runs_in_the_wrong_order_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"7 of 7 cases were predicted by trainings that did .* name it second"):
        compare(*reversed(pair), tmp_path / "out")


def test_a_run_that_knew_no_site_proves_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="none of 7 cases was predicted by a training on other patients"):
        compare(pair[1], pair[1], tmp_path / "out")


def test_training_on_every_case_is_an_upper_bound_that_must_be_asked_for(
    torsos: Path, by_patient: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    everything = shutil.copytree(by_patient, tmp_path / "everything")
    predict(torsos, everything, 0, fold="all")
    with pytest.raises(UsageError, match="7 were predicted by trainings that held the patient itself; --own-patients"):
        compare(everything, pair[1], tmp_path / "out")
    found = compare(everything, pair[1], tmp_path / "out", own_patients=True)
    assert of(found, "liver").drop_points.n_used == 7
    assert any("optimistic bound" in notice for notice in found.notices)


def test_cases_whose_site_or_patient_the_known_run_saw_otherwise_are_left_out(
    torsos: Path, by_patient: Path, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    known = shutil.copytree(by_patient, tmp_path / "by_hand")
    ids = sorted(scanners(torsos))
    # torso_0003 has the cases _0 and _1: one trains while the other validates
    held_out = {"torso_0003_1", "torso_0000_0"}
    split = Split(train=tuple(i for i in ids if i not in held_out), validation=tuple(sorted(held_out)))
    write_splits(known / "splits_final.json", (split,))
    predict(torsos, known, 0)
    found = compare(known, pair[1], tmp_path / "out")
    assert of(found, "liver").drop_points.n_used == 1
    assert any("left out, their own patient was trained on: torso_0003_1" in notice for notice in found.notices)


def test_a_run_without_predictions_says_what_to_do(by_patient: Path, pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected predicted validation cases"):
        compare(by_patient, pair[1], tmp_path / "out")


def test_one_patient_alone_has_no_folds_but_can_be_trained_on(tmp_path: Path) -> None:
    write_phantom_dataset(tmp_path / "one", cases=1, held_out=0, scale=3.0, structures=("liver",))
    plan_run(tmp_path / "one", tmp_path / "run", SETTINGS)
    planned = open_run(tmp_path / "run").planned
    every = split_of(planned, "all")
    assert len(every.train) == 1
    assert every.train == every.validation
    for wrong in (lambda: split_of(planned, "0"), lambda: named_folds(planned, ("every",))):
        with pytest.raises(PlanError, match=r"of one patient.*--fold all"):
            wrong()
