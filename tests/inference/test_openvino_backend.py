"""OpenVINO against torch, where it is installed: same numbers, compiled once, and a clear word where it is missing."""

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pytest

from delineate.errors import ResourceError
from delineate.inference import Tiling, make_ensemble, predict_logits
from delineate.inference.openvino_backend import OpenVinoBackend
from delineate.networks import build_network
from delineate.planning.plan import Architecture

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


def network(dims, heads=9):
    architecture = Architecture(
        kind="plain_unet",
        dims=dims,
        features=(8, 12),
        kernel_sizes=((3,) * dims,) * 2,
        strides=((1,) * dims, (2,) * dims),
        encoder_blocks=(2, 2),
        decoder_convs=(2,),
    )
    return build_network(architecture, in_channels=1, heads=heads, seed=0)


def test_a_missing_openvino_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ResourceError, match=r"delineate\[openvino\]"):
        OpenVinoBackend(bfloat16=False)


@needs_openvino
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("summed", ["logits", "features"])
@pytest.mark.parametrize("patch", [(16, 16, 16), (16, 16)])
def test_logits_are_those_of_torch_and_a_network_is_compiled_once(patch, summed):
    array = np.random.default_rng(0).normal(size=(1, 20, 18, 16)).astype(np.float32)
    tiling = Tiling(patch_size=patch, batch_size=1, summed=summed, mirror_axes=(0,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = OpenVinoBackend(bfloat16=False, threads=1)
        ensemble = make_ensemble([network(len(patch))], channels_last=False, backend=backend)
        found = [predict_logits(ensemble, array, tiling) for _ in range(2)]
    np.testing.assert_allclose(found[0], predict_logits([network(len(patch))], array, tiling), atol=2e-4)
    np.testing.assert_array_equal(*found)
    assert len(backend._compiled) == 1


@needs_openvino
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_reported_to_anybody(tmp_path):
    """In a process of its own: openvino must not find the package that it would report its use with."""
    (tmp_path / "openvino_telemetry.py").write_text("raise SystemExit('telemetry was imported')")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from delineate.inference.openvino_backend import OpenVinoBackend\n"
        "OpenVinoBackend(bfloat16=False)\n"
        "import openvino.tools.ovc.telemetry_utils as used\n"
        "print(used.tm.__name__, 'openvino_telemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (["openvino.tools.ovc.telemetry_stub", "False"], 0), done.stderr
