"""The table of one case: every structure of a multi-label pair, every metric asked for, and what empty masks mean.

The two label maps are read twice, whatever the number of structures: once for the boxes of the labels, once for the
confusion matrix. Everything else happens in the box of one structure. Metrics are a table of names
(:data:`METRICS`); the names are part of the definition and go into reports.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delineate.errors import LabelError, UsageError
from delineate.masks.compiled import useful_threads
from delineate.masks.surfaces import Box, Spacing, require_spacing
from delineate.metrics import boundary, overlap, volume
from delineate.metrics.boundary import Elements, SurfaceDistances
from delineate.metrics.centreline import centre_line_dice
from delineate.metrics.lesions import LesionDetection, lesion_detection
from delineate.metrics.overlap import Overlap

Presence = Literal["true_positive", "false_positive", "false_negative", "true_negative"]
"""Whether prediction and reference have the structure at all: both, prediction only, reference only, neither."""

Worst = Literal["zero", "one", "diagonal", "none"]
"""What a metric is worth if exactly one mask is empty: 0, 1, the image's diagonal, or what its formula gives."""

THREADS_FROM_VOXELS = 1 << 20
"""Smaller structures are measured before a thread has started."""

DEFAULT_METRICS = ("dice", "hd95", "assd", "nsd", "volume_error", "relative_volume_error")
"""What a report shows unless asked otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmptyPolicy:
    """What the scores of empty masks are; the name goes into the report."""

    name: str
    one_empty: Literal["worst", "nan_distances"]
    """A structure in one mask only: the worst value of every metric, or no value for distances (and 0 for overlaps)."""
    both_empty: Literal["excluded", "perfect"]
    """A structure in neither mask: left out and counted, or the best value of every metric."""


WORST_VALUE = EmptyPolicy(name="worst value", one_empty="worst", both_empty="excluded")
"""The default: a missed or invented structure costs the worst value; distances then are the image's diagonal."""

NNUNET = EmptyPolicy(name="nnU-Net", one_empty="nan_distances", both_empty="excluded")
"""nnU-Net 2.8.1's ``evaluation.evaluate_predictions``: overlaps are 0 if one is empty and NaN, left out of means, if
both are. It has no distances; where no distance is defined they are NaN here as well, so missed structures vanish from
their means."""

METRICS_RELOADED = EmptyPolicy(name="Metrics Reloaded", one_empty="worst", both_empty="perfect")
"""Agreement that there is nothing counts as perfect (MetricsReloaded's reference code)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """How a column of the table is made."""

    unit: str
    """``1`` for a fraction."""
    best: float
    worst: Worst
    formula: Callable[[StructurePair], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class StructurePair:
    """One structure of one case: its counts, and its two masks in their common box."""

    overlap: Overlap
    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    spacing_mm: tuple[float, ...]
    tolerance_mm: float
    _measured: dict[str, Any] = field(default_factory=dict, init=False)

    def distances(self, elements: Elements) -> SurfaceDistances:
        """Return the distances of the two surfaces, measured once however many metrics ask."""
        if elements not in self._measured:
            self._measured[elements] = boundary.surface_distances(
                self.prediction, self.reference, self.spacing_mm, elements=elements
            )
        found: SurfaceDistances = self._measured[elements]
        return found

    @property
    def lesions(self) -> LesionDetection:
        """Lesion counts by the rule ``any_voxel``, counted once however many metrics ask."""
        if "lesions" not in self._measured:
            self._measured["lesions"] = lesion_detection(self.prediction, self.reference)
        found: LesionDetection = self._measured["lesions"]
        return found

    @property
    def volumes_ml(self) -> tuple[float, float]:
        """Predicted and reference volume in ml; for planes areas in mm^2 / 1000."""
        voxel = math.prod(self.spacing_mm)
        return volume.volume_ml(self.overlap.predicted, voxel), volume.volume_ml(self.overlap.reference, voxel)


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureRow:
    """One structure of one case."""

    name: str
    presence: Presence
    values: Mapping[str, float]
    """By metric name, in the metric's unit; NaN where the policy leaves the case out."""
    predicted_ml: float
    reference_ml: float
    policy: str
    tolerance_mm: float


