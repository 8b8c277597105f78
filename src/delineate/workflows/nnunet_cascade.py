"""A cascade in nnU-Net's results folder: what its first stage said of the cases is what its second stage sees.

    TRAINER__PLANS__3d_lowres/predicted_next_stage/3d_cascade_fullres/{id}.b2nd

Every fold of the first stage writes the cases that it did not see, when it is validated; whichever of the two programs
wrote them, the other reads them.

References
----------
nnU-Net 2.8.1, ``training/nnUNetTrainer/nnUNetTrainer.py`` (``perform_actual_validation``) and
``inference/export_prediction.py`` (``resample_and_save``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from delineate.case import LabelScheme
from delineate.errors import ImageReadError, PlanError, UsageError
from delineate.formats.nnunet.splits_json import read_splits
from delineate.formats.nnunet.trained_model import FINAL_CHECKPOINT
from delineate.formats.nnunet.workspace import NnunetDataset
from delineate.formats.prepared_store import PreparedStore, StoredCase
from delineate.formats.stage_labels import open_stage_labels, stage_file, write_stage_labels
from delineate.planning.plan import Configuration, Plan
from delineate.preprocessing import restore_to_next_stage
from delineate.workflows.nnunet_workspace import open_prepared
from delineate.workflows.plan_dataset import EVERY_CASE
from delineate.workflows.previous_stage import StagedStore

NEXT_STAGE = "predicted_next_stage"
"""Folder of a first stage with one sub-folder per configuration that goes on from it (nnU-Net's name)."""
NAMED = 5
"""How many missing cases are named."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FirstStage:
    """The trained model whose label maps a cascade sees."""

    place: NnunetDataset
    trainer: str
    plans_name: str
    configuration: str

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.place.model(self.trainer, self.plans_name, self.configuration)

    def labels_for(self, following: str) -> Path:
        """Return the folder of the label maps that a configuration goes on from."""
        return self.model / NEXT_STAGE / following

    def command(self, fold: str) -> str:
        """Return what to type so that a fold writes its label maps: train it, or only validate what is trained."""
        trained = (self.model / f"fold_{fold}" / FINAL_CHECKPOINT).is_file()
        words = f"nnUNetv2_train {self.place.name} {self.configuration} {fold} -tr {self.trainer} -p {self.plans_name}"
        return f"{words} --val" if trained else words


@dataclass(frozen=True, kw_only=True, slots=True)
class NextStage:
    """Where the label maps for the next stage go, and on which grids."""

    folder: Path
    store: PreparedStore
    """Of the next stage."""
    scheme: LabelScheme
    patch_size: tuple[int, ...]
    """Of the next stage, whose patches will be read."""

    def write(self, stored: StoredCase, logits: NDArray[Any]) -> None:
        """Write what the logits (head, z, y, x) of a case say, on the prepared grid of the next stage.

        Raises
        ------
        ModelError
            If the logits do not fit the case.
        ResourceError
            If the folder cannot be written or the disk is full.
        """
        if not self.store.has(stored.case_id):
            _log.warning("%s has no prepared case %s; it gets no label map.", self.store.folder, stored.case_id)
            return
        shape = self.store.open(stored.case_id).array.shape[1:]
        labels = restore_to_next_stage(logits, stored.trace, self.scheme, shape)
        write_stage_labels(self.folder, stored.case_id, labels, self.patch_size)


def first_stage_of(
    place: NnunetDataset, trainer: str, plans_name: str, configuration: Configuration
) -> FirstStage | None:
    """Return the first stage of a cascade, trained or not; None for a configuration that is no cascade."""
    stage = configuration.previous_stage
    if stage is None:
        return None
    return FirstStage(place=place, trainer=trainer, plans_name=plans_name, configuration=stage)


def next_stage_of(model: Path, place: NnunetDataset, plan: Plan, configuration: Configuration) -> NextStage | None:
    """Return where a trained model's label maps for the next stage go.

    Nowhere if there is no next stage, or, with a warning that says what to do, if its cases are not prepared: nobody
    may want to train it.

    Raises
    ------
    UnsafeModelError
        If a file beside the prepared cases asks for code to be executed.
    ImageReadError
        If a prepared case is damaged.
    """
    if configuration.next_stage is None:
        return None
    try:
        following = plan.configuration(configuration.next_stage)
        dataset, store = open_prepared(place, plan, following)
    except (UsageError, PlanError) as error:
        _log.warning(
            "Nothing is written for %s, the stage after %s: %s", configuration.next_stage, configuration.name, error
        )
        return None
    return NextStage(
        folder=model / NEXT_STAGE / following.name,
        store=store,
        scheme=dataset.scheme,
        patch_size=following.patch_size,
    )


def staged(store: PreparedStore, stage: FirstStage | None, configuration: Configuration) -> PreparedStore | StagedStore:
    """Return where the prepared cases of a configuration come from; a cascade's with their first stage."""
    return store if stage is None else StagedStore(store=store, folder=stage.labels_for(configuration.name))


def require_stage_labels(cases: PreparedStore | StagedStore, stage: FirstStage | None, case_ids: Sequence[str]) -> None:
    """Refuse to go on if cases of a cascade lack the label map of their first stage; does nothing for other stores.

    Raises
    ------
    UsageError
        If label maps are missing, damaged or of another size than the case; names cases and the commands that make
        them.
    """
    if stage is None or not isinstance(cases, StagedStore):
        return
    faulty = sorted(case_id for case_id in case_ids if not _fits(cases, case_id))
    if faulty:
        named = ", ".join(faulty[:NAMED]) + (", ..." if len(faulty) > NAMED else "")
        commands = "\n".join(stage.command(fold) for fold in _folds_of(stage.place, faulty))
        raise UsageError(
            f"{cases.folder}: expected a label map of {stage.configuration} for every case; {len(faulty)} of "
            f"{len(case_ids)} are missing, damaged or of another size ({named}). Run first:\n{commands}"
        )


def _fits(cases: StagedStore, case_id: str) -> bool:
    if not stage_file(cases.folder, case_id).exists():
        return False
    try:
        labels = open_stage_labels(cases.folder, case_id)
    except ImageReadError:
        return False
    return labels.shape == cases.store.open(case_id).array.shape[1:]


def _folds_of(place: NnunetDataset, case_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the folds whose validation covers the cases; the fold of all cases for those that are in none."""
    splits = read_splits(place.splits) if place.splits.exists() else ()
    wanted = set(case_ids)
    folds = tuple(str(number) for number, split in enumerate(splits) if wanted & set(split.validation))
    covered = {case_id for split in splits for case_id in split.validation}
    return folds if wanted <= covered else (*folds, EVERY_CASE)
