"""What a person changed in a draft: outcome, overlap, contour to draw and volume, per structure.

The signal of a segmentation in production that costs no extra work: people correct drafts anyway. The module knows two
label arrays; it does not know who drew them or how the draft was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from delineate.errors import InputError, LabelError
from delineate.masks.surfaces import Spacing
from delineate.metrics.table import StructureRow, evaluate_structures

Outcome = Literal["unchanged", "minor", "major", "rejected"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""From best to worst: accepted as it was, after a minor edit, after a major edit, and drawn anew."""
ACCEPTED: frozenset[Outcome] = frozenset({"unchanged", "minor"})
"""What counts as acceptance."""
_METRICS = ("dice", "nsd", "added_path_length")


@dataclass(frozen=True, kw_only=True, slots=True)
class EditThresholds:
    """Where a minor edit ends and a rejection begins; declared before the first case."""

    minor_dice: float = 0.95
    """An edit is minor only if draft and approved overlap at least so much."""
    minor_added_path_mm: float = math.inf
    """And if no more contour than this had to be drawn."""
    rejected_dice: float = 0.5
    """Below it the draft was of no use."""

    def __post_init__(self) -> None:
        if not 0 <= self.rejected_dice <= self.minor_dice <= 1 or not self.minor_added_path_mm >= 0:
            raise InputError(
                "Edit thresholds need 0 <= rejected_dice <= minor_dice <= 1 and minor_added_path_mm >= 0; got "
                f"{self.rejected_dice}, {self.minor_dice} and {self.minor_added_path_mm}."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureEdit:
    """What was changed in one structure."""

    structure: str
    outcome: Outcome
    changed_voxels: int
    """Voxels of which draft and approved disagree whether they belong to the structure."""
    edit_dice: float | None
    """Dice of draft and approved; None if neither has the structure."""
    surface_dice: float | None
    """At the tolerance; None if neither has the structure."""
    added_path_length_mm: float | None
    """Contour that had to be drawn beyond the tolerance; None if neither has the structure."""
    draft_ml: float
    approved_ml: float

    @property
    def volume_change_ml(self) -> float:
        """Approved minus draft."""
        return self.approved_ml - self.draft_ml


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRecord:
    """What was changed in one case, and how long it took."""

    structures: tuple[StructureEdit, ...]
    tolerance_mm: float
    thresholds: EditThresholds
    seconds: float | None = None
    """Of the person's work on the whole case."""

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of its structures."""
        return max((s.outcome for s in self.structures), key=OUTCOMES.index)

    def payload(self) -> dict[str, Any]:
        """Return the record as JSON can hold it."""
        limits = {name: value for name, value in asdict(self.thresholds).items() if math.isfinite(value)}
        structures = [{**asdict(s), "volume_change_ml": s.volume_change_ml} for s in self.structures]
        return {
            "outcome": self.outcome,
            "structures": structures,
            "tolerance_mm": self.tolerance_mm,
            "thresholds": limits,
            "seconds": self.seconds,
        }


def measure_edit(
    draft: NDArray[Any],
    approved: NDArray[Any],
    structures: Sequence[tuple[str, tuple[int, ...]]],
    *,
    spacing_mm: Spacing,
    tolerance_mm: float = 1.0,
    thresholds: EditThresholds | None = None,
    seconds: float | None = None,
) -> EditRecord:
    """Compare a draft with what a person approved.

    A structure is *unchanged* if no voxel differs, *rejected* if the Dice of the two is below ``rejected_dice`` (as
    when one of them is empty), *minor* if it is at least ``minor_dice`` and the added path length at most
    ``minor_added_path_mm``, else *major*.

    Parameters
    ----------
    draft, approved
        Label values, ``(z, y, x)`` or ``(y, x)``, equal shapes, any integer dtype. Values that no structure declares
        belong to none.
    structures
        Name and label values of each structure.
    spacing_mm
        Millimetres per axis, in the order of the axes.
    tolerance_mm
        Of the surface Dice and the added path length.
    thresholds
        Where outcomes begin and end; None: :class:`EditThresholds`' defaults.
    seconds
        The person's time, if it was measured; 0 or more.

    Returns
    -------
    EditRecord
        Structures in the given order.

    Raises
    ------
    GeometryError
        If the shapes differ or the spacing does not fit.
    LabelError
        If there is no structure.
    InputError
        If the seconds are negative or no number.

    References
    ----------
    S. Nikolov et al., Clinically applicable segmentation of head and neck anatomy, JMIR 23 (2021): surface Dice.
    F. Vaassen et al., Evaluation of measures for assessing time-saving of automatic organ-at-risk segmentation,
    Phys. Imaging Radiat. Oncol. 13 (2020): added path length goes with editing time.
    """
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise InputError(f"Seconds must be a number of 0 or more; got {seconds}.")
    if not structures:
        raise LabelError("An edit needs at least one structure.")
    limits = thresholds or EditThresholds()
    known = [value for _, values in structures for value in values]
    maps = [np.where(np.isin(labels, known), labels, 0) for labels in (draft, approved)]
    rows = evaluate_structures(
        maps[0], maps[1], structures, spacing_mm=spacing_mm, metrics=_METRICS, tolerance_mm=tolerance_mm
    )
    changed = [int((np.isin(maps[0], values) != np.isin(maps[1], values)).sum()) for _, values in structures]
    return EditRecord(
        structures=tuple(_edit(row, count, limits) for row, count in zip(rows, changed, strict=True)),
        tolerance_mm=tolerance_mm,
        thresholds=limits,
        seconds=seconds,
    )


def _edit(row: StructureRow, changed: int, limits: EditThresholds) -> StructureEdit:
    values = {name: None if math.isnan(value) else float(value) for name, value in row.values.items()}
    dice, path = values["dice"], values["added_path_length"]
    return StructureEdit(
        structure=row.name,
        outcome=_outcome(changed, dice, path, limits),
        changed_voxels=changed,
        edit_dice=dice,
        surface_dice=values["nsd"],
        added_path_length_mm=path,
        draft_ml=row.predicted_ml,
        approved_ml=row.reference_ml,
    )


def _outcome(changed: int, dice: float | None, path_mm: float | None, limits: EditThresholds) -> Outcome:
    if not changed or dice is None or path_mm is None:
        return "unchanged"
    if dice < limits.rejected_dice:
        return "rejected"
    return "minor" if dice >= limits.minor_dice and path_mm <= limits.minor_added_path_mm else "major"


def worst_outcome(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the worst of at least one outcome."""
    return max(outcomes, key=OUTCOMES.index)


def structures_of(names: Mapping[str, int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return structures of one label value each, as metrics take them."""
    return tuple((name, (value,)) for name, value in names.items())