def evaluate_structures(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    structures: Sequence[tuple[str, tuple[int, ...]]],
    *,
    spacing_mm: Spacing,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance_mm: float | Mapping[str, float] = 1.0,
    policy: EmptyPolicy = WORST_VALUE,
    ignore: int | None = None,
) -> tuple[StructureRow, ...]:
    """Compute all metrics of all structures of one pair of label maps.

    Parameters
    ----------
    prediction, reference
        Label values, ``(z, y, x)`` or ``(y, x)``, equal shapes, any integer dtype.
    structures
        Name and label values of each structure; several values are a region, the union of them.
    spacing_mm
        Millimetres per axis, in the order of the axes. There is no default: distances in voxels are no distances.
    metrics
        Names from :data:`METRICS`.
    tolerance_mm
        Of the surface Dice and the added path length: one number, or one per structure name.
    policy
        What the scores of empty masks are.
    ignore
        Reference value of voxels that nobody annotated; they belong to no structure on either side.

    Returns
    -------
    tuple of StructureRow
        In the order of ``structures``.

    Raises
    ------
    GeometryError
        If the shapes differ or the spacing does not fit.
    LabelError
        If an array holds values that no structure declares, or there is no structure.
    UsageError
        If a metric is unknown or a structure has no tolerance.
    """
    if not structures:
        raise LabelError("A pair of label maps cannot be evaluated without any structure.")
    chosen = _chosen_metrics(metrics)
    tolerances = _tolerances([name for name, _ in structures], tolerance_mm)
    spacing = require_spacing(np.ndim(reference), spacing_mm)
    seen = overlap.survey(prediction, reference, 1 + max(v for _, vs in structures for v in vs), ignore=ignore)
    diagonal = float(np.linalg.norm(np.array(reference.shape) * spacing))

    def measure(place: int) -> StructureRow:
        (name, values), tolerance = structures[place], tolerances[place]
        pair = _pair(prediction, reference, values, seen, spacing, tolerance, ignore)
        return _row(name, pair, chosen, policy, diagonal)

    return _measured_on_threads(measure, [_voxels(_box(values, seen, reference.shape)) for _, values in structures])


def failed_structures(
    reference: NDArray[Any],
    structures: Sequence[tuple[str, tuple[int, ...]]],
    *,
    spacing_mm: Spacing,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance_mm: float | Mapping[str, float] = 1.0,
    policy: EmptyPolicy = WORST_VALUE,
    ignore: int | None = None,
) -> tuple[StructureRow, ...]:
    """Return the rows of a case that has no usable prediction: the worst value of every metric, under every policy.

    A structure that the reference has counts as missed: scores are 0, distances the image's diagonal, and metrics
    without a worst value (volume errors, added path length) are those of an empty mask. A structure that the reference
    does not have gets no value, so that a failure never earns a perfect one.

    Parameters
    ----------
    reference
        Label values, ``(z, y, x)`` or ``(y, x)``, any integer dtype.
    structures, spacing_mm, metrics, tolerance_mm, policy, ignore
        See :func:`evaluate_structures`; the policy's name stands in the rows.

    Raises
    ------
    DelineateError
        As :func:`evaluate_structures`.
    """
    rows = evaluate_structures(
        np.zeros_like(reference),
        reference,
        structures,
        spacing_mm=spacing_mm,
        metrics=metrics,
        tolerance_mm=tolerance_mm,
        policy=WORST_VALUE,
        ignore=ignore,
    )
    return tuple(replace(row, policy=policy.name, values=_failed_values(row)) for row in rows)


def _failed_values(row: StructureRow) -> dict[str, float]:
    if row.presence == "true_negative":
        return dict.fromkeys(row.values, math.nan)
    # a score that an empty mask would win, such as the specificity, is 0 all the same
    return {name: 0.0 if METRICS[name].best == 1 else value for name, value in row.values.items()}


