"""From prepared cases to a trained model package: one training per fold, then the package of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from delineate import __version__
from delineate.execution import Cancellation, Progress
from delineate.formats.model_package import DOCUMENT, ModelPackage, read_package, write_package
from delineate.formats.nnunet.fingerprint_json import fingerprint_to_json
from delineate.networks import SegmentationNetwork, build_network
from delineate.training import Assignment, Extension, Ranks, Runtime, TrainedFold, TrainingCases, fit
from delineate.workflows.fine_tune import begin_from_origin, origin_facts
from delineate.workflows.previous_stage import cases_of, predict_previous_stage, previous_package
from delineate.workflows.training_run import TrainingRun


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainedModel:
    """What training left behind."""

    package: ModelPackage
    folds: dict[str, TrainedFold]
    """By name: ``0`` to ``4``, or ``all``."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What the report should tell, each once."""
        return tuple(dict.fromkeys(notice for fold in self.folds.values() for notice in fold.notices))


def train_model(
    run: TrainingRun,
    *,
    folds: Sequence[str],
    extension: Extension | None = None,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedModel:
    """Train every fold that is asked for and write the model package; finished folds are not trained again.

    Parameters
    ----------
    run
        What was decided; its cases must be prepared.
    folds
        Names of folds; a time budget in the recipe counts for each of them.
    extension
        More training for finished folds.
    ranks
        The processes that train together; the first one writes the package.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    PlanError
        If a fold does not exist.
    ModelError
        If a checkpoint in the folder is damaged or belongs to another training.
    TrainingError
        If training diverged.
    ResourceError
        If memory or disk do not suffice.
    Interrupted
        If a stop was requested; the state is saved.
    """
    ranks = ranks or Ranks()
    trained = {}
    for fold in folds:
        trained[fold] = train_fold(
            run, fold, extension=extension, ranks=ranks, progress=progress, cancellation=cancellation
        )
    package = package_of(run, trained)
    if ranks.writes:
        package = write_package(run.folder.model, with_earlier_folds(run, package))
    return TrainedModel(package=package, folds=trained)


def train_fold(
    run: TrainingRun,
    fold: str,
    *,
    extension: Extension | None = None,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> TrainedFold:
    """Train one fold, or go on with it; a finished one is not trained again. See :func:`train_model`."""
    ranks = ranks or Ranks()
    if ranks.writes:
        predict_previous_stage(run, fold, progress=progress, cancellation=cancellation)
    ranks.wait()
    return fit(
        new_network(run, fold),
        training_cases(run, fold),
        assignment_of(run, fold),
        run.folder.fold(fold),
        runtime=Runtime(device=run.machine.device, prefetch=1 if run.machine.is_gpu else 0, ranks=ranks),
        extension=extension,
        progress=progress,
        cancellation=cancellation,
    )


def new_network(run: TrainingRun, fold: str) -> SegmentationNetwork:
    """Return the network of a run before training: with random weights, or those of the model that it starts from.

    Raises
    ------
    ModelError
        If the model to start from is gone or is another one now.
    """
    dataset, configuration, seed = run.planned.dataset, run.decision.configuration, run.decision.recipe.seed
    network = build_network(
        run.decision.configuration.architecture,
        in_channels=run.decision.configuration.input_channels(run.planned.dataset.scheme),
        heads=run.planned.dataset.scheme.head_count,
        seed=run.decision.recipe.seed,
    )
    begin_from_origin(network, dataset, run.folder, configuration, seed=seed, fold=fold)
    return network


def training_cases(run: TrainingRun, fold: str) -> TrainingCases:
    """Return the cases of a fold as training wants them."""
    split = run.split(fold)
    return TrainingCases(training=split.train, validation=split.validation, open=cases_of(run, fold).open)


def assignment_of(run: TrainingRun, fold: str) -> Assignment:
    """Return what a fold is to learn; each fold draws patches with a seed of its own."""
    recipe = run.decision.recipe
    offset = int(fold) if fold.isdigit() else 0
    return Assignment(
        configuration=run.decision.configuration,
        recipe=replace(recipe, seed=recipe.seed + offset),
        scheme=run.planned.dataset.scheme,
    )


def package_of(run: TrainingRun, trained: dict[str, TrainedFold]) -> ModelPackage:
    """Return the package of trained folds."""
    dataset, decision = run.planned.dataset, run.decision
    return ModelPackage(
        name=dataset.name,
        software=f"delineate {__version__}",
        plan=run.planned.plan,
        configuration=decision.configuration,
        recipe=decision.recipe,
        scheme=dataset.scheme,
        channel_names=dataset.channel_names,
        file_ending=dataset.file_ending,
        mirror_axes=decision.recipe.mirror_axes,
        weights={fold: result.weights for fold, result in trained.items()},
        previous=previous_package(run),
        facts={
            "training_cases": len(dataset.training),
            "steps": {fold: result.steps for fold, result in trained.items()},
            "seconds": {fold: round(result.seconds, 1) for fold, result in trained.items()},
            "pseudo_dice": {fold: result.smoothed_dice for fold, result in trained.items()},
            **origin_facts(run.folder),
        },
        fingerprint=fingerprint_to_json(run.planned.fingerprint),
    )


def with_earlier_folds(run: TrainingRun, package: ModelPackage) -> ModelPackage:
    """Return the package with the folds that the run's folder holds already, so that folds can be trained in turn."""
    if not (run.folder.model / DOCUMENT).exists():
        return package
    earlier = read_package(run.folder.model)
    if (earlier.configuration, earlier.recipe) != (package.configuration, package.recipe):
        return package
    weights = {**earlier.weights, **package.weights}
    facts = {
        name: {**earlier.facts.get(name, {}), **value} if isinstance(value, dict) else value
        for name, value in package.facts.items()
    }
    # chosen and fitted on the predictions of exactly these weights
    same = facts.get("steps") == earlier.facts.get("steps")
    package = replace(package, weights=dict(sorted(weights.items())), facts=facts)
    return replace(package, postprocessing=earlier.postprocessing, trust=earlier.trust) if same else package
