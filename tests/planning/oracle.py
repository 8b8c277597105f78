"""Asks nnunetv2, in its own interpreter, what it would do; skips the test where that interpreter is missing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("oracle_script.py")


def ask(requests, folder):
    """Return one answer per request; all in one subprocess."""
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    asked, answered = folder / "requests.json", folder / "answers.json"
    asked.write_text(json.dumps(requests))
    command = [interpreter, str(SCRIPT), str(asked), str(answered), str(folder / "nnunet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(answered.read_text())