def presence_of(counts: Overlap) -> Presence:
    """Return whether the structure is in both label maps, in one, or in none."""
    if counts.predicted:
        return "true_positive" if counts.reference else "false_positive"
    return "false_negative" if counts.reference else "true_negative"


def score_pair(pair: StructurePair, metric: str, *, policy: EmptyPolicy, diagonal_mm: float) -> float:
    """Compute one metric of one structure whose masks are cut out and counted already.

    Parameters
    ----------
    pair
        The masks; its counts are of the whole image.
    metric
        A name of :data:`METRICS`.
    policy
        What the scores of empty masks are.
    diagonal_mm
        Of the whole image: what a distance is worth if exactly one mask is empty.

    Raises
    ------
    UsageError
        If the metric is unknown.
    """
    chosen = _chosen_metrics([metric])[metric]
    return _value(chosen, pair, presence_of(pair.overlap), policy, diagonal_mm)


def _chosen_metrics(names: Sequence[str]) -> dict[str, Metric]:
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise UsageError(f"Unknown metrics {', '.join(unknown)}; known are {', '.join(METRICS)}.")
    return {name: METRICS[name] for name in names}


def _tolerances(names: Sequence[str], tolerance_mm: float | Mapping[str, float]) -> list[float]:
    if not isinstance(tolerance_mm, Mapping):
        return [float(tolerance_mm)] * len(names)
    missing = [name for name in names if name not in tolerance_mm]
    if missing:
        raise UsageError(f"Every structure needs a tolerance in mm; there is none for {', '.join(missing)}.")
    return [float(tolerance_mm[name]) for name in names]


def _measured_on_threads(measure: Callable[[int], StructureRow], voxels: Sequence[int]) -> tuple[StructureRow, ...]:
    # the largest first, so that no thread is left with a large one at the end
    threads = min(useful_threads(), len(voxels)) if sum(voxels) >= THREADS_FROM_VOXELS else 1
    if threads == 1:
        return tuple(measure(place) for place in range(len(voxels)))
    with ThreadPoolExecutor(threads) as pool:
        rows = {place: pool.submit(measure, place) for place in sorted(range(len(voxels)), key=lambda i: -voxels[i])}
        return tuple(rows[place].result() for place in range(len(voxels)))


def _box(values: tuple[int, ...], seen: overlap.Survey, shape: tuple[int, ...]) -> Box:
    if 0 in values:
        return tuple(slice(0, n) for n in shape)
    box = overlap.joined([seen.boxes[value] for value in values])
    return tuple(slice(0, 0) for _ in shape) if box is None else box


def _voxels(box: Box) -> int:
    return math.prod(axis.stop - axis.start for axis in box)


def _pair(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    values: tuple[int, ...],
    seen: overlap.Survey,
    spacing: tuple[float, ...],
    tolerance_mm: float,
    ignore: int | None,
) -> StructurePair:
    cut = _box(values, seen, reference.shape)
    predicted, truth = prediction[cut], reference[cut]
    masks = [_members(predicted, values), _members(truth, values)]
    if ignore is not None:
        masks[0] &= truth != ignore
    return StructurePair(
        overlap=overlap.overlap_of(seen.matrix, values),
        prediction=masks[0],
        reference=masks[1],
        spacing_mm=spacing,
        tolerance_mm=tolerance_mm,
    )


