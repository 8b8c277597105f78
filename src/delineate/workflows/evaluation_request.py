"""What may be asked of an evaluation, and what is done unless something else is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delineate.case import Structure
from delineate.errors import UsageError
from delineate.metrics.evaluation.subgroups import LEAST_CASES
from delineate.metrics.evaluation.thresholds import Threshold
from delineate.metrics.evaluation.thresholds import read_threshold as read_threshold
from delineate.metrics.table import METRICS_RELOADED, NNUNET, WORST_VALUE, EmptyPolicy
from delineate.workflows.evaluate_raters import RaterSettings

METRICS = (
    "dice", "iou", "hd95", "assd", "nsd", "relative_volume_error", "volume_error", "precision", "recall",
)  # fmt: skip
"""What is measured unless asked otherwise."""

TOLERANCE_MM = 2.0
"""Of the surface Dice unless asked otherwise: two voxels of a usual CT or MR plane; pixels where nobody knows mm."""

EVERY_STRUCTURE = "*"
"""Key of the tolerance of structures that have none of their own."""

POLICIES: Mapping[str, EmptyPolicy] = {
    "worst-value": WORST_VALUE,
    "nnunet": NNUNET,
    "metrics-reloaded": METRICS_RELOADED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRequest:
    """What is to be evaluated, and how."""

    predictions: Path
    """A folder of label maps, or a run, whose validation predictions of all folds are taken (cross-validation)."""
    references: Path | None = None
    """A dataset, a run (its dataset) or a folder of label maps; None: the dataset of the run in ``predictions``."""
    name: str | None = None
    """Of the evaluated model, for comparisons; None: the name of its folder."""
    configuration: str | None = None
    """Of a run that holds several."""
    table: Path | None = None
    """Table of cases with columns to group by, and patients."""
    by: tuple[str, ...] = ()
    """Columns: ``site``, ``age:10`` (bands), ``size`` (thirds of each structure's reference volume)."""
    thresholds: tuple[Threshold, ...] = ()
    """Declared beforehand; commonly cited ones are added for structures and modalities that they fit."""
    modality: str | None = None
    """``CT`` or ``MR``, for the cited thresholds; None: the first channel's name in the dataset."""
    others: Mapping[str, Path] = field(default_factory=dict)
    """Name -> folder of predictions of other models on the same cases."""
    metrics: tuple[str, ...] = METRICS
    tolerance_mm: float | Mapping[str, float] = TOLERANCE_MM
    """One number, or by structure; those that are not named get that of :data:`EVERY_STRUCTURE`, else 2 mm."""
    policy: EmptyPolicy = WORST_VALUE
    structures: tuple[Structure, ...] = ()
    """What the values mean, instead of what the references declare."""
    renamed: tuple[tuple[int, int], ...] = ()
    """Values of the predictions and what they are read as."""
    resample: bool = False
    spacing_mm: tuple[float, ...] | None = None
    """Of files that tell none, in the order of the array's axes."""
    some: bool = False
    """Leave out references without a prediction instead of counting them as failed."""
    repairs: frozenset[str] = frozenset()
    raters: Mapping[str, Path] = field(default_factory=dict)
    """Name -> folder of masks that people drew of the same cases."""
    among_raters: RaterSettings = field(default_factory=RaterSettings)
    """How they are read and compared; structures, seed and voxel sizes are those of the request."""
    pdf: bool = False
    """Also write the report as ``report.pdf``; needs the extra ``report``."""
    least_cases: int = LEAST_CASES
    seed: int = 0
    workers: int = 1
    command: str = "delineate.evaluate"


def policy_named(name: str) -> EmptyPolicy:
    """Return the policy of a name of :data:`POLICIES`.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if name not in POLICIES:
        raise UsageError(f"Unknown policy '{name}'; there are: {', '.join(POLICIES)}.")
    return POLICIES[name]


def read_structures(words: Sequence[str]) -> tuple[Structure, ...]:
    """Return the structures of words such as ``liver=1`` or ``whole=1,2`` (a region).

    Raises
    ------
    UsageError
        If words cannot be understood, or a name is given twice; names all of them.
    """
    found, faults = [], []
    for word in words:
        name, _, values = word.rpartition("=")
        numbers = [number.strip() for number in values.split(",")]
        if not name or not all(number.isdigit() and int(number) > 0 for number in numbers):
            faults.append(f"'{word}'")
        else:
            found.append(Structure(name=name, values=tuple(int(number) for number in numbers)))
    names = [structure.name for structure in found]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if faults or twice:
        raise UsageError(
            "Structures are written NAME=VALUE or NAME=VALUE,VALUE with values above 0, each name once; "
            f"got {', '.join([*faults, *twice])}."
        )
    return tuple(found)
