"""Tables of cases made of plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from delineate.metrics.cohort import CaseRows
from delineate.metrics.table import StructureRow


def case_rows(
    case_id: str, values: Mapping[str, Mapping[str, float]], *, patient: str | None = None, reference_ml: float = 1.0
) -> CaseRows:
    """Return one case with structure -> metric -> value."""
    rows = tuple(
        StructureRow(
            name=name,
            presence="true_positive" if not math.isnan(next(iter(numbers.values()))) else "true_negative",
            values=dict(numbers),
            predicted_ml=reference_ml,
            reference_ml=reference_ml,
            policy="worst value",
            tolerance_mm=1.0,
        )
        for name, numbers in values.items()
    )
    return CaseRows(case_id=case_id, patient_id=patient or case_id, rows=rows)


def cohort(values: Sequence[float], metric: str = "dice", structure: str = "liver", patients: Sequence[str] = ()):
    """Return cases c0, c1, ... with one structure and metric."""
    owners = patients or [f"p{i}" for i in range(len(values))]
    return [
        case_rows(f"c{i}", {structure: {metric: value}}, patient=owner)
        for i, (value, owner) in enumerate(zip(values, owners, strict=True))
    ]
