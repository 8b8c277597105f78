"""Many images through one model on the workers of a cluster: each case is one task, its label map is its result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path

from delineate.errors import ModelError, SomeCasesFailed
from delineate.execution import Cancellation, Cluster, Progress, map_items, remove_leftovers
from delineate.formats.datasets import CaseFiles
from delineate.formats.nnunet.trained_model import FINAL_CHECKPOINT
from delineate.training.machine import AUTO
from delineate.workflows.model import Manner, Model, load_model
from delineate.workflows.segment_folder import find_images, require_output_folder, segment_files

MODELS_IN_MEMORY = 1
"""Models that a worker keeps; one prediction uses one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSource:
    """Where a worker finds the model, and how it uses it; the same words as :func:`load_model`."""

    path: Path
    folds: tuple[str, ...] | None = None
    device: str = AUTO
    mirroring: bool = True
    precision: str = AUTO
    checkpoint: str = FINAL_CHECKPOINT
    configuration: str | None = None
    manner: Manner = field(default_factory=Manner)

    def load(self) -> Model:
        """Read the model.

        Raises
        ------
        ModelError
            If it is missing or damaged.
        UsageError, ResourceError
            If it cannot be used in this manner.
        """
        model = load_model(
            self.path,
            folds=self.folds,
            device=self.device,
            mirroring=self.mirroring,
            precision=self.precision,
            checkpoint=self.checkpoint,
            configuration=self.configuration,
        )
        return self.manner.of(model)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentTask:
    """What a worker does with every case; plain data."""

    source: ModelSource
    identity: str
    """Of the model that was asked for; a worker that finds another one at the path must not use it."""
    out: Path
    probabilities: bool
    overwrite: bool


def segment_folder_on_cluster(
    source: ModelSource,
    images: Path,
    out: Path,
    cluster: Cluster,
    *,
    probabilities: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[Path, ...]:
    """Segment an image or a folder of images into ``out`` on the workers.

    The case of a lost worker runs again; a label map that stands in ``out`` already is kept unless ``overwrite``.

    Parameters
    ----------
    source, images, out
        Model, images and folder of the label maps, all reachable for the workers under the same path.
    cluster
        The workers.
    probabilities
        Also write ``{case_id}.npz``.
    overwrite
        Segment again what stands in ``out``.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Returns
    -------
    tuple of Path
        The label maps, by case id.

    Raises
    ------
    ModelError
        If the model is missing or damaged.
    InputError
        If there is no image, or channels are missing.
    UsageError
        If ``out`` is a folder in which the images lie.
    ResourceError
        If ``out`` cannot be written.
    SomeCasesFailed
        If cases could not be segmented; names each with its reason, the others are written.
    Interrupted
        If a stop was requested; finished cases stay.
    """
    source = replace(source, path=source.path.resolve())
    package = source.load().package
    cases = find_images(images.resolve(), len(package.channel_names))
    require_output_folder(out, cases)
    task = SegmentTask(
        source=source,
        identity=package.identity,
        out=out.resolve(),
        probabilities=probabilities,
        overwrite=overwrite,
    )
    outcomes = map_items(
        partial(segment_one, task, cluster.cancellation),
        cases,
        what="predict",
        backend=cluster,
        progress=progress,
        cancellation=cancellation,
    )
    for case in cases:  # of workers that were killed while they wrote
        remove_leftovers(out, f"{case.case_id}.*")
    failures = [f"{o.item.case_id}: {o.error}" for o in outcomes if o.error is not None]
    if failures:
        raise SomeCasesFailed(f"{len(failures)} of {len(cases)} cases could not be segmented.", failures)
    return tuple(o.value for o in outcomes if o.value is not None)


def segment_one(task: SegmentTask, cancellation: Cancellation, case: CaseFiles) -> Path:
    """Segment one case in a worker and return its label map.

    Raises
    ------
    DelineateError
        What is wrong with the case, or with the worker's model.
    """
    model = _model(task.source, task.identity)
    try:
        (target,) = segment_files(
            model,
            [case],
            task.out,
            probabilities=task.probabilities,
            overwrite=task.overwrite,
            cancellation=cancellation,
        )
    except SomeCasesFailed as error:
        raise SomeCasesFailed(error.failures[0].removeprefix(f"{case.case_id}: ")) from error
    return target


@lru_cache(maxsize=MODELS_IN_MEMORY)
def _model(source: ModelSource, identity: str) -> Model:
    """Load the model once per worker process."""
    model = source.load()
    if model.package.identity != identity:
        raise ModelError(
            f"{source.path}: expected the model {identity}; this worker finds {model.package.identity} there. "
            "All workers must see the same folder."
        )
    return model
