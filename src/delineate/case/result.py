"""What a model says of one case, and how that came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from delineate.case.image import LabelMap

if TYPE_CHECKING:
    from delineate.metrics.trust import Assessment


@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """How a result was made: enough to make it again."""

    software: str
    """Program and version."""
    model: str
    """Name and content hash of the model package, or of the function that made the mask."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Mirroring, step size, folds, precision, device: every choice that can change a voxel."""
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Result:
    """A draft segmentation of one case; not yet seen by a person."""

    case_id: str
    labels: LabelMap
    provenance: Provenance
    probabilities: NDArray[Any] | None = None
    """(head, z, y, x) float, on the original grid; only when asked for."""
    assessment: Assessment | None = None
    """How far the result can be trusted; only when asked for."""
