"""From raw cases to prepared ones: case by case, in bounded memory, resumable."""

from __future__ import annotations

from delineate.errors import DatasetError
from delineate.execution import Cancellation, Progress, map_items
from delineate.formats.datasets import CaseFiles
from delineate.preprocessing import prepare
from delineate.workflows.training_run import TrainingRun


def prepare_run(
    run: TrainingRun,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> int:
    """Prepare the training cases that the run's store does not have yet; return how many that were.

    Raises
    ------
    DatasetError
        If cases cannot be prepared; names all of them, the others are in the store.
    Interrupted
        If a stop was requested; what is prepared stays.
    """
    dataset, store = run.planned.dataset, run.store
    missing = [files for files in dataset.training if not store.has(files.case_id)]
    if not missing:
        return 0

    def prepare_one(files: CaseFiles) -> None:
        case = dataset.load(files)
        prepared = prepare(case.image, case.labels, run.planned.plan, run.decision.configuration, case_id=case.case_id)
        store.write(case.case_id, prepared)

    outcomes = map_items(
        prepare_one,
        missing,
        what="preprocess",
        workers=workers,
        backend="threads",
        progress=progress,
        cancellation=cancellation,
    )
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise DatasetError(f"{len(failures)} case(s) of {dataset.root} cannot be prepared.", failures)
    return len(missing)
