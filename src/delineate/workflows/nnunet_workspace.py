"""nnU-Net's first steps on nnU-Net's folders: fingerprint, plan, prepared cases; the same files in the same places.

Both programs can work on one folder: what one has written, the other reads.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from delineate.errors import DatasetError, UsageError
from delineate.execution import Watched, atomic_path, write_text
from delineate.formats.datasets import Dataset, open_dataset, verified, verify_dataset
from delineate.formats.datasets.nnunet_prepared import open_nnunet_prepared
from delineate.formats.images import read_labels
from delineate.formats.nnunet.case_properties import read_case_properties
from delineate.formats.nnunet.fingerprint_json import read_fingerprint, write_fingerprint
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.nnunet.plans_json import plan_to_json, read_plan, write_plan
from delineate.formats.nnunet.splits_json import read_splits, write_splits
from delineate.formats.nnunet.workspace import DECLARATION, NnunetDataset, NnunetFolders, find_dataset, find_datasets
from delineate.formats.prepared_store import PreparedStore, StoredArray
from delineate.geometry.grid import Grid
from delineate.planning.plan import Configuration, Plan
from delineate.planning.planner import plan_dataset as decide_plan
from delineate.planning.presets import PRESETS, Preset
from delineate.planning.splits import Split, choose_split, every_case, make_splits, random_split
from delineate.planning.transfer import check_move, move_plan
from delineate.preprocessing import preparation_key, trace_of
from delineate.preprocessing.steps import location_labels, sample_locations
from delineate.workflows.plan_dataset import EVERY_CASE, facts_of, measure_dataset
from delineate.workflows.prepare_dataset import prepare_dataset

__all__ = [
    "PLANNERS",
    "NnunetDataset",
    "NnunetFolders",
    "PlanSettings",
    "extract_fingerprint",
    "find_dataset",
    "find_datasets",
    "move_plans",
    "open_prepared",
    "plan_experiment",
    "preprocess",
    "split_of",
]

_log = logging.getLogger(__name__)

PLANNERS: dict[str, Preset] = {preset.planner_name: preset for preset in PRESETS.values()}
"""nnU-Net's planner classes that can be had, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """What the user may change about a plan; the defaults are nnU-Net's."""

    planner: str = "ExperimentPlanner"
    memory_gb: float | None = None
    """GPU memory to plan for; None: the planner's own."""
    target_spacing_mm: tuple[float, ...] | None = None
    """(z, y, x) of the full resolution."""
    plans_name: str | None = None
    """None: the planner's own."""

    @property
    def preset(self) -> Preset:
        """The planner as the user wants it.

        Raises
        ------
        UsageError
            If there is no such planner; names those that there are.
        """
        if self.planner not in PLANNERS:
            raise UsageError(f"There is no planner '{self.planner}' here; there are {', '.join(PLANNERS)}.")
        preset = PLANNERS[self.planner]
        if self.memory_gb is not None and not 0 < self.memory_gb < math.inf:
            raise UsageError(f"-gpu_memory_target takes a positive number of GB; got {self.memory_gb:g}.")
        if self.memory_gb is not None:
            preset = preset.with_memory(self.memory_gb)
        return preset if self.plans_name is None else replace(preset, plans_name=self.plans_name)


def open_raw(place: NnunetDataset) -> Dataset:
    """Open the raw dataset under its nnU-Net name.

    Raises
    ------
    DatasetError
        If the folder or its ``dataset.json`` is missing or not understood.
    """
    if place.raw.is_dir() and not (place.raw / DECLARATION).is_file():
        raise DatasetError(
            f"{place.raw}: expected {DECLARATION}, which names channels and labels; it is not there. Write it as "
            "nnU-Net's description of a raw dataset says."
        )
    return replace(open_dataset(place.raw), name=place.name)


def extract_fingerprint(
    place: NnunetDataset, *, verify: bool = False, clean: bool = False, workers: int = 1, **watched: Unpack[Watched]
) -> None:
    """Measure the raw dataset and write ``dataset_fingerprint.json``; one that stands there is kept unless ``clean``.

    Raises
    ------
    DatasetError
        If the dataset has faults (``verify``), or cases cannot be read; names all of them.
    Interrupted
        If a stop was requested.
    """
    dataset = open_raw(place)
    if verify:
        verified(dataset, verify_dataset(dataset, workers=workers, **watched))
    if clean or not place.fingerprint.exists():
        write_fingerprint(place.fingerprint, measure_dataset(dataset, workers=workers, **watched))


