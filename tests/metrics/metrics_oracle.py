"""Asks other libraries, in their own interpreter, for the same metrics; skips where that interpreter is missing."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("metrics_oracle_script.py")
VARIABLE = "DELINEATE_METRICS_ORACLE_PYTHON"


def ask(masks, folder):
    """Return library and metric -> numbers for name -> (prediction, reference, spacing), in one subprocess."""
    interpreter = os.environ.get(VARIABLE)
    if not interpreter:
        pytest.skip(f"{VARIABLE} is not set (an interpreter with surface-distance, monai and SimpleITK)")
    asked, answered = folder / "masks.npz", folder / "answers.npz"
    arrays = {}
    for name, (prediction, reference, spacing) in masks.items():
        arrays |= {f"{name}/prediction": prediction, f"{name}/reference": reference, f"{name}/spacing": spacing}
    np.savez(asked, **arrays)
    done = subprocess.run([interpreter, str(SCRIPT), str(asked), str(answered)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(answered) as found:
        return dict(found)
