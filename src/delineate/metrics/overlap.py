"""How far two label maps overlap: one confusion matrix in one pass, and the scores that follow from it.

The module knows arrays of label values only; it does not know spacing, files, or what a label means. Every score obeys
one policy for empty structures: empty in both label maps, the score is NaN and the case is left out of means (and
counted as left out); empty in one of them only, the score is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import GeometryError, LabelError
from delineate.masks.compiled import kernels, useful_threads
from delineate.masks.surfaces import Box

BLOCK_VOXELS = 1 << 21
"""Voxels per pass of the confusion matrix; bounds its working memory to some 32 MiB whatever the image size."""

KERNELS = "delineate.metrics.overlap_kernels"
"""What counts large volumes."""

MAX_LABELS = 4096
"""Largest number of labels that gets a dense confusion matrix (128 MiB); instances are not labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """Voxel counts of one structure in prediction and reference; voxels under the ignore label are in none of them."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def predicted(self) -> int:
        """Voxels that the prediction gives to the structure."""
        return self.true_positive + self.false_positive

    @property
    def reference(self) -> int:
        """Voxels that the reference gives to the structure."""
        return self.true_positive + self.false_negative


def confusion(
    prediction: NDArray[Any], reference: NDArray[Any], n_labels: int, *, ignore: int | None = None
) -> NDArray[np.int64]:
    """Count how often each reference label meets each predicted label, in one pass.

    Parameters
    ----------
    prediction, reference
        Label values, equal shape of any number of axes, any integer or boolean dtype; memory maps are read in blocks.
    n_labels
        Number of labels, background included; values must lie in 0 to ``n_labels - 1``.
    ignore
        Reference value of voxels that nobody annotated; they are left out, whatever the prediction says there.

    Returns
    -------
    (n_labels, n_labels) int64
        Voxel counts; ``matrix[r, p]`` for reference label ``r`` and predicted label ``p``.

    Raises
    ------
    GeometryError
        If the shapes differ.
    LabelError
        If a dtype is not integer, ``n_labels`` is not between 1 and 4096, or a value lies outside the labels.
    """
    return survey(prediction, reference, n_labels, ignore=ignore).matrix


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What one look at a pair of label maps tells of every label."""

    matrix: NDArray[np.int64]
    """(reference label, predicted label) voxel counts."""
    boxes: tuple[Box | None, ...]
    """By label: the smallest box that holds the label in both maps; None for labels in neither, and for 0."""


def survey(prediction: NDArray[Any], reference: NDArray[Any], n_labels: int, *, ignore: int | None = None) -> Survey:
    """Count as :func:`confusion` does, and find the box of every label in the same pass.

    Parameters
    ----------
    prediction, reference
        Label values, equal shape of any number of axes, any integer or boolean dtype; memory maps are read in blocks.
    n_labels
        Number of labels, background included; values must lie in 0 to ``n_labels - 1``.
    ignore
        Reference value of voxels that are not counted; boxes do not leave them out.

    Raises
    ------
    GeometryError
        If the shapes differ.
    LabelError
        If a dtype is not integer, ``n_labels`` is not between 1 and 4096, or a value lies outside the labels.
    """
    _validate(prediction, reference, n_labels)
    compiled = kernels(KERNELS, reference.size) if reference.ndim == 3 and reference.size else None
    found = None if compiled is None else _surveyed(compiled, prediction, reference, n_labels, ignore)
    if found is not None:
        return found
    # without kernels, and where a value fits no label: this way names it
    matrix = _counted_runs(prediction, reference, n_labels, ignore)
    return Survey(matrix=matrix, boxes=_joint_boxes(prediction, reference, n_labels))


def overlap_of(matrix: NDArray[np.int64], values: Sequence[int]) -> Overlap:
    """Return the counts of one label, or of a region that is the union of several.

    Parameters
    ----------
    matrix
        (n_labels, n_labels) voxel counts from :func:`confusion`.
    values
        Label values that belong to the structure.

    Raises
    ------
    LabelError
        If there is no value, or one that the matrix does not have.
    """
    chosen = np.unique(np.asarray(values, dtype=np.int64))
    if chosen.size == 0 or chosen[0] < 0 or chosen[-1] >= len(matrix):
        raise LabelError(f"A structure needs label values between 0 and {len(matrix) - 1}; got {tuple(values)}.")
    hit = int(matrix[np.ix_(chosen, chosen)].sum())
    in_reference = int(matrix[chosen].sum())
    in_prediction = int(matrix[:, chosen].sum())
    return Overlap(
        true_positive=hit,
        false_positive=in_prediction - hit,
        false_negative=in_reference - hit,
        true_negative=int(matrix.sum()) - in_reference - in_prediction + hit,
    )


