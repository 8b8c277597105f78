"""What comes in and what the model makes of it: one row per case in the ledger, before anybody looked at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from delineate.clinical.ledger import Ledger
from delineate.clinical.observations import CASE_KIND, record
from delineate.errors import InputError, LabelError, SomeCasesFailed
from delineate.execution import Watched, map_items
from delineate.formats.datasets import CaseFiles
from delineate.formats.images import read_image, read_labels
from delineate.formats.magic import image_ending
from delineate.formats.monitoring_table import read_features
from delineate.metrics.case_statistics import Value, input_statistics, output_statistics
from delineate.workflows.monitor_cases import Recorded, Structures, without
from delineate.workflows.segment_folder import find_images


@dataclass(frozen=True, kw_only=True, slots=True)
class InputLog:
    """Which cases are logged, and what is known of them."""

    images: Path
    """A file or folder."""
    predictions: Path | None = None
    """Folder of label maps named like the cases."""
    structures: Structures = ()
    channels: int = 1
    quality: Path | None = None
    """CSV table with the column ``case``; its numbers become features named ``quality.COLUMN``."""
    site: str = ""
    day: str = ""


def log_cases(
    log: InputLog, ledger: Path, *, actor: str, correction: str = "", workers: int = 1, **watched: Unpack[Watched]
) -> Recorded:
    """Measure images, and the label maps made from them, and append one row per case.

    Raises
    ------
    InputError
        If there is no image.
    SomeCasesFailed
        If cases cannot be read; names all of them, the others are recorded.
    LedgerError
        If the ledger was altered.
    """
    cases = find_images(log.images, log.channels)
    quality = {} if log.quality is None else {row.case_id: row.values for row in read_features(log.quality)}
    outcomes = map_items(
        lambda case: _case_features(case, log), cases, what="cases", workers=workers, backend="threads", **watched
    )
    payloads = [
        {
            "case": outcome.item.case_id,
            "site": log.site,
            "day": log.day,
            "features": {
                **outcome.value,
                **{f"quality.{k}": v for k, v in quality.get(outcome.item.case_id, {}).items()},
            },
        }
        for outcome in outcomes
        if outcome.value is not None
    ]
    told = [(actor, payload) for payload in payloads]
    left_out = record(Ledger(path=ledger), CASE_KIND, told, correction=correction)
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(cases)} cases could not be measured.", failures)
    return Recorded(recorded=without(cases, left_out), left_out=left_out)


def _case_features(case: CaseFiles, log: InputLog) -> dict[str, Value]:
    image = read_image(case.images)
    found: dict[str, Value] = {f"input.{k}": v for k, v in input_statistics(image.array, image.grid).items()}
    if log.predictions is None:
        return found
    labels = read_labels(_prediction(log.predictions, case.case_id))
    structures = log.structures
    if not structures:
        raise LabelError("Name the structures of the label maps: --structure NAME=VALUE, or --dataset-json FILE.")
    outputs = output_statistics(labels.array, labels.grid, structures)
    return {**found, **{f"output.{k}": v for k, v in outputs.items()}}


def _prediction(folder: Path, case_id: str) -> Path:
    fitting = [p for p in sorted(folder.glob(f"{case_id}.*")) if image_ending(p)]
    if len(fitting) != 1:
        raise InputError(f"{folder}: expected one label map named {case_id}; found {len(fitting)}.")
    return fitting[0]
