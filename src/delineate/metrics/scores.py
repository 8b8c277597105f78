"""The scores of cases: what one prediction is worth against one reference.

Only counts and the voxel's volume are stored; every score follows from them, so the numbers of one structure cannot
contradict each other. A structure is given as a name and the label values that belong to it; the module does not know
where the arrays come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from delineate.errors import GeometryError, InputError, LabelError
from delineate.metrics import overlap as overlaps
from delineate.metrics import volume
from delineate.metrics.overlap import Overlap
from delineate.metrics.statistics import mean_or_nan


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureScores:
    """One structure of one case.

    For planes the voxel volume is the pixel's area in mm^2, and a ``_ml`` value times 1000 is an area in mm^2.

    Raises
    ------
    GeometryError
        If the voxel volume is not positive and finite.
    """

    name: str
    overlap: Overlap
    voxel_volume_mm3: float

    def __post_init__(self) -> None:
        volume.require_voxel_volume(self.voxel_volume_mm3)

    @property
    def dice(self) -> float:
        """Dice, 0 to 1; NaN if the structure is in neither label map."""
        return overlaps.dice(self.overlap)

    @property
    def iou(self) -> float:
        """Intersection over union, 0 to 1; NaN if the structure is in neither label map."""
        return overlaps.iou(self.overlap)

    @property
    def precision(self) -> float:
        """Share of predicted voxels that are right, 0 to 1; NaN if the structure is in neither label map."""
        return overlaps.precision(self.overlap)

    @property
    def recall(self) -> float:
        """Share of reference voxels that were found, 0 to 1; NaN if the structure is in neither label map."""
        return overlaps.recall(self.overlap)

    @property
    def predicted_ml(self) -> float:
        """Predicted volume in ml."""
        return volume.volume_ml(self.overlap.predicted, self.voxel_volume_mm3)

    @property
    def reference_ml(self) -> float:
        """Reference volume in ml."""
        return volume.volume_ml(self.overlap.reference, self.voxel_volume_mm3)

    @property
    def volume_error_ml(self) -> float:
        """Predicted minus reference volume in ml; NaN if the structure is in neither label map."""
        return volume.signed_volume_error(self.predicted_ml, self.reference_ml)

    @property
    def absolute_volume_error_ml(self) -> float:
        """Size of the volume error in ml; NaN if the structure is in neither label map."""
        return volume.absolute_volume_error(self.predicted_ml, self.reference_ml)

    @property
    def relative_volume_error(self) -> float:
        """Signed volume error over the reference volume, as a fraction; NaN if the reference is empty."""
        return volume.relative_volume_error(self.predicted_ml, self.reference_ml)


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseScores:
    """All structures of one case, in the order of the label scheme."""

    case_id: str
    patient_id: str
    per_structure: tuple[StructureScores, ...]

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the structures that are in either label map; NaN if there is none."""
        return mean_or_nan([s.dice for s in self.per_structure])

    @property
    def worst_structure(self) -> StructureScores | None:
        """The structure of lowest Dice, the first of equals; None if the case has no structure."""
        known = [s for s in self.per_structure if not math.isnan(s.dice)]
        return min(known, key=lambda s: s.dice) if known else None

    def structure(self, name: str) -> StructureScores:
        """Return the scores of that structure.

        Raises
        ------
        InputError
            If the case has none of that name.
        """
        for scores in self.per_structure:
            if scores.name == name:
                return scores
        have = ", ".join(s.name for s in self.per_structure)
        raise InputError(f"Case {self.case_id} has no scores for structure '{name}'; it has: {have}.")


def evaluate_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    structures: Sequence[tuple[str, tuple[int, ...]]],
    *,
    voxel_volume_mm3: float,
    case_id: str,
    patient_id: str,
    ignore: int | None = None,
) -> CaseScores:
    """Score one predicted label map against its reference.

    Parameters
    ----------
    prediction, reference
        Label values, ``(z, y, x)`` or ``(y, x)``, equal shapes, any integer dtype.
    structures
        Name and label values of each structure; several values are a region, the union of them.
    voxel_volume_mm3
        Volume of one voxel in mm^3 (area of a pixel in mm^2 for planes).
    case_id, patient_id
        Whose the arrays are.
    ignore
        Reference value of voxels that nobody annotated.

    Raises
    ------
    GeometryError
        If the shapes differ or the voxel volume is not positive.
    LabelError
        If an array holds values that no structure declares, or there is no structure.
    """
    if not structures:
        raise LabelError(f"Case {case_id} cannot be scored without any structure.")
    n_labels = 1 + max(value for _, values in structures for value in values)
    try:
        matrix = overlaps.confusion(prediction, reference, n_labels, ignore=ignore)
        per_structure = tuple(
            StructureScores(name=name, overlap=overlaps.overlap_of(matrix, values), voxel_volume_mm3=voxel_volume_mm3)
            for name, values in structures
        )
    except (GeometryError, LabelError) as error:
        raise type(error)(f"Case {case_id}: {error}") from error
    return CaseScores(case_id=case_id, patient_id=patient_id, per_structure=per_structure)
