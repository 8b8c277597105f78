"""A case of a trust study as one file, so that a study goes on where it stopped: numbers and text, never pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delineate.errors import ImageReadError
from delineate.execution import write_text
from delineate.formats.behaviour_file import RecordedBehaviour, read_behaviour, write_behaviour
from delineate.metrics.trust import HonestCase, ImageStatistics, Observation, Population, StructureShape


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Examined:
    """What one watched prediction showed, and what is true."""

    case_id: str
    patient_id: str
    honest: HonestCase
    population: Population
    dice: Mapping[str, float | None]
    """By structure; None where it is in neither label map."""


def write_examined(folder: Path, examined: Examined) -> None:
    """Write ``{case_id}.json`` and ``{case_id}.npz``; the first one last.

    Raises
    ------
    ResourceError
        If the folder cannot be written.
    """
    honest = examined.honest
    write_behaviour(
        folder / f"{examined.case_id}.npz",
        RecordedBehaviour(behaviour=honest.observation.behaviour, logits=honest.logits, truths=honest.truths),
    )
    content = {
        "case_id": examined.case_id,
        "patient_id": examined.patient_id,
        "mean_dice": honest.dice,
        "dice": dict(examined.dice),
        "image": asdict(honest.observation.image),
        "shapes": [asdict(shape) for shape in honest.observation.shapes],
        "reference": [asdict(shape) for shape in examined.population.shapes],
    }
    write_text(folder / f"{examined.case_id}.json", json.dumps(content, indent=1))


def read_examined(folder: Path, case_id: str) -> Examined | None:
    """Read a case back; None if it is not there.

    Raises
    ------
    ImageReadError
        If the files are damaged.
    """
    path = folder / f"{case_id}.json"
    if not path.exists():
        return None
    recorded = read_behaviour(folder / f"{case_id}.npz")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        image = ImageStatistics(**content["image"])
        return Examined(
            case_id=content["case_id"],
            patient_id=content["patient_id"],
            honest=HonestCase(
                observation=Observation(
                    behaviour=recorded.behaviour, image=image, shapes=tuple(map(_shape, content["shapes"]))
                ),
                dice=float(np.float64(content["mean_dice"])),
                logits=recorded.logits,
                truths=recorded.truths,
            ),
            population=Population(image=image, shapes=tuple(map(_shape, content["reference"]))),
            dice=content["dice"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageReadError(f"{path} is no case of a study: {error!r}. Remove it and run again.") from error


def _shape(values: Mapping[str, Any]) -> StructureShape:
    found: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return StructureShape(**found)
