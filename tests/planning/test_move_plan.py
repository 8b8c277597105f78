from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import plan_to_json
from delineate.planning.planner import plan_dataset
from delineate.planning.presets import PRESETS
from delineate.planning.transfer import check_move, move_plan
from planning.datasets import DATASETS


def plan_of(name: str = "lowres", preset: str = "default"):
    return plan_dataset(DATASETS[name].fingerprint(), DATASETS[name].facts(), PRESETS[preset])


def test_only_names_and_reader_change() -> None:
    plan = plan_of()
    moved = move_plan(plan, dataset_name="Dataset009_Other", image_reader="NibabelIO", plans_name="Moved")
    back = move_plan(moved, dataset_name=plan.dataset_name, image_reader=plan.image_reader, plans_name=plan.plans_name)
    assert back == plan
    assert [c.data_identifier for c in moved.configurations] == [
        c.data_identifier.replace("nnUNetPlans", "Moved") for c in plan.configurations
    ]


def test_a_plan_that_shares_data_gets_identifiers_of_its_own() -> None:
    moved = move_plan(plan_of(preset="resenc-m"), dataset_name="D", image_reader="R", plans_name="Moved")
    assert moved.configuration("3d_fullres").data_identifier == "Moved_nnUNetPlans_3d_fullres"
    assert moved.configuration("3d_lowres").data_identifier == "Moved_3d_lowres"


def test_without_a_new_name_the_identifiers_stay() -> None:
    plan = plan_of()
    moved = move_plan(plan, dataset_name="D", image_reader=plan.image_reader)
    assert moved == replace(plan, dataset_name="D")


def test_channels_must_be_as_many_and_of_the_same_kind() -> None:
    plan = plan_of()
    channels = DATASETS["lowres"].facts().channel_names
    check_move(plan, channels)
    with pytest.raises(PlanError, match="is for 1 channel"):
        check_move(plan, (*channels, "PET"))
    other = "T1" if plan.configurations[0].normalization[0] == "ct" else "CT"
    with pytest.raises(PlanError, match=f"'{other}' would be normalised"):
        check_move(plan, (other,))


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("name", "preset", "identifier"),
    [("lowres", "default", "nnUNetPlans_from_1"), ("isotropic", "resenc-m", "Moved"), ("isotropic", "default", None)],
)
def test_the_file_is_nnunets(name, preset, identifier, tmp_path):
    plan = replace(plan_of(name, preset), dataset_name="Dataset001_Source", image_reader="NibabelIO")
    request = {"plans": plan_to_json(plan), "identifier": identifier, "ending": ".nii.gz"}
    asked, answered = tmp_path / "request.json", tmp_path / "answer.json"
    asked.write_text(json.dumps(request))
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    script = Path(__file__).with_name("move_plans_oracle_script.py")
    command = [interpreter, str(script), str(asked), str(answered), str(tmp_path / "nnunet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    moved = move_plan(plan, dataset_name="Dataset002_Target", image_reader="SimpleITKIO", plans_name=identifier)
    theirs = json.loads(answered.read_text())
    assert json.loads(json.dumps(plan_to_json(moved))) == theirs
