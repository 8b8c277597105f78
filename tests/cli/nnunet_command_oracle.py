"""Asks nnunetv2, in its own interpreter; skips the test where that interpreter is missing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("nnunet_command_oracle_script.py")


def ask(request, folder, environment=None):
    """Return the answer to a request; ``environment`` names nnU-Net's three folders."""
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    folder.mkdir(parents=True, exist_ok=True)
    asked, answered = folder / "request.json", folder / "answer.json"
    asked.write_text(json.dumps(request))
    plain = {key: value for key, value in os.environ.items() if not key.startswith("nnUNet")}
    names = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    done = subprocess.run(
        [interpreter, str(SCRIPT), str(asked), str(answered)],
        capture_output=True,
        text=True,
        check=False,
        env={**plain, **names, "nnUNet_n_proc_DA": "0", "nnUNet_compile": "f", **(environment or {})},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(answered.read_text())
