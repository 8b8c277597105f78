"""Networks on OpenVINO's CPU runtime instead of torch's (extra ``openvino``); no other module imports it.

A network is written down once per shape of its input, as operations of torch, and compiled; weights stay float32 and
the runtime rounds to bfloat16 itself where that is asked for and the processor has it. Nothing is quantised to
integers.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn

from delineate.errors import ResourceError

MISSING = "The OpenVINO back-end needs the package openvino; install delineate[openvino] or use the back-end torch."
TELEMETRY = "openvino_telemetry"
"""What openvino reports its use with, over the network, as soon as it is imported; without it, it is silent."""


class OpenVinoBackend:
    """Runs networks on OpenVINO; keeps what it compiled, one model per network and input shape.

    Parameters
    ----------
    bfloat16
        Whether activations may be rounded to bfloat16 inside the network.
    threads
        Threads of one inference; None: as many as torch uses.

    Raises
    ------
    ResourceError
        If openvino is not installed.
    """

    def __init__(self, *, bfloat16: bool, threads: int | None = None) -> None:
        self._openvino = _openvino()
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: dict[tuple[Any, ...], tuple[Any, nn.Module]] = {}

    def __call__(self, network: nn.Module, batch: Tensor) -> Tensor:
        """Return what the network (float32, evaluation mode) answers to a batch ``(B, C, *patch)`` on the CPU."""
        # twins of one network share their weights, so these tell which network it is
        key = (tuple(batch.shape), *(id(parameter) for parameter in network.parameters()))
        if key not in self._compiled:
            self._compiled[key] = self._compile(network, batch), network
        request, _ = self._compiled[key]
        found = request.infer({0: batch.contiguous().numpy()}, share_inputs=True)
        return torch.from_numpy(found[0].copy())

    def _compile(self, network: nn.Module, batch: Tensor) -> Any:
        example = torch.zeros(tuple(batch.shape))
        with torch.no_grad():
            model = self._openvino.convert_model(
                copy.deepcopy(network), example_input=example, input=[tuple(batch.shape)]
            )
        return self._openvino.Core().compile_model(model, "CPU", self._settings).create_infer_request()


def _openvino() -> Any:
    """Return the package openvino, imported so that it opens no network connection.

    Raises
    ------
    ResourceError
        If it is not installed.
    """
    hidden = TELEMETRY not in sys.modules
    if hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # an import of it fails, and openvino does without
    try:
        import openvino
    except ImportError as error:
        raise ResourceError(MISSING) from error
    finally:
        if hidden:
            del sys.modules[TELEMETRY]
    return openvino
