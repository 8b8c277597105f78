"""From raw cases to prepared ones: case by case, in bounded memory, resumable. Needs no torch, so it starts quickly."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from delineate.errors import DatasetError, ResourceError, UsageError
from delineate.execution import Cancellation, Cluster, Progress, Silent, Watched, map_items
from delineate.formats.datasets import CaseFiles, Dataset, open_dataset, verified, verify_dataset
from delineate.formats.datasets.repairs import DROP_FAULTY_CASES
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.nnunet.plans_json import read_plan
from delineate.formats.prepared_store import PreparedStore
from delineate.formats.recipe_json import read_recipe
from delineate.planning.plan import Configuration, Plan
from delineate.preprocessing import preparation_key, prepare
from delineate.workflows.run_folder import INSTANCE_PLAN, RunFolder


def open_store(folder: RunFolder, plan: Plan, configuration: Configuration) -> PreparedStore:
    """Return the store of prepared cases; configurations with equal preparation share it."""
    return PreparedStore(
        folder.prepared / configuration.data_identifier,
        settings=preparation_key(plan, configuration),
        patch_size=configuration.patch_size,
    )


def prepare_dataset(
    dataset: Dataset,
    plan: Plan,
    configuration: Configuration,
    store: PreparedStore,
    *,
    workers: int = 1,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> int:
    """Prepare the training cases that the store does not have yet; return how many that were.

    Parameters
    ----------
    dataset, plan, configuration
        What is prepared, and how.
    store
        Where prepared cases are kept; on a cluster its folder and the dataset must be reachable for the workers.
    workers
        Threads of this process.
    cluster
        Work there instead.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DatasetError
        If cases cannot be prepared; names all of them, the others are in the store.
    Interrupted
        If a stop was requested; what is prepared stays.
    """
    missing = [files for files in dataset.training if not store.has(files.case_id)]
    if not missing:
        return 0

    outcomes = map_items(
        partial(prepare_one, dataset, plan, configuration, store),
        missing,
        what="preprocess",
        workers=workers,
        backend=cluster or "threads",
        progress=progress,
        cancellation=cancellation,
    )
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise DatasetError(f"{len(failures)} case(s) of {dataset.root} cannot be prepared.", failures)
    return len(missing)


def prepare_one(
    dataset: Dataset, plan: Plan, configuration: Configuration, store: PreparedStore, files: CaseFiles
) -> None:
    """Prepare one case, unless another worker has done so already.

    Raises
    ------
    DelineateError
        What is wrong with the case.
    """
    if not store.has(files.case_id):
        case = dataset.load(files)
        try:
            prepared = prepare(case.image, case.labels, plan, configuration, case_id=case.case_id)
        except MemoryError as error:
            raise ResourceError(
                f"Memory does not suffice for {case.image.grid.shape} voxels of {case.image.grid.spacing_mm} mm at the "
                f"plan's {configuration.spacing_mm} mm. Check that the two fit each other, or close other programs."
            ) from error
        store.write(case.case_id, prepared)


def dataset_of_run(folder: RunFolder) -> Dataset:
    """Open the dataset of a planned run again, with the repairs that the run was planned with.

    Raises
    ------
    UsageError
        If the folder holds no planned run; says what to do.
    DatasetError
        If the dataset is no longer where it was.
    PlanError
        If the settings of the run are damaged.
    """
    missing = [path.name for path in (folder.settings, folder.plan, folder.recipe) if not path.exists()]
    if missing and (folder.root / INSTANCE_PLAN).exists():
        raise UsageError(
            f"{folder.root} is a run on pictures with numbered objects; repeat its `delineate run` command to go on "
            "with it or to write its report again."
        )
    if missing:
        option = "" if folder.configuration is None else f" --configuration {folder.configuration}"
        raise UsageError(
            f"{folder.own}: expected the folder of a planned run; missing are {', '.join(missing)}. "
            f"Start with `delineate plan DATASET --out {folder.root}{option}`."
        )
    settings = read_document(folder.settings)
    repairs = settings.get("repairs")
    dataset = open_dataset(
        Path(settings.child("dataset").text()),
        repairs=frozenset(() if repairs is None else (one.text() for one in repairs.items())),
    )
    if DROP_FAULTY_CASES in dataset.repairs:
        dataset = verified(dataset, verify_dataset(dataset))
    return dataset


def preprocess_run(
    root: Path,
    *,
    configuration: str | None = None,
    workers: int = 1,
    cluster: Cluster | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> int:
    """Prepare all training cases of a planned run; return how many were not prepared yet.

    Raises
    ------
    UsageError
        If the folder holds no planned run.
    DatasetError
        If cases cannot be prepared.
    """
    folder = RunFolder(root=root.resolve(), configuration=configuration)
    dataset, plan = dataset_of_run(folder), read_plan(folder.plan)
    trained, _ = read_recipe(folder.recipe)
    store = open_store(folder, plan, trained)
    watched = Watched(progress=progress or Silent(), cancellation=cancellation or Cancellation())
    return prepare_dataset(dataset, plan, trained, store, workers=workers, cluster=cluster, **watched)
