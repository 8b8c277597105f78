"""The silent arm of a study: predictions that stay hidden until the person's contours are recorded."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from anatomy_models import Shape, write_submodel

from clinical.label_files import write_case
from clinical.study_examples import locked_study
from delineate.clinical.study import Study
from delineate.errors import ProtocolError, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.images import read_labels
from delineate.planning.anatomy import SubModel
from delineate.workflows.conduct_study import OutcomeFiles, record_outcome_files
from delineate.workflows.predict_silently import predict_silently, reveal

WATCHED = Watched(progress=Silent(), cancellation=Cancellation())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, as a trained model of nnU-Net."""
    names = ("Anterior", "Posterior")
    sub = SubModel(
        dataset_id=1,
        folder="Dataset001_Test",
        release="",
        trainer="nnUNetTrainer",
        configuration="3d_fullres",
        classes=names,
    )
    return write_submodel(tmp_path_factory.mktemp("models"), sub, (3.0, 1.0, 1.0), Shape())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_case(tmp_path / "files", "one", np.random.default_rng(0))
    return tmp_path / "files"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return locked_study(
        tmp_path / "study",
        arms=["silent"],
        endpoints=["edit_dice", "seconds"],
        primary={"endpoint": "edit_dice", "aim": "interval", "arms": ["silent"], "half_width": 0.1, "sd": 0.2},
        allocation={"method": "single", "seed": 0},
        stopping={"looks": 1},
    )


def outcome(files: Path, *, draft: Path | None = None) -> OutcomeFiles:
    approved = files / "approved" / "one.nii.gz"
    return OutcomeFiles(case_id="one", arm="silent", reader="reader 1", approved=approved, draft=draft, seconds=600)


def test_predictions_stay_hidden_until_contours_are_recorded(
    study: Study, model: Path, files: Path, tmp_path: Path
) -> None:
    images = files / "images"
    assert predict_silently(study, model, images, device="cpu", **WATCHED) == 0  # nobody is enrolled
    study.enrol("one", site="main", actor="nurse")
    with pytest.raises(UsageError, match="no hidden prediction yet"):
        record_outcome_files(study, outcome(files))
    assert predict_silently(study, model, images, device="cpu", **WATCHED) == 1
    assert predict_silently(study, model, images, device="cpu", **WATCHED) == 0
    assert [p.name for p in images.iterdir()] == ["one.nii.gz"]
    (hidden,) = study.hidden.iterdir()
    assert stat.S_IMODE(study.hidden.stat().st_mode) == 0o700
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o600
    row = study.state().predicted["one"]
    assert row["provenance"]["model"]
    assert len(row["images_sha256"]) == 1
    with pytest.raises(ProtocolError, match="stays hidden"):
        reveal(study, "one", tmp_path / "shown", actor="curious")
    with pytest.raises(UsageError, match="hidden prediction"):
        record_outcome_files(study, outcome(files, draft=hidden))
    record_outcome_files(study, outcome(files))
    edit = study.state().outcomes["one", "silent"].edit
    assert edit is not None
    assert {s["structure"] for s in edit["structures"]} == {"Anterior", "Posterior"}
    shown = reveal(study, "one", tmp_path / "shown", actor="curious")
    np.testing.assert_array_equal(read_labels(shown).array, read_labels(hidden).array)
    assert study.ledger.entries()[-1].kind == "revealed"


def test_a_prediction_that_was_exchanged_is_refused(study: Study, model: Path, files: Path) -> None:
    study.enrol("one", site="main", actor="nurse")
    predict_silently(study, model, files / "images", device="cpu", **WATCHED)
    (hidden,) = study.hidden.iterdir()
    hidden.write_bytes((files / "approved" / "one.nii.gz").read_bytes())
    with pytest.raises(ProtocolError, match="not the prediction that was stored"):
        record_outcome_files(study, outcome(files))


def test_a_study_without_a_silent_arm_predicts_nothing(tmp_path: Path, model: Path, files: Path) -> None:
    with pytest.raises(ProtocolError, match="no silent arm"):
        predict_silently(locked_study(tmp_path / "other"), model, files / "images", device="cpu", **WATCHED)
