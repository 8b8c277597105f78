"""nnU-Net's own commands, run where they are installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ORACLE = os.environ.get("DELINEATE_ORACLE_PYTHON")
needs_oracle = pytest.mark.skipif(not ORACLE, reason="DELINEATE_ORACLE_PYTHON is not set")


def run(home: Path, *command: str, libraries: Path | str = "") -> str:
    """Run a command of nnU-Net with its three folders below ``home``; return what it printed.

    ``libraries`` is a folder of modules that it finds beside those that are installed.
    """
    words = {name: str(home / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    numbers = {"nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(libraries)}
    settings = {**os.environ, **words, **numbers}
    done = subprocess.run(
        command,
        env=settings,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout


def tool(name: str) -> str:
    return str(Path(ORACLE or "").parent / name)


def predict(images: Path, model: Path, out: Path, *options: str, libraries: Path | str = "") -> None:
    """Predict a folder of images with a trained model's folder."""
    places = ("-i", str(images), "-o", str(out), "-m", str(model))
    few = ("-device", "cpu", "-npp", "1", "-nps", "1")
    run(images.parent, tool("nnUNetv2_predict_from_modelfolder"), *places, *few, *options, libraries=libraries)


def write_stand_in_for_timm(folder: Path) -> Path:
    """Write modules that import like timm and hold nothing; return the folder for ``libraries``.

    To find a trainer other than the standard one, nnU-Net imports all of its trainers, those of networks among them
    whose library it does not ask for.
    """
    anything = (
        "def __getattr__(name):\n"
        '    if name.startswith("__"):\n'
        "        raise AttributeError(name)\n"
        "    return type(name, (), {})\n"
    )
    for module in ("timm/__init__.py", "timm/layers.py", "timm/models/__init__.py", "timm/models/eva.py"):
        (folder / module).parent.mkdir(parents=True, exist_ok=True)
        (folder / module).write_text("" if module.endswith("__init__.py") else anything)
    return folder
