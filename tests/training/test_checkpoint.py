from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from delineate.errors import ModelError, ResourceError, UnsafeModelError
from delineate.training import checkpoint
from delineate.training.checkpoint import (
    LATEST_FILE,
    PREVIOUS_FILE,
    check_identity,
    has_checkpoint,
    load_checkpoint,
    read_payload,
    save_checkpoint,
    save_weights,
)


def payload(step: int) -> dict:
    return {"step": step, "network": {"w": torch.arange(1000.0) + step}, "words": ["a", None, (1, 2)]}


def two_checkpoints(folder: Path) -> None:
    save_checkpoint(folder, payload(1))
    save_checkpoint(folder, payload(2))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_round_trip(tmp_path):
    assert not has_checkpoint(tmp_path)
    save_checkpoint(tmp_path, payload(3))
    assert has_checkpoint(tmp_path)
    found = load_checkpoint(tmp_path)
    assert found["step"] == 3
    assert found["words"] == ["a", None, (1, 2)]
    assert torch.equal(found["network"]["w"], payload(3)["network"]["w"])
    assert sorted(p.name for p in tmp_path.iterdir()) == [LATEST_FILE]


def test_the_one_before_is_kept(tmp_path):
    two_checkpoints(tmp_path)
    assert load_checkpoint(tmp_path)["step"] == 2
    assert read_payload(tmp_path / PREVIOUS_FILE)["step"] == 1


def test_a_checkpoint_cut_in_half_falls_back_with_a_warning(tmp_path, caplog):
    two_checkpoints(tmp_path)
    cut_in_half(tmp_path / LATEST_FILE)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(tmp_path)["step"] == 1
    assert "checkpoint_latest.pt is damaged" in caplog.text
    assert "goes on from checkpoint_previous.pt (step 1)" in caplog.text


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path):
    two_checkpoints(tmp_path)
    path = tmp_path / LATEST_FILE
    content = bytearray(path.read_bytes())
    place = bytes(content).index(torch.arange(1000.0)[500:510].add(2).numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert load_checkpoint(tmp_path)["step"] == 1


def test_a_crash_between_the_two_renames_loses_nothing(tmp_path):
    two_checkpoints(tmp_path)
    (tmp_path / LATEST_FILE).replace(tmp_path / PREVIOUS_FILE)
    assert has_checkpoint(tmp_path)
    assert load_checkpoint(tmp_path)["step"] == 2


def test_no_whole_checkpoint_says_what_to_do(tmp_path):
    two_checkpoints(tmp_path)
    cut_in_half(tmp_path / LATEST_FILE)
    (tmp_path / PREVIOUS_FILE).write_bytes(b"")
    with pytest.raises(ModelError, match=r"No whole checkpoint is left .* Delete the checkpoint files"):
        load_checkpoint(tmp_path)


class Harmful:
    def __reduce__(self):
        return (os.system, ("echo harm",))


def test_code_in_a_checkpoint_is_refused(tmp_path):
    save_checkpoint(tmp_path, payload(1))
    path = tmp_path / LATEST_FILE
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickle.dumps(Harmful(), protocol=2) if name.endswith("data.pkl") else content)
    with pytest.raises(UnsafeModelError, match="could run code"):
        load_checkpoint(tmp_path)


def test_a_newer_format_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 99)
    save_checkpoint(tmp_path, payload(1))
    monkeypatch.undo()
    with pytest.raises(ModelError, match="has format 99"):
        load_checkpoint(tmp_path)


def test_a_foreign_file_is_told(tmp_path):
    torch.save([1, 2], tmp_path / LATEST_FILE)
    with pytest.raises(ModelError, match="is not a checkpoint of this program"):
        load_checkpoint(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_disk_is_told_and_the_checkpoints_stay(tmp_path, monkeypatch, buffered):
    two_checkpoints(tmp_path)
    opened = Path.open

    def full(self, mode="r", *args, **kwargs):
        if "w" not in mode:
            return opened(self, mode, *args, **kwargs)
        return open("/dev/full", mode, buffering=-1 if buffered else 0)  # noqa: PTH123

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ResourceError, match="disk is full"):
        save_checkpoint(tmp_path, payload(3))
    monkeypatch.undo()
    assert load_checkpoint(tmp_path)["step"] == 2
    assert read_payload(tmp_path / PREVIOUS_FILE)["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [LATEST_FILE, PREVIOUS_FILE]


def test_an_error_while_flushing_is_told_too(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ResourceError, match="disk is full"):
        save_weights(tmp_path / "best.pt", payload(1))
    assert not list(tmp_path.iterdir())


def identity(**recipe) -> str:
    return json.dumps({"recipe": {"iterations": 10, "seed": 1, **recipe}, "configuration": {"patch_size": [1, 2]}})


def test_the_same_training_passes():
    check_identity(Path("runs"), identity(), identity())


def test_another_training_is_named_by_its_differing_field():
    with pytest.raises(
        ModelError, match=r"recipe.seed was 1 and is now 2. Use the same settings .* another output folder"
    ):
        check_identity(Path("runs"), identity(), identity(seed=2))


def test_a_longer_training_is_pointed_to_extend():
    with pytest.raises(ModelError, match="--extend"):
        check_identity(Path("runs"), identity(), identity(iterations=20))
