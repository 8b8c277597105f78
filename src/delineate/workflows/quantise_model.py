"""Whether a trained model may compute in 8-bit integers: it is tried on cases with references, and the verdict is kept.

ranges   = what every layer sees on a few patches of calibration cases
floating = the model on OpenVINO as it is            both predict the same cases
integer  = the model on OpenVINO in int8
verdict  = mean Dice per structure of both; stored beside model.json, bound to the weights
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from delineate.case import LabelScheme, Result
from delineate.errors import DatasetError, UsageError
from delineate.execution import Watched
from delineate.formats.datasets import CaseFiles, Dataset, open_dataset
from delineate.formats.model_package import DOCUMENT, store_quantisation, weight_hashes
from delineate.inference.quantised import observed_ranges
from delineate.inference.sliding_window import cut_tile
from delineate.inference.tiling import lay_tiles
from delineate.metrics.scores import CaseScores
from delineate.metrics.summary import Summary, summarise
from delineate.planning.quantisation import LARGEST_DROP, Quantisation, Range, StructureCheck
from delineate.workflows.model import Model, load_model, networks_of
from delineate.workflows.prepare_for_model import prepare_for_model
from delineate.workflows.resume_run import open_run
from delineate.workflows.run_folder import RunFolder
from delineate.workflows.score_cases import score_labels

CALIBRATION_CASES = 8
"""Most cases that the ranges are taken from."""
CALIBRATION_SHARE = 0.2
"""Share of a data set that serves for calibration and is not scored."""
TILES_PER_CASE = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share:
    """Which cases calibrate and check some folds of a model."""

    folds: tuple[str, ...]
    calibrating: tuple[CaseFiles, ...]
    checking: tuple[CaseFiles, ...]


def quantise_model(
    source: Path, check: Path | None = None, *, largest_drop: float = LARGEST_DROP, **watched: Unpack[Watched]
) -> Quantisation:
    """Quantise a model, check it, and store the verdict in its package.

    Parameters
    ----------
    source
        A run's folder, or a model package that is a folder.
    check
        A data set with references that the model was not trained on: a fifth of its cases, at most eight, calibrate,
        the others are scored by all folds together. None: ``source`` is a run, and each fold's network is scored on
        its own validation cases.
    largest_drop
        By how much the mean Dice of a structure may fall.
    watched
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    UsageError
        If there is nothing to check with, or the model is a cascade or no folder.
    ResourceError
        If openvino is not installed or the package cannot be written.
    ModelError
        If the model is missing or damaged.
    DatasetError
        If the data set cannot be read or has too few cases with references.
    Interrupted
        If a stop was requested; nothing is written then.
    """
    folder = _package_folder(source)
    model = load_model(folder, device="cpu")
    if model.package.configuration.previous_stage is not None:
        raise UsageError(f"{source} is a cascade; only models of one stage can be quantised.")
    dataset, shares = _of_run(source, model) if check is None else _of_dataset(check, model)
    ranges = {
        fold: _ranges_of(model.only(fold), dataset, share.calibrating, **watched)
        for share in shares
        for fold in share.folds
    }
    found = _Comparison(dataset=dataset, total=sum(len(share.checking) for share in shares))
    watched["progress"].start("check int8", found.total)
    for share in shares:
        part = model.only(share.folds[0]) if check is None else model
        found.compare(part.on_openvino(), part.in_int8(ranges), share.checking, **watched)
    watched["progress"].finish()
    verdict = found.verdict(weight_hashes(folder), ranges, out_of_fold=check is None, largest_drop=largest_drop)
    store_quantisation(folder, verdict)
    return verdict


def _package_folder(source: Path) -> Path:
    for folder in (source, RunFolder(root=source).model):
        if (folder / DOCUMENT).is_file():
            return folder
    raise UsageError(
        f"{source} is neither a trained run nor the folder of a model package, in which the verdict could be kept. "
        "`delineate import MODEL -o FOLDER` makes one of a zip or of a model of nnU-Net."
    )


def _of_run(root: Path, model: Model) -> tuple[Dataset, list[_Share]]:
    if not (RunFolder(root=root).model / DOCUMENT).is_file():
        raise UsageError(
            f"{root} is a model without its run, so its validation cases are not known; name a data set with "
            "references that it was not trained on: --check DATASET."
        )
    run = open_run(root, device="cpu")
    cases = {case.case_id: case for case in run.planned.dataset.training}
    shares = []
    for fold in model.package.weights:
        split = run.split(fold)
        if not split.validation or set(split.validation) & set(split.train):
            raise UsageError(f"Fold {fold} has no cases that it was not trained on; name a data set: --check DATASET.")
        calibrating = _spread([cases[i] for i in split.train], CALIBRATION_CASES)
        shares.append(
            _Share(folds=(fold,), calibrating=calibrating, checking=tuple(cases[i] for i in split.validation))
        )
    return run.planned.dataset, shares


def _of_dataset(source: Path, model: Model) -> tuple[Dataset, list[_Share]]:
    dataset = open_dataset(source)
    _check_dataset(dataset, model)
    known = [case for case in (*dataset.training, *dataset.testing) if case.labels is not None]
    if len(known) < 2:
        raise DatasetError(
            f"{source} has {len(known)} cases with references; a check needs at least two: one calibrates."
        )
    calibrating = _spread(known, min(CALIBRATION_CASES, max(1, round(CALIBRATION_SHARE * len(known)))))
    checking = tuple(case for case in known if case not in calibrating)
    return dataset, [_Share(folds=tuple(model.package.weights), calibrating=calibrating, checking=checking)]


def _check_dataset(dataset: Dataset, model: Model) -> None:
    package = model.package
    if len(dataset.channel_names) != len(package.channel_names):
        raise DatasetError(
            f"{dataset.root} has {len(dataset.channel_names)} channels, the model {len(package.channel_names)}."
        )
    if _structures(dataset.scheme) != _structures(package.scheme):
        raise DatasetError(
            f"{dataset.root} has the labels {_structures(dataset.scheme)}, the model {_structures(package.scheme)}; "
            "they must be the same."
        )


def _structures(scheme: LabelScheme) -> dict[str, tuple[int, ...]]:
    return {one.name: one.values for one in scheme.structures}


def _spread(cases: Sequence[CaseFiles], most: int) -> tuple[CaseFiles, ...]:
    """Return at most so many cases, evenly spread over the list."""
    return tuple(cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(most, len(cases))).round().astype(int)))


def _ranges_of(
    model: Model, dataset: Dataset, cases: Sequence[CaseFiles], **watched: Unpack[Watched]
) -> dict[str, Range]:
    """Return the ranges of the layers of a model of one fold."""
    (network,) = networks_of(model.package)
    network.eval()
    network.deep_supervision = False
    return observed_ranges(network, _patches(model, dataset, cases, **watched))


def _patches(
    model: Model, dataset: Dataset, cases: Sequence[CaseFiles], **watched: Unpack[Watched]
) -> Iterator[torch.Tensor]:
    """Yield patches (1, C, *patch) of the cases as the network sees them."""
    progress, cancellation = watched["progress"], watched["cancellation"]
    progress.start("calibrate", len(cases))
    for case in cases:
        cancellation.check()
        array = prepare_for_model(dataset.load(replace(case, labels=None)).image, model).prepared.array
        for tile in _tiles(array, model):
            yield torch.from_numpy(tile)[None]
        progress.advance(note=case.case_id)
    progress.finish()


def _tiles(array: NDArray[Any], model: Model) -> Iterator[NDArray[np.float32]]:
    grid = lay_tiles(array.shape[1:], model.tiling)
    tiles = list(grid)
    for i in np.unique(np.linspace(0, len(tiles) - 1, min(TILES_PER_CASE, len(tiles))).round().astype(int)):
        tile = cut_tile(array, grid, tiles[i])
        yield tile[:, 0] if model.tiling.dims == 2 else tile


class _Comparison:
    """Predictions of both number formats, counted as they come."""

    def __init__(self, *, dataset: Dataset, total: int) -> None:
        self.dataset, self.total = dataset, total
        self.floating: list[CaseScores] = []
        self.integer: list[CaseScores] = []
        self.equal = self.foreground = 0
        self.seconds = [0.0, 0.0]

    def compare(self, floating: Model, integer: Model, cases: Sequence[CaseFiles], **watched: Unpack[Watched]) -> None:
        """Predict cases in both formats and score them."""
        for case in cases:
            watched["cancellation"].check()
            loaded = self.dataset.load(case)
            results: list[Result] = []
            for which, (model, scores) in enumerate(((floating, self.floating), (integer, self.integer))):
                began = time.perf_counter()
                results.append(model.predict(loaded.image, case_id=case.case_id, cancellation=watched["cancellation"]))
                self.seconds[which] += time.perf_counter() - began
                scores.append(score_labels(results[-1].labels, loaded, self.dataset, "the prediction"))
            one, other = (result.labels.array for result in results)
            seen = (one > 0) | (other > 0)
            self.foreground += int(seen.sum())
            self.equal += int((one == other)[seen].sum())
            watched["progress"].advance(note=case.case_id)

    def verdict(
        self, weights: dict[str, str], ranges: dict[str, dict[str, Range]], *, out_of_fold: bool, largest_drop: float
    ) -> Quantisation:
        """Return what was found."""
        return Quantisation(
            weights=weights,
            ranges=ranges,
            structures=_checks(summarise(self.floating), summarise(self.integer)),
            cases=self.total,
            out_of_fold=out_of_fold,
            largest_drop=largest_drop,
            agreement=self.equal / self.foreground if self.foreground else 1.0,
            seconds=(round(self.seconds[0], 3), round(self.seconds[1], 3)),
        )


def _checks(floating: Summary, integer: Summary) -> tuple[StructureCheck, ...]:
    pairs = zip(floating.structures, integer.structures, strict=True)
    return tuple(StructureCheck(name=a.name, floating=a.dice.mean, integer=b.dice.mean) for a, b in pairs)
