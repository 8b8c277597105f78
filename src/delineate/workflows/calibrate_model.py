"""A trained model learns what is ordinary for it, and at which temperature its probabilities come true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from delineate.errors import DatasetError, DelineateError, Interrupted, UsageError
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.datasets import CaseFiles, Dataset, open_dataset
from delineate.formats.examined_case import Examined
from delineate.formats.model_package import DOCUMENT, ModelPackage, read_package, write_package
from delineate.metrics.trust import TrustReference, fit_reference
from delineate.training.machine import AUTO
from delineate.workflows.conclude_run import validate_folds
from delineate.workflows.examine_case import examine_case
from delineate.workflows.fit_trust import fit_trust_of_run
from delineate.workflows.model import Model, assemble, load_model
from delineate.workflows.resume_run import open_run
from delineate.workflows.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """A calibrated model on disk."""

    path: Path
    trust: TrustReference
    left_out: tuple[str, ...] = ()
    """Cases that could not be used, each with its reason."""


def calibrate_model(
    model: Path,
    dataset: Path | None = None,
    *,
    out: Path | None = None,
    configuration: str | None = None,
    repairs: frozenset[str] = frozenset(),
    device: str = AUTO,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Calibrated:
    """Learn what is ordinary for a model and write it into its package.

    Parameters
    ----------
    model
        The folder of a run, whose validation cases are used, each judged by the fold that was not trained on it; or
        with ``dataset`` any model.
    dataset
        Cases with references that no fold was trained on; None: the validation cases of the run.
    out
        Where the calibrated package is written; None: the model itself is replaced, which must be a run or package.
    configuration
        Which of several models.
    repairs
        Of the dataset.
    device
        ``auto``, ``cpu``, ``cuda``, ...
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If there is neither a run nor a dataset, or no place to write to.
    InputError
        If there are too few cases.
    DelineateError
        Whatever reading or predicting raises.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    if dataset is None:
        return _calibrate_run(model, out, configuration, device, progress, cancellation)
    loaded = load_model(model, device=device, configuration=configuration)
    target = out or _own_package(model)
    source = open_dataset(dataset, repairs=repairs)
    examined, left_out = examine_dataset(loaded, source, source.training, progress, cancellation)
    trust = fit_reference(
        [e.population for e in examined],
        [e.honest for e in examined],
        origin="held out",
        regions=loaded.package.scheme.has_regions,
    )
    return _written(loaded.package, trust, target, left_out)


def _calibrate_run(
    root: Path,
    out: Path | None,
    configuration: str | None,
    device: str,
    progress: Progress,
    cancellation: Cancellation,
) -> Calibrated:
    if not RunFolder(root=root, configuration=configuration).recipe.exists():
        raise UsageError(
            f"{root} is not the folder of a run; to calibrate a model alone, give a dataset with references that it "
            "was not trained on: `delineate calibrate MODEL DATASET`."
        )
    run = open_run(root, configuration=configuration, device=device)
    package = read_package(run.folder.model)
    scored = validate_folds(run, assemble(package, run.machine), progress, cancellation)
    trust = fit_trust_of_run(run, package, scored.scores, progress=progress, cancellation=cancellation)
    return _written(package, trust, out or run.folder.model, ())


def examine_dataset(
    model: Model, dataset: Dataset, cases: Sequence[CaseFiles], progress: Progress, cancellation: Cancellation
) -> tuple[list[Examined], tuple[str, ...]]:
    """Predict and watch cases with references; return them, and each case that could not be used with its reason.

    Raises
    ------
    DatasetError
        If the dataset's structures are not the model's.
    Interrupted
        If a stop was requested.
    """
    if dataset.scheme != model.package.scheme:
        raise DatasetError(
            f"The dataset {dataset.name} has the structures {[s.name for s in dataset.scheme.structures]}; the model "
            f"has {[s.name for s in model.package.scheme.structures]}. Both must be the same, with equal label values."
        )
    progress.start("predict", len(cases))
    found, failed = [], []
    for files in cases:
        cancellation.check()
        try:
            found.append(examine_case(dataset.load(files), model, cancellation=cancellation))
        except Interrupted:
            raise
        except DelineateError as error:
            failed.append(f"{files.case_id}: {error}")
        progress.advance(note=files.case_id)
    progress.finish()
    return found, tuple(failed)


def _own_package(model: Path) -> Path:
    for folder in (model, RunFolder(root=model).model):
        if (folder / DOCUMENT).is_file():
            return folder
    if model.suffix == ".zip":
        raise UsageError(f"Name the calibrated package with --out; {model} is a zip, which is left as it is.")
    raise UsageError(f"Name the calibrated package with --out; {model} is no package of Delineate and stays as it is.")


def _written(package: ModelPackage, trust: TrustReference, target: Path, left_out: tuple[str, ...]) -> Calibrated:
    write_package(target, replace(package, trust=trust))
    return Calibrated(path=target, trust=trust, left_out=left_out)