def plan_experiment(place: NnunetDataset, settings: PlanSettings) -> Plan:
    """Decide the plan from the fingerprint and write it with the copies that nnU-Net makes of the declaration.

    Raises
    ------
    PlanError
        If the fingerprint is missing, or the dataset cannot be planned.
    UsageError
        If the planner is unknown.
    """
    preset, dataset = settings.preset, open_raw(place)
    fingerprint = read_fingerprint(place.fingerprint)
    plan = decide_plan(fingerprint, facts_of(dataset), preset, target_spacing_mm=settings.target_spacing_mm)
    _copy(place.raw / "dataset.json", place.declaration)
    _take_splits(place)
    _write_plan(place.plan(plan.plans_name), plan)
    return plan


def move_plans(source: NnunetDataset, target: NnunetDataset, plans_name: str, new_name: str | None = None) -> Path:
    """Write the plans of one dataset for another; return the file.

    Raises
    ------
    PlanError
        If there are no such plans, or they do not fit the channels of the other dataset.
    DatasetError
        If the other dataset's raw folder is not understood.
    """
    plan, dataset = read_plan(source.plan(plans_name)), open_raw(target)
    check_move(plan, dataset.channel_names)
    moved = move_plan(plan, dataset_name=target.name, image_reader=dataset.reader_name, plans_name=new_name)
    write_plan(target.plan(moved.plans_name), moved)
    return target.plan(moved.plans_name)


def preprocess(
    place: NnunetDataset, plans_name: str, workers: Mapping[str, int], **watched: Unpack[Watched]
) -> dict[str, int | None]:
    """Prepare the cases of several configurations; those that are ready and not older than their files are kept.

    Parameters
    ----------
    place
        The dataset.
    plans_name
        Which plan.
    workers
        Cases worked on at a time, by name of the configuration.
    watched
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    dict
        Per configuration how many cases were prepared now; None if the plan does not have it.

    Raises
    ------
    PlanError
        If there is no such plan.
    DatasetError
        If cases cannot be prepared; names all of them.
    Interrupted
        If a stop was requested; what is prepared stays.
    """
    dataset, plan = open_raw(place), read_plan(place.plan(plans_name))
    available = {configuration.name for configuration in plan.configurations}
    counts: dict[str, int | None] = {}
    for name, count in workers.items():
        if name not in available:
            counts[name] = None
            continue
        configuration = plan.configuration(name)
        store = store_of(place, plan, configuration)
        discard_outdated(store, dataset)
        counts[name] = prepare_dataset(dataset, plan, configuration, store, workers=count, **watched)
    copy_references(dataset, place)
    return counts


def store_of(place: NnunetDataset, plan: Plan, configuration: Configuration) -> PreparedStore:
    """Return the prepared cases of a configuration where nnU-Net looks for them."""
    return PreparedStore(
        place.prepared(configuration.data_identifier),
        settings=preparation_key(plan, configuration),
        patch_size=configuration.patch_size,
    )


def discard_outdated(store: PreparedStore, dataset: Dataset) -> None:
    """Remove prepared cases that the dataset does not have any more, or whose files were changed since."""
    cases = {case.case_id: case for case in dataset.training}
    for case_id in store.names():
        case = cases.get(case_id)
        files = () if case is None else (*case.images, case.labels)
        changed = max((path.stat().st_mtime for path in files if path is not None and path.exists()), default=0.0)
        if case is None or changed > store.modified(case_id):
            store.discard(case_id)


def copy_references(dataset: Dataset, place: NnunetDataset) -> None:
    """Copy the masks of the training cases, those that are missing or older, for validation without the raw data."""
    for case in dataset.training:
        target = place.references / f"{case.case_id}{dataset.file_ending}"
        if case.labels is not None and (not target.exists() or target.stat().st_mtime < case.labels.stat().st_mtime):
            _copy(case.labels, target)