def _members(labels: NDArray[Any], values: tuple[int, ...]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = np.asarray(labels == values[0])
    for value in values[1:]:
        mask |= labels == value
    return mask


def _row(
    name: str, pair: StructurePair, metrics: Mapping[str, Metric], policy: EmptyPolicy, diagonal: float
) -> StructureRow:
    predicted_ml, reference_ml = pair.volumes_ml
    presence = presence_of(pair.overlap)
    return StructureRow(
        name=name,
        presence=presence,
        values={key: _value(metric, pair, presence, policy, diagonal) for key, metric in metrics.items()},
        predicted_ml=predicted_ml,
        reference_ml=reference_ml,
        policy=policy.name,
        tolerance_mm=pair.tolerance_mm,
    )


def _value(metric: Metric, pair: StructurePair, presence: Presence, policy: EmptyPolicy, diagonal: float) -> float:
    if presence == "true_positive" or (presence != "true_negative" and metric.worst == "none"):
        return metric.formula(pair)
    if presence == "true_negative":
        return metric.best if policy.both_empty == "perfect" else math.nan
    if metric.worst == "diagonal":
        return diagonal if policy.one_empty == "worst" else math.nan
    return 0.0 if metric.worst == "zero" else 1.0


def _score(formula: Callable[[StructurePair], float]) -> Metric:
    return Metric(unit="1", best=1.0, worst="zero", formula=formula)


def _distance(formula: Callable[[StructurePair], float]) -> Metric:
    return Metric(unit="mm", best=0.0, worst="diagonal", formula=formula)


def _plain(unit: str, best: float, formula: Callable[[StructurePair], float]) -> Metric:
    return Metric(unit=unit, best=best, worst="none", formula=formula)


METRICS: Mapping[str, Metric] = {
    "dice": _score(lambda pair: overlap.dice(pair.overlap)),
    "iou": _score(lambda pair: overlap.iou(pair.overlap)),
    "precision": _score(lambda pair: overlap.precision(pair.overlap)),
    "recall": _score(lambda pair: overlap.recall(pair.overlap)),
    "specificity": _plain("1", 1.0, lambda pair: overlap.specificity(pair.overlap)),
    "volume_similarity": _score(lambda pair: overlap.volume_similarity(pair.overlap)),
    "volume_error": _plain("ml", 0.0, lambda pair: volume.signed_volume_error(*pair.volumes_ml)),
    "absolute_volume_error": _plain("ml", 0.0, lambda pair: volume.absolute_volume_error(*pair.volumes_ml)),
    "relative_volume_error": _plain("1", 0.0, lambda pair: volume.relative_volume_error(*pair.volumes_ml)),
    "hd": _distance(lambda pair: boundary.hausdorff(pair.distances("voxels"))),
    "hd95": _distance(lambda pair: boundary.hausdorff_percentile(pair.distances("voxels"))),
    "hd95_directed_mean": _distance(
        lambda pair: boundary.hausdorff_percentile(pair.distances("voxels"), variant="directed_mean")
    ),
    "hd95_pooled": _distance(lambda pair: boundary.hausdorff_percentile(pair.distances("voxels"), variant="pooled")),
    "hd95_area_weighted": _distance(
        lambda pair: boundary.hausdorff_percentile(pair.distances("area"), variant="area_weighted")
    ),
    "assd": _distance(lambda pair: boundary.average_surface_distance(pair.distances("voxels"))),
    "assd_area_weighted": _distance(lambda pair: boundary.average_surface_distance(pair.distances("area"))),
    "masd": _distance(lambda pair: boundary.mean_average_surface_distance(pair.distances("voxels"))),
    "masd_area_weighted": _distance(lambda pair: boundary.mean_average_surface_distance(pair.distances("area"))),
    "nsd": _score(lambda pair: boundary.surface_dice(pair.distances("area"), pair.tolerance_mm)),
    "nsd_voxels": _score(lambda pair: boundary.surface_dice(pair.distances("voxels"), pair.tolerance_mm)),
    "boundary_iou": _score(
        lambda pair: boundary.boundary_iou(
            pair.prediction, pair.reference, pair.spacing_mm, width_mm=2 * max(pair.spacing_mm)
        )
    ),
    "added_path_length": _plain(
        "mm",
        0.0,
        lambda pair: boundary.added_path_length(
            pair.prediction, pair.reference, pair.spacing_mm, tolerance_mm=pair.tolerance_mm
        ),
    ),
    "centre_line_dice": _score(lambda pair: centre_line_dice(pair.prediction, pair.reference)),
    "lesion_sensitivity": _plain("1", 1.0, lambda pair: pair.lesions.sensitivity),
    "lesion_false_positives": _plain("lesions", 0.0, lambda pair: float(pair.lesions.n_false_positive)),
    "lesion_f1": _score(lambda pair: pair.lesions.f1),
}
"""Every metric of the table by name; ``docs/metrics.md`` has formula, range and source of each."""
