"""How networks behaved on a case, as one file beside the prediction: numbers and text, never pickled."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import ImageReadError
from delineate.execution import atomic_path
from delineate.metrics.trust import Agreement, Behaviour, Uncertainty

ENDING = ".npz"

_ONE_AT_A_TIME = threading.Lock()
"""numpy reads the header of an array by ``ast.literal_eval``, in which CPython 3.11 now and then fails (SystemError,
"AST constructor recursion depth mismatch") when several threads are there at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RecordedBehaviour:
    """How networks behaved on a case whose reference is known, with some voxels' logits."""

    behaviour: Behaviour
    logits: NDArray[np.float32]
    """(sample, head)"""
    truths: NDArray[np.int64]
    """(sample,) label values, or (sample, head) 0 and 1 for regions."""


def write_behaviour(path: Path, recorded: RecordedBehaviour) -> None:
    """Write the file, whole or not at all.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    behaviour = recorded.behaviour
    facts = {"agreement": asdict(behaviour.agreement), "uncertainty": asdict(behaviour.uncertainty)}
    arrays: dict[str, Any] = {
        f"features {fold} {number}": values
        for fold, stages in behaviour.features.items()
        for number, values in enumerate(stages)
    }
    arrays |= {"logits": recorded.logits.astype(np.float16), "truths": recorded.truths.astype(np.int32)}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.getvalue())


def read_behaviour(path: Path) -> RecordedBehaviour:
    """Read the file back.

    Raises
    ------
    ImageReadError
        If the file is missing, cut short, or of another kind.
    """
    try:
        with _ONE_AT_A_TIME, np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            features: dict[str, tuple[NDArray[np.float32], ...]] = {}
            for name in stored.files:  # in the order of the stages
                if name.startswith("features "):
                    fold = name.split(" ")[1]
                    features[fold] = (*features.get(fold, ()), stored[name])
            logits, truths = stored["logits"].astype(np.float32), stored["truths"].astype(np.int64)
            agreement = {key: tuple(values) for key, values in facts["agreement"].items()}
            uncertainty = {**facts["uncertainty"], "expected_dice": tuple(facts["uncertainty"]["expected_dice"])}
            behaviour = Behaviour(
                agreement=Agreement(**agreement), uncertainty=Uncertainty(**uncertainty), features=features
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ImageReadError(
            f"{path} does not hold what a prediction showed: {error}. Remove it and run again."
        ) from error
    return RecordedBehaviour(behaviour=behaviour, logits=logits, truths=truths)