def open_prepared(place: NnunetDataset, plan: Plan, configuration: Configuration) -> tuple[Dataset, PreparedStore]:
    """Return dataset and store of the prepared cases, whichever of the two programs prepared them.

    Raises
    ------
    UsageError
        If no case is prepared, or cases were prepared for another plan; says what to do.
    UnsafeModelError
        If a file beside the cases asks for code to be executed.
    ImageReadError
        If a prepared case is damaged.
    """
    store = store_of(place, plan, configuration)
    names = store.names()
    dataset = open_nnunet_prepared(place.preprocessed, names)
    for case in dataset.training:
        if store.modified(case.case_id) < 0 and case.labels is not None:
            _adopt(
                store, case.case_id, read_labels(case.labels).grid, plan, configuration, location_labels(dataset.scheme)
            )
    ready = store.case_ids()
    other = sorted(set(names) - set(ready))
    if not ready or other:
        found = f"{len(other)} cases damaged or prepared for another plan, such as {other[0]}" if other else "none"
        raise UsageError(
            f"{store.folder}: expected prepared cases of {plan.plans_name} {configuration.name}; found {found}. Run "
            f"nnUNetv2_preprocess -d {place.name} -plans_name {plan.plans_name} -c {configuration.name}."
        )
    return dataset, store


def splits_of(place: NnunetDataset, case_ids: tuple[str, ...]) -> tuple[Split, ...]:
    """Return the folds in ``splits_final.json``; where there is none, nnU-Net's five are made and written.

    Raises
    ------
    PlanError
        If the file is damaged, or there are too few cases.
    """
    if not place.splits.exists():
        write_splits(place.splits, make_splits(case_ids))
    return read_splits(place.splits)


def split_of(place: NnunetDataset, fold: str, case_ids: tuple[str, ...]) -> Split:
    """Return the cases of a fold: of the splits file, drawn at random for a number beyond it, or ``all``.

    Raises
    ------
    UsageError
        If the fold is neither a number nor ``all``.
    PlanError
        If the splits do not fit the cases.
    """
    if fold == EVERY_CASE:
        return every_case(case_ids)
    if not fold.isdigit():
        raise UsageError(f"A fold is a number from 0, or 'all'; got '{fold}'.")
    splits = splits_of(place, case_ids)
    if int(fold) < len(splits):
        return choose_split(splits, int(fold), case_ids)
    _log.warning(
        "%s has folds 0 to %d; fold %s is a random 80:20 split, as nnU-Net makes it.",
        place.splits,
        len(splits) - 1,
        fold,
    )
    return random_split(case_ids, int(fold))


def _adopt(
    store: PreparedStore,
    case_id: str,
    grid: Grid,
    plan: Plan,
    configuration: Configuration,
    groups: Mapping[int, tuple[int, ...]],
) -> None:
    """Write beside a case of nnU-Net's what the store needs: the way back and sampled voxels."""
    properties = read_case_properties(store.folder / f"{case_id}.pkl")
    labels = StoredArray(store.folder / f"{case_id}_seg.b2nd", first_channel=True)
    trace = trace_of(grid, configuration, plan.transpose_forward, properties.shape, properties.box)
    store.adopt(case_id, trace, sample_locations(labels[...], groups), groups)


def _take_splits(place: NnunetDataset) -> None:
    """Copy the user's own splits from the raw dataset; if others are there already, they must be the same."""
    wanted = place.raw / "splits_final.json"
    if not wanted.exists():
        return
    if not place.splits.exists():
        _copy(wanted, place.splits)
        return
    different = [
        str(fold)
        for fold, (ours, theirs) in enumerate(zip(read_splits(wanted), read_splits(place.splits), strict=False))
        if (set(ours.train), set(ours.validation)) != (set(theirs.train), set(theirs.validation))
    ]
    if different:
        raise DatasetError(
            f"{wanted} and {place.splits} must agree; they differ in fold {', '.join(different)}. Delete the wrong one."
        )


def _write_plan(path: Path, plan: Plan) -> None:
    """Write the plan; configurations that the user added to an earlier file of that name are kept, as nnU-Net does."""
    content = plan_to_json(plan)
    if path.exists():
        earlier = read_document(path).child("configurations")
        added = {name: earlier.value[name] for name in earlier.keys() if name not in content["configurations"]}
        content["configurations"].update(added)
    write_text(path, json.dumps(content, indent=4))


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
