from __future__ import annotations

import json
import math
import sys

import pytest

from delineate.training.history import METRICS_FILE, TENSORBOARD_FOLDER, History, read_history


def record(step: int) -> dict:
    return {"step": step, "loss": 1.5, "dice": {"left": 0.5, "right": math.nan}}


def test_records_are_one_json_object_per_line_and_nan_is_null(tmp_path):
    history = History(tmp_path, tensorboard=False)
    history.append(record(1))
    history.append(record(2))
    history.close()
    lines = (tmp_path / METRICS_FILE).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert read_history(tmp_path)[0]["dice"] == {"left": 0.5, "right": None}


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path):
    history = History(tmp_path, tensorboard=False)
    history.append(record(1))
    position = history.position
    history.append(record(2))
    history.close()
    history = History(tmp_path, position=position, step=1, tensorboard=False)
    history.append(record(3))
    history.close()
    assert [r["step"] for r in read_history(tmp_path)] == [1, 3]


def test_a_half_written_line_is_left_out(tmp_path):
    (tmp_path / METRICS_FILE).write_text('{"step": 1}\n{"step": ')
    assert read_history(tmp_path) == ({"step": 1},)
    assert read_history(tmp_path / "nowhere") == ()


def test_tensorboard_gets_the_numbers(tmp_path):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    history = History(tmp_path)
    history.append(record(1))
    history.close()
    files = list((tmp_path / TENSORBOARD_FOLDER).iterdir())
    assert any(b"dice/left" in path.read_bytes() for path in files)


def test_without_tensorboard_the_record_is_still_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    history = History(tmp_path)
    history.append(record(1))
    history.close()
    assert not (tmp_path / TENSORBOARD_FOLDER).exists()
    assert len(read_history(tmp_path)) == 1
