"""``kill -9`` while a model is exported: the next call leaves nothing of the first behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

MODEL = "Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres"
CHECKPOINT = f"{MODEL}/fold_0/checkpoint_final.pth"
SIZE = 48 * 2**20
"""Bytes that cannot be compressed: enough work to be killed in."""


def export(results: Path, target: Path) -> subprocess.Popen[bytes]:
    words = ["export_model_to_zip", "-d", "4", "-o", str(target), "-c", "3d_fullres", "-f", "0"]
    environment = {**os.environ, "nnUNet_results": str(results)}
    command = [sys.executable, "-m", "delineate.cli.main", "nnunet", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_nothing_half_written_stays_after_the_next_call(tmp_path: Path) -> None:
    results, out = tmp_path / "results", tmp_path / "out"
    (results / CHECKPOINT).parent.mkdir(parents=True)
    out.mkdir()
    (results / CHECKPOINT).write_bytes(os.urandom(SIZE))
    for name in ("plans.json", "dataset.json"):
        (results / MODEL / name).write_text("{}")
    with export(results, out / "model.zip") as first:
        while first.poll() is None and not any(f.stat().st_size for f in out.glob(".partial-*")):
            time.sleep(0.005)
        first.kill()
    assert [file.name for file in out.iterdir() if file.name.startswith(".partial-")], "it was not killed half way"
    assert not (out / "model.zip").exists()
    with export(results, out / "model.zip") as second:
        words, _ = second.communicate(timeout=120)
    assert second.returncode == 0, words.decode()
    assert [file.name for file in out.iterdir()] == ["model.zip"]
    with zipfile.ZipFile(out / "model.zip") as archive:
        assert archive.testzip() is None
        assert archive.getinfo(CHECKPOINT).file_size == SIZE
