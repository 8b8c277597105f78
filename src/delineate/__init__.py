"""Delineate: from annotated medical images to contours that a clinician has approved.

The names below are the public Python interface; they are loaded when first used, so the import is quick.

    import delineate

    dataset = delineate.open_dataset("folder/of/scans")
    run = delineate.plan(dataset, out="run", budget="20min")
    model = delineate.train(run)
    result = model.predict("scan.nii.gz")
    evaluation = delineate.evaluate("masks", "references", out="evaluation")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "EvaluationRequest": "delineate.workflows.evaluation_request",
    "Model": "delineate.workflows.model",
    "evaluate": "delineate.workflows.interface",
    "load_model": "delineate.workflows.model",
    "load_nuclei_model": "delineate.workflows.nuclei_model",
    "open_dataset": "delineate.workflows.interface",
    "plan": "delineate.workflows.interface",
    "train": "delineate.workflows.interface",
}

if TYPE_CHECKING:
    from delineate.workflows.evaluation_request import EvaluationRequest
    from delineate.workflows.interface import evaluate, open_dataset, plan, train
    from delineate.workflows.model import Model, load_model
    from delineate.workflows.nuclei_model import load_nuclei_model

__all__ = [
    "EvaluationRequest",
    "Model",
    "__version__",
    "evaluate",
    "load_model",
    "load_nuclei_model",
    "open_dataset",
    "plan",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'delineate' has no attribute '{name}'")