def dice(overlap: Overlap) -> float:
    """Return 2 TP / (2 TP + FP + FN): 0 to 1; NaN if the structure is empty in both label maps.

    References
    ----------
    L. R. Dice, Measures of the amount of ecologic association between species, Ecology 26 (1945).
    """
    return _ratio(2 * overlap.true_positive, overlap.predicted + overlap.reference, overlap)


def iou(overlap: Overlap) -> float:
    """Return TP / (TP + FP + FN), intersection over union: 0 to 1; NaN if empty in both label maps."""
    return _ratio(overlap.true_positive, overlap.predicted + overlap.false_negative, overlap)


def precision(overlap: Overlap) -> float:
    """Return TP / (TP + FP), the share of predicted voxels that are right: 0 to 1; NaN if empty in both label maps.

    An empty prediction of a structure that the reference has gives 0, as its Dice does.
    """
    return _ratio(overlap.true_positive, overlap.predicted, overlap)


def recall(overlap: Overlap) -> float:
    """Return TP / (TP + FN), the share of reference voxels that were found: 0 to 1; NaN if empty in both label maps.

    A structure that is predicted but not in the reference gives 0, as its Dice does.
    """
    return _ratio(overlap.true_positive, overlap.reference, overlap)


def specificity(overlap: Overlap) -> float:
    """Return TN / (TN + FP), the share of voxels outside the reference that were left out: 0 to 1.

    Depends on how much background the image has, so it compares methods on the same images only. NaN if the structure
    is empty in both label maps (as all scores here) or fills the whole image.
    """
    outside = overlap.true_negative + overlap.false_positive
    if outside == 0 or overlap.predicted + overlap.reference == 0:
        return math.nan
    return overlap.true_negative / outside


def volume_similarity(overlap: Overlap) -> float:
    """Return 1 - |P - R| / (P + R), with P and R the sizes: 0 to 1; NaN if empty in both label maps.

    Says nothing about place: two masks that do not touch can have 1.

    References
    ----------
    A. A. Taha, A. Hanbury, Metrics for evaluating 3D medical image segmentation, BMC Med. Imaging 15 (2015).
    """
    total = overlap.predicted + overlap.reference
    return 1 - abs(overlap.predicted - overlap.reference) / total if total else math.nan


