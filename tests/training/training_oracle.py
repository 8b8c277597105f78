"""Asks nnunetv2 and batchgeneratorsv2, in their own interpreter; skips the test where that interpreter is missing."""

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).with_name("training_oracle_script.py")


class Answers:
    """What the script wrote: ``tensor(name)`` and ``value(name)`` (JSON)."""

    def __init__(self, arrays):
        self.arrays = arrays

    def tensor(self, name):
        return torch.from_numpy(self.arrays[name].copy())

    def value(self, name):
        return json.loads(str(self.arrays[name]))


def answers():
    """Return all answers; one subprocess for the whole test session."""
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    return _answers(interpreter)


@functools.cache
def _answers(interpreter):
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "answers.npz"
        command = [interpreter, "-W", "ignore", str(SCRIPT), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(target) as arrays:
            return Answers(dict(arrays))
