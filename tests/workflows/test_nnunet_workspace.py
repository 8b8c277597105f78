from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from delineate.errors import DatasetError, ImageReadError, PlanError, UnsafeModelError, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.images import read_labels, write_labels
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.nnunet.workspace import NnunetDataset, NnunetFolders, find_dataset, find_datasets
from delineate.workflows.nnunet_workspace import (
    PlanSettings,
    extract_fingerprint,
    open_prepared,
    plan_experiment,
    preprocess,
    split_of,
    splits_of,
    store_of,
)
from workflows.nnunet_folders import NAME, folders_in, write_raw_dataset

WATCHED = Watched(progress=Silent(), cancellation=Cancellation())
FULL = "3d_fullres"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> NnunetDataset:
    """A dataset with everything that plan_and_preprocess writes."""
    folders = folders_in(tmp_path_factory.mktemp("nnunet"))
    assert folders.raw is not None
    write_raw_dataset(folders.raw)
    place = find_dataset(folders, "7")
    extract_fingerprint(place, **WATCHED)
    plan_experiment(place, PlanSettings())
    preprocess(place, "nnUNetPlans", {FULL: 1}, **WATCHED)
    return place


@pytest.fixture
def place(planned: NnunetDataset, tmp_path: Path) -> NnunetDataset:
    """The same in folders of this test's own."""
    root = planned.raw.parent.parent
    shutil.copytree(root, tmp_path / "nnunet", dirs_exist_ok=True)
    return NnunetDataset(name=NAME, folders=folders_in(tmp_path / "nnunet"))


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_dataset_is_found_by_number_and_by_name_in_any_folder(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    (tmp_path / "results" / "Dataset012_Liver").mkdir(parents=True)
    assert find_dataset(folders, "12").name == find_dataset(folders, "012").name == "Dataset012_Liver"
    assert find_dataset(folders, "Dataset099_New").name == "Dataset099_New"


def test_unknown_and_ambiguous_numbers_are_all_told(tmp_path: Path) -> None:
    for name in ("raw/Dataset003_A", "preprocessed/Dataset003_B", "raw/Dataset004_C"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UsageError) as told:
        find_datasets(folders_in(tmp_path), ["3", "4", "5", "liver"])
    text = str(told.value)
    assert "Dataset003_A, Dataset003_B" in text
    assert "number 5" in text
    assert "'liver'" in text
    assert "Dataset004_C" not in text


def test_a_folder_that_is_needed_and_not_set_is_named() -> None:
    place = NnunetDataset(name=NAME, folders=NnunetFolders(preprocessed=Path("p")))
    assert place.plan("nnUNetPlans") == Path("p") / NAME / "nnUNetPlans.json"
    with pytest.raises(UsageError, match="nnUNet_raw"):
        _ = place.raw
    with pytest.raises(UsageError, match="nnUNet_results"):
        place.model("nnUNetTrainer", "nnUNetPlans", "2d")


# --- plan and prepare ------------------------------------------------------------------------------------------------


def test_everything_lies_where_nnunet_looks(planned: NnunetDataset) -> None:
    found = {path.relative_to(planned.preprocessed).as_posix() for path in planned.preprocessed.rglob("*.*")}
    assert {
        "dataset.json",
        "dataset_fingerprint.json",
        "nnUNetPlans.json",
        "gt_segmentations/case_00.nii.gz",
        "nnUNetPlans_3d_fullres/case_00.b2nd",
        "nnUNetPlans_3d_fullres/case_00_seg.b2nd",
        "nnUNetPlans_3d_fullres/case_00.pkl",
    } <= found
    assert json.loads(planned.declaration.read_text()) == json.loads((planned.raw / "dataset.json").read_text())


def test_a_configuration_that_the_plan_lacks_is_told_and_ready_cases_are_kept(place: NnunetDataset) -> None:
    assert preprocess(place, "nnUNetPlans", {FULL: 1, "3d_lowres": 1}, **WATCHED) == {FULL: 0, "3d_lowres": None}


def test_changed_and_vanished_cases_are_prepared_anew(place: NnunetDataset) -> None:
    changed = place.raw / "labelsTr" / "case_01.nii.gz"
    labels = read_labels(changed)
    write_labels(changed, replace(labels, array=np.where(labels.array == 2, 1, labels.array)))
    later = changed.stat().st_mtime + 100
    os.utime(changed, (later, later))
    (place.raw / "imagesTr" / "case_05_0000.nii.gz").unlink()
    (place.raw / "labelsTr" / "case_05.nii.gz").unlink()
    assert preprocess(place, "nnUNetPlans", {FULL: 1}, **WATCHED) == {FULL: 1}
    assert {path.name[:7] for path in place.prepared("nnUNetPlans_3d_fullres").glob("*.*")} == {
        f"case_{i:02d}" for i in range(5)
    }
    copied = read_labels(place.references / "case_01.nii.gz").array
    np.testing.assert_array_equal(copied, read_labels(changed).array)


def test_the_fingerprint_is_kept_unless_asked(place: NnunetDataset) -> None:
    place.fingerprint.write_text("{}")
    extract_fingerprint(place, **WATCHED)
    assert place.fingerprint.read_text() == "{}"
    extract_fingerprint(place, clean=True, **WATCHED)
    assert "spacings" in place.fingerprint.read_text()


def test_plan_settings_change_the_plan(place: NnunetDataset) -> None:
    settings = PlanSettings(
        planner="nnUNetPlannerResEncM", memory_gb=4.0, target_spacing_mm=(2.0, 1.0, 1.0), plans_name="Mine"
    )
    plan = plan_experiment(place, settings)
    assert place.plan("Mine").exists()
    assert plan == read_plan(place.plan("Mine"))
    assert plan.configuration(FULL).spacing_mm == (2.0, 1.0, 1.0)
    assert plan.configuration(FULL).architecture.kind == "residual_unet"


def test_own_configurations_in_a_plans_file_survive_planning(place: NnunetDataset) -> None:
    path = place.plan("nnUNetPlans")
    content = json.loads(path.read_text())
    content["configurations"]["mine"] = {"inherits_from": FULL, "batch_size": 3}
    path.write_text(json.dumps(content))
    plan_experiment(place, PlanSettings())
    assert read_plan(path).configuration("mine").batch_size == 3


def test_an_unknown_planner_is_refused_with_those_that_there_are(place: NnunetDataset) -> None:
    with pytest.raises(UsageError, match="nnUNetPlannerResEncL"):
        plan_experiment(place, PlanSettings(planner="MyPlanner"))


def test_planning_without_a_fingerprint_names_it(place: NnunetDataset) -> None:
    place.fingerprint.unlink()
    with pytest.raises(PlanError, match=r"dataset_fingerprint\.json"):
        plan_experiment(place, PlanSettings())


def test_the_users_splits_are_taken_and_guarded(place: NnunetDataset) -> None:
    own = [{"train": ["case_00", "case_01"], "val": ["case_02"]}]
    (place.raw / "splits_final.json").write_text(json.dumps(own))
    plan_experiment(place, PlanSettings())
    assert split_of(place, "0", tuple(f"case_{i:02d}" for i in range(6))).validation == ("case_02",)
    place.splits.write_text(json.dumps([{"train": ["case_00"], "val": ["case_02"]}]))
    with pytest.raises(DatasetError, match="fold 0"):
        plan_experiment(place, PlanSettings())


# --- prepared cases --------------------------------------------------------------------------------------------------


def test_splits_are_made_once_and_a_fold_beyond_them_is_drawn(place: NnunetDataset) -> None:
    ids = tuple(f"case_{i:02d}" for i in range(6))
    assert len(splits_of(place, ids)) == 5
    assert place.splits.exists()
    drawn = split_of(place, "7", ids)
    assert (len(drawn.train), len(drawn.validation)) == (4, 2)
    assert set(drawn.train) | set(drawn.validation) == set(ids)
    assert split_of(place, "all", ids).train == ids
    with pytest.raises(UsageError, match="'first'"):
        split_of(place, "first", ids)


def test_prepared_cases_open_without_the_raw_data(place: NnunetDataset) -> None:
    shutil.rmtree(place.raw)
    plan = read_plan(place.plan("nnUNetPlans"))
    dataset, store = open_prepared(place, plan, plan.configuration(FULL))
    assert [case.case_id for case in dataset.training] == [f"case_{i:02d}" for i in range(6)]
    assert dataset.scheme.structures[1].name == "small"
    assert store.open("case_03").labels.shape == store.open("case_03").array.shape[1:]


def test_cases_of_nnunet_are_adopted_as_they_are(place: NnunetDataset) -> None:
    """Without our own files beside them prepared cases are just what nnU-Net would have written."""
    plan = read_plan(place.plan("nnUNetPlans"))
    configuration = plan.configuration(FULL)
    _, ours = open_prepared(place, plan, configuration)
    before = {case_id: ours.open(case_id) for case_id in ours.case_ids()}
    expected = {i: (stored.trace, dict(stored.locations), stored.location_labels) for i, stored in before.items()}
    shutil.rmtree(ours.folder / "delineate")
    assert store_of(place, plan, configuration).case_ids() == ()
    _, adopted = open_prepared(place, plan, configuration)
    assert adopted.case_ids() == tuple(expected)
    for case_id, (trace, locations, groups) in expected.items():
        stored = adopted.open(case_id)
        assert stored.trace == trace
        assert stored.location_labels == groups
        for key, voxels in locations.items():
            np.testing.assert_array_equal(stored.locations[key], voxels)


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_malicious_file_beside_a_case_is_refused_and_not_run(place: NnunetDataset, tmp_path: Path) -> None:
    plan = read_plan(place.plan("nnUNetPlans"))
    store = store_of(place, plan, plan.configuration(FULL))
    shutil.rmtree(store.folder / "delineate")
    (store.folder / "case_02.pkl").write_bytes(pickle.dumps({"spacing": Payload(tmp_path / "executed")}))
    with pytest.raises(UnsafeModelError, match="system"):
        open_prepared(place, plan, plan.configuration(FULL))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({"spacing": 1}), pickle.dumps([1])])
def test_a_damaged_file_beside_a_case_is_named(content: bytes, place: NnunetDataset) -> None:
    plan = read_plan(place.plan("nnUNetPlans"))
    store = store_of(place, plan, plan.configuration(FULL))
    shutil.rmtree(store.folder / "delineate")
    (store.folder / "case_02.pkl").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"case_02\.pkl"):
        open_prepared(place, plan, plan.configuration(FULL))


def test_cases_of_another_plan_are_told(place: NnunetDataset) -> None:
    plan_experiment(place, PlanSettings(target_spacing_mm=(3.0, 2.0, 2.0)))
    plan = read_plan(place.plan("nnUNetPlans"))
    with pytest.raises(UsageError, match=r"6 cases damaged or prepared for another plan.*nnUNetv2_preprocess"):
        open_prepared(place, plan, plan.configuration(FULL))


def test_nothing_prepared_is_told(place: NnunetDataset) -> None:
    plan = read_plan(place.plan("nnUNetPlans"))
    with pytest.raises(UsageError, match=r"found none.*nnUNetv2_preprocess"):
        open_prepared(place, plan, plan.configuration("2d"))
