"""The silent arm of a study: predictions that stay hidden until the person's contours are recorded."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from clinical.study_examples import locked_study
from delineate.clinical.study import Study
from delineate.errors import ProtocolError, UsageError
from delineate.execution import Cancellation, Silent, Watched
from delineate.formats.datasets import Dataset
from delineate.formats.images import read_labels
from delineate.workflows.conduct_study import OutcomeFiles, record_outcome_files
from delineate.workflows.predict_silently import predict_silently, reveal
from delineate.workflows.run_dataset import RunOutcome

WATCHED = Watched(progress=Silent(), cancellation=Cancellation())


@pytest.fixture
def study(tmp_path: Path, dataset: Dataset) -> Study:
    names = [s.name for s in dataset.scheme.structures]
    return locked_study(
        tmp_path / "study",
        arms=["silent"],
        structures={s.name: s.values[0] for s in dataset.scheme.structures if len(s.values) == 1} or {names[0]: 1},
        endpoints=["edit_dice", "seconds"],
        primary={"endpoint": "edit_dice", "aim": "interval", "arms": ["silent"], "half_width": 0.1, "sd": 0.2},
        allocation={"method": "single", "seed": 0},
        stopping={"looks": 1},
    )


def test_predictions_stay_hidden_until_contours_are_recorded(
    study: Study, finished: RunOutcome, dataset: Dataset, tmp_path: Path
) -> None:
    case = dataset.testing[0]
    case_id = case.images[0].name.removesuffix("_0000" + dataset.file_ending)
    folder = case.images[0].parent
    before = sorted(p.name for p in folder.iterdir())
    assert predict_silently(study, finished.folder.model, folder, device="cpu", **WATCHED) == 0  # nobody is enrolled
    study.enrol(case_id, site="main", actor="nurse")
    assert predict_silently(study, finished.folder.model, folder, device="cpu", **WATCHED) == 1
    assert predict_silently(study, finished.folder.model, folder, device="cpu", **WATCHED) == 0
    assert sorted(p.name for p in folder.iterdir()) == before
    (hidden,) = study.hidden.iterdir()
    assert stat.S_IMODE(study.hidden.stat().st_mode) == 0o700
    assert stat.S_IMODE(hidden.stat().st_mode) == 0o600
    row = study.state().predicted[case_id]
    assert row["provenance"]["model"]
    assert len(row["images_sha256"]) == 1
    with pytest.raises(ProtocolError, match="stays hidden"):
        reveal(study, case_id, tmp_path / "shown", actor="curious")
    with pytest.raises(UsageError, match="hidden prediction"):
        record_outcome_files(
            study, OutcomeFiles(case_id=case_id, arm="silent", reader="reader 1", approved=case.labels, draft=hidden)
        )
    record_outcome_files(
        study, OutcomeFiles(case_id=case_id, arm="silent", reader="reader 1", approved=case.labels, seconds=600)
    )
    edit = study.state().outcomes[case_id, "silent"].edit
    assert edit is not None
    assert {s["structure"] for s in edit["structures"]} == set(study.protocol().structures)
    shown = reveal(study, case_id, tmp_path / "shown", actor="curious")
    np.testing.assert_array_equal(read_labels(shown).array, read_labels(hidden).array)
    assert study.ledger.entries()[-1].kind == "revealed"


def test_a_prediction_that_was_exchanged_is_refused(study: Study, finished: RunOutcome, dataset: Dataset) -> None:
    case = dataset.testing[0]
    case_id = case.images[0].name.removesuffix("_0000" + dataset.file_ending)
    study.enrol(case_id, site="main", actor="nurse")
    predict_silently(study, finished.folder.model, case.images[0].parent, device="cpu", **WATCHED)
    (hidden,) = study.hidden.iterdir()
    assert case.labels is not None
    hidden.write_bytes(case.labels.read_bytes())
    files = OutcomeFiles(case_id=case_id, arm="silent", reader="reader 1", approved=case.labels)
    with pytest.raises(ProtocolError, match="not the prediction that was stored"):
        record_outcome_files(study, files)