def require_equal_shapes(prediction: NDArray[Any], reference: NDArray[Any]) -> None:
    """Refuse two arrays that cannot lie on one grid.

    Raises
    ------
    GeometryError
        If the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise GeometryError(
            f"Prediction and reference must have equal shapes; got {prediction.shape} and {reference.shape}."
        )


def _counted_runs(
    prediction: NDArray[Any], reference: NDArray[Any], n_labels: int, ignore: int | None
) -> NDArray[np.int64]:
    matrix = np.zeros(n_labels * n_labels, dtype=np.int64)
    for predicted, truth in _blocks(prediction, reference):
        starts, lengths = _runs(predicted, truth)
        predicted, truth = predicted[starts], truth[starts]
        if ignore is not None:
            annotated = truth != ignore
            predicted, truth, lengths = predicted[annotated], truth[annotated], lengths[annotated]
        _require_labels(predicted, n_labels, "prediction")
        _require_labels(truth, n_labels, "reference")
        codes = truth.astype(np.intp) * n_labels
        codes += predicted.astype(np.intp)
        # float64 weights are exact up to 2^53 voxels
        matrix += np.bincount(codes, weights=lengths, minlength=n_labels * n_labels).astype(np.int64)
    return matrix.reshape(n_labels, n_labels)


def _joint_boxes(prediction: NDArray[Any], reference: NDArray[Any], n_labels: int) -> tuple[Box | None, ...]:
    if n_labels == 1:
        return (None,)
    maps = [m.view(np.uint8) if m.dtype == np.bool_ else m for m in (prediction, reference)]
    per_map = [ndimage.find_objects(labels, n_labels - 1) for labels in maps]
    return (None, *(joined(pair) for pair in zip(*per_map, strict=True)))


def joined(boxes: Sequence[Box | None]) -> Box | None:
    """Return the smallest box that holds all boxes; None if there is none."""
    there = [box for box in boxes if box is not None]
    if not there:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*there, strict=True))


def _surveyed(
    compiled: Any, prediction: NDArray[Any], reference: NDArray[Any], n_labels: int, ignore: int | None
) -> Survey | None:
    # slab by slab on all threads; None if a value fits no label
    slices = max(1, BLOCK_VOXELS * len(reference) // reference.size)
    code = _NOBODY if ignore is None else ignore if 0 <= ignore < _IGNORED else _IGNORED

    def count(first: int) -> tuple[bool, NDArray[np.int64], NDArray[np.int64]]:
        slab = slice(first, first + slices)
        labels = _alike(prediction[slab], reference[slab], ignore)
        matrix = np.zeros((n_labels, n_labels), np.int64)
        boxes = np.broadcast_to(np.array([np.iinfo(np.int64).max, -1]), (2, n_labels, 3, 2)).copy()
        return bool(compiled.survey(*labels, first, code, matrix, boxes)), matrix, boxes

    with ThreadPoolExecutor(useful_threads()) as pool:
        fits, matrices, boxes = zip(*pool.map(count, range(0, len(reference), slices)), strict=True)
    if not all(fits):
        return None
    first, last = np.min(boxes, axis=(0, 1))[..., 0], np.max(boxes, axis=(0, 1))[..., 1]
    return Survey(
        matrix=np.sum(matrices, axis=0),
        boxes=tuple(
            tuple(slice(int(a), int(b)) for a, b in zip(*ends, strict=True)) if ends[1][0] >= 0 else None
            for ends in zip(first, last, strict=True)
        ),
    )


_NOBODY = -1
_IGNORED, _NO_LABEL = 65534, 65535
"""Stand for values of wide dtypes that 16 bits cannot hold: the ignored one, and what is no label anyway."""


def _alike(prediction: NDArray[Any], reference: NDArray[Any], ignore: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    # two maps of one narrow dtype, so that few kernels are compiled
    narrow = [labels.view(np.uint8) if labels.dtype == np.bool_ else labels for labels in (prediction, reference)]
    if any(labels.dtype != np.uint8 for labels in narrow):
        narrow = [_sixteen_bits(labels, ignore) for labels in narrow]
    return np.ascontiguousarray(narrow[0]), np.ascontiguousarray(narrow[1])


def _sixteen_bits(labels: NDArray[Any], ignore: int | None) -> NDArray[np.uint16]:
    if labels.dtype in (np.uint8, np.uint16) or (labels.size and labels.min() >= 0 and labels.max() < _IGNORED):
        return labels.astype(np.uint16, copy=False)
    codes = np.where((labels < 0) | (labels >= _IGNORED), _NO_LABEL, labels).astype(np.uint16)
    if ignore is not None:
        codes[labels == ignore] = ignore if 0 <= ignore < _IGNORED else _IGNORED
    return codes


def _ratio(part: int, whole: int, overlap: Overlap) -> float:
    if overlap.predicted == 0 and overlap.reference == 0:
        return math.nan
    return part / whole if whole else 0.0


def _validate(prediction: NDArray[Any], reference: NDArray[Any], n_labels: int) -> None:
    require_equal_shapes(prediction, reference)
    if not 1 <= n_labels <= MAX_LABELS:
        raise LabelError(f"The number of labels must be between 1 and {MAX_LABELS}; got {n_labels}.")
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype.kind not in "iub":
            raise LabelError(f"The {name} must hold integer labels; got an array of {array.dtype}.")


def _blocks(first: NDArray[Any], second: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    if first.ndim == 0 or first.size <= BLOCK_VOXELS:
        yield np.ravel(first), np.ravel(second)
        return
    if len(first) == 1:
        yield from _blocks(first[0], second[0])
        return
    rows = max(1, BLOCK_VOXELS * len(first) // first.size)
    for start in range(0, len(first), rows):
        yield from _blocks(first[start : start + rows], second[start : start + rows])


def _runs(first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # label maps are mostly constant: neighbours with equal pairs are counted together
    change = np.ones(first.size, np.bool_)
    np.not_equal(first[1:], first[:-1], out=change[1:])
    change[1:] |= second[1:] != second[:-1]
    starts = np.flatnonzero(change)
    return starts, np.diff(starts, append=first.size)


def _require_labels(values: NDArray[Any], n_labels: int, name: str) -> None:
    if values.size and not (0 <= int(values.min()) and int(values.max()) < n_labels):
        wrong = [int(v) for v in np.unique(values) if not 0 <= int(v) < n_labels]
        raise LabelError(
            f"The {name} must hold labels from 0 to {n_labels - 1}; found {', '.join(map(str, wrong[:8]))}"
            f"{' and more' if len(wrong) > 8 else ''}."
        )
