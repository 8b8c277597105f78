"""What may leave: drafts, marked as such, and approved results, which only a review makes."""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass
from datetime import datetime

import numpy as np

from delineate.case import Result
from delineate.clinical.coding import CodedStructure
from delineate.errors import GeometryError, ReviewError
from delineate.formats.dicom.source_series import SourceSeries

_MADE_BY_REVIEW = object()
"""Known to :mod:`delineate.clinical.review` alone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DraftResult:
    """A segmentation of a DICOM series that nobody has approved; exports of it say UNAPPROVED or preliminary.

    Raises
    ------
    GeometryError
        If the label map does not lie on the voxels of the series.
    """

    result: Result
    """Its label map lies on ``source.grid``."""
    source: SourceSeries
    structures: tuple[CodedStructure, ...]

    def __post_init__(self) -> None:
        differences = self.result.labels.grid.differences(self.source.grid)
        if differences:
            raise GeometryError(f"The label map does not lie on the voxels of the series: {'; '.join(differences)}.")

    @property
    def content_sha256(self) -> str:
        """Hash of what a reviewer sees: the mask, its geometry, its source and the model."""
        labels = self.result.labels
        digest = hashlib.sha256(np.ascontiguousarray(labels.array).tobytes())
        facts = (
            labels.grid,
            str(labels.array.dtype),
            self.source.series_uid,
            tuple((s.sop_instance_uid, s.frame) for s in self.source.slices),
            self.result.provenance.model,
            self.structures,
        )
        digest.update(repr(facts).encode())
        if self.result.probabilities is not None:
            digest.update(np.ascontiguousarray(self.result.probabilities).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Approval:
    """Who takes responsibility, when, and for exactly what."""

    reviewer_name: str
    reviewer_id: str
    time_utc: datetime
    meaning: str
    """Of the signature, in words (21 CFR 11.50): ``approved for use``."""
    content_sha256: str
    """Of the draft that was seen."""
    ledger_sequence: int
    ledger_sha256: str
    """Of the ledger's row that records the approval."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ApprovedResult:
    """A segmentation that a named person approved; made by :func:`delineate.clinical.review.approve` and nothing else.

    Raises
    ------
    ReviewError
        If it is made elsewhere, or the draft is not the one that was approved.
    """

    draft: DraftResult
    approval: Approval
    _key: InitVar[object]

    def __post_init__(self, _key: object) -> None:
        if _key is not _MADE_BY_REVIEW:
            raise ReviewError("An approved result is made by a review only: delineate.clinical.review.approve.")
        self.require_unchanged()

    def require_unchanged(self) -> None:
        """Check that the draft is still what was approved; every export asks.

        Raises
        ------
        ReviewError
            If the mask, its geometry, its source or its codes changed after the approval.
        """
        if self.draft.content_sha256 != self.approval.content_sha256:
            raise ReviewError("The mask, its geometry or its source changed after the approval; review it again.")
