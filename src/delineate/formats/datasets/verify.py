"""The verifier: every fault of a dataset, found at once, each with the repair that exists for it.

Reads every file once, in parallel; changes nothing. A fault whose repair was asked for is kept as a warning that says
so, and what was repaired stays on record.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from delineate.case import Image, LabelScheme
from delineate.errors import DatasetError, ImageReadError, LabelError
from delineate.execution import Cancellation, Progress, map_items
from delineate.formats.datasets import repairs as repair
from delineate.formats.datasets.dataset import CaseFiles, Dataset
from delineate.formats.images import read_file, read_mask
from delineate.geometry.grid import Grid

_log = logging.getLogger(__name__)

Severity = Literal["error", "warning"]
FaultKind = Literal[
    "missing-file", "surplus-file", "duplicate-case", "unreadable", "non-finite", "degenerate", "constant",
    "shape", "spacing", "origin", "direction", "dimensions", "channels",
    "colour-mask", "non-integer", "black-and-white", "undeclared-label", "empty-mask", "absent-class", "count", "leak",
]  # fmt: skip

FEWEST_VOXELS_PER_AXIS = 2
"""An image needs two axes of at least this many voxels; anything less has no neighbourhood to learn from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that is wrong with a dataset."""

    kind: FaultKind
    case_id: str | None
    """None where the fault belongs to the whole dataset."""
    file: Path | None
    message: str
    """What was expected and what was found."""
    repair: str | None
    """Name of the repair that mends it, or None if the files must be corrected by hand."""
    severity: Severity = "error"

    def text(self) -> str:
        """Return one line for a person: where, what, and what to do."""
        where = str(self.file) if self.file else (f"case {self.case_id}" if self.case_id else "dataset")
        advice = (
            f" [--repair {self.repair}]" if self.repair else " [correct by hand]" if self.severity == "error" else ""
        )
        return f"{self.severity}: {where}: {self.message}{advice}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """All faults of a dataset, those of the whole first, then by case."""

    faults: tuple[Fault, ...]
    cases: int
    """How many cases were looked at."""

    @property
    def errors(self) -> tuple[Fault, ...]:
        """Faults that stop the work."""
        return tuple(fault for fault in self.faults if fault.severity == "error")

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """Faults that do not stop the work, and repaired ones."""
        return tuple(fault for fault in self.faults if fault.severity == "warning")

    def raise_if_faulty(self) -> None:
        """Stop here if there are errors.

        Raises
        ------
        DatasetError
            With every error; warnings do not raise.
        """
        if not self.errors:
            return
        names = sorted({fault.repair for fault in self.errors if fault.repair})
        advice = (
            f"Repairs that exist: {', '.join(f'--repair {name}' for name in names)}." if names else "No repair exists."
        )
        raise DatasetError(
            f"The dataset has {len(self.errors)} error(s) in {self.cases} cases. {advice}",
            [fault.text() for fault in self.errors],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rules:
    """What every case is held against; small, because it travels to every worker."""

    channels: int
    scheme: LabelScheme
    repairs: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Finding:
    """What looking at one case gave."""

    faults: tuple[Fault, ...]
    dims: int | None
    labels: frozenset[int]


def verify_dataset(
    dataset: Dataset,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Verification:
    """Look at every file of a dataset and return all faults.

    Parameters
    ----------
    dataset
        As :func:`delineate.formats.datasets.open_dataset` gives it; its repairs are taken into account.
    workers
        Number of processes.
    progress, cancellation
        Where to tell how far it is, and whether to stop.

    Raises
    ------
    Interrupted
        If a stop was requested.
    """
    rules = _Rules(channels=len(dataset.channel_names), scheme=dataset.scheme, repairs=dataset.repairs)
    cases = (*dataset.training, *dataset.testing)
    outcomes = map_items(
        partial(_examined, rules=rules),
        cases,
        what="verify",
        workers=workers,
        progress=progress,
        cancellation=cancellation,
    )
    findings = [outcome.value for outcome in outcomes if outcome.value is not None]
    faults = [*_dataset_faults(dataset, findings), *(fault for finding in findings for fault in finding.faults)]
    return Verification(faults=tuple(_settled(fault, dataset.repairs) for fault in faults), cases=len(cases))


def verified(dataset: Dataset, verification: Verification) -> Dataset:
    """Return the dataset that may be used: without faulty cases if that repair was asked for.

    Raises
    ------
    DatasetError
        If errors remain, or if no training case is left.
    """
    if repair.DROP_FAULTY_CASES not in dataset.repairs:
        verification.raise_if_faulty()
        return dataset
    faulty = {fault.case_id for fault in verification.errors if fault.case_id is not None}
    remaining = Verification(
        faults=tuple(fault for fault in verification.faults if fault.case_id not in faulty), cases=verification.cases
    )
    remaining.raise_if_faulty()
    if faulty:
        _log.warning("left out %d faulty case(s): %s", len(faulty), ", ".join(sorted(faulty)))
    training = tuple(case for case in dataset.training if case.case_id not in faulty)
    if not training:
        raise DatasetError(
            f"{dataset.root}: all {len(dataset.training)} training cases are faulty, so none is left.",
            [fault.text() for fault in verification.errors],
        )
    testing = tuple(case for case in dataset.testing if case.case_id not in faulty)
    return replace(dataset, training=training, testing=testing, declared_training_count=len(training))


def _settled(fault: Fault, repairs: frozenset[str]) -> Fault:
    """Turn an error whose repair is applied into a warning on record."""
    if fault.repair is None or fault.repair not in repairs or fault.repair == repair.DROP_FAULTY_CASES:
        return fault
    return replace(fault, severity="warning", message=f"{fault.message}; repaired by {fault.repair}")


# one case ---------------------------------------------------------------------------------------------------------


def _examined(case: CaseFiles, rules: _Rules) -> _Finding:
    faults: list[Fault] = []
    fault = partial(Fault, case_id=case.case_id)
    images = [_read(path, fault, faults) for path in case.images]
    read = [image for image in images if image is not None]
    if len(read) == len(images):
        faults += _image_faults(case, read, rules, fault)
    labels: frozenset[int] = frozenset()
    if case.labels is not None and (mask := _read(case.labels, fault, faults, mask=True)) is not None:
        if images and images[0] is not None:
            faults += _grid_faults(images[0].grid, mask.grid, case.labels, fault)
        values, mask_faults = _mask_values(mask.array[0], case.labels, rules, fault)
        faults += mask_faults
        labels = frozenset(values)
    return _Finding(faults=tuple(faults), dims=read[0].grid.dims if read else None, labels=labels)


def _read(path: Path, fault: partial[Fault], faults: list[Fault], *, mask: bool = False) -> Image | None:
    kind: FaultKind = "unreadable"
    if not path.is_file():
        faults.append(fault(kind="missing-file", file=path, message="expected this file; there is none", repair=_DROP))
        return None
    try:
        return read_mask(path) if mask else read_file(path)
    except ImageReadError as error:
        message = str(error).removeprefix(f"{path}: ")
    except LabelError as error:
        kind, message = "colour-mask", str(error).removeprefix(f"{path}: ")
    faults.append(fault(kind=kind, file=path, message=message, repair=_DROP))
    return None


_DROP = repair.DROP_FAULTY_CASES


def _image_faults(case: CaseFiles, images: list[Image], rules: _Rules, fault: partial[Fault]) -> Iterator[Fault]:
    for path, image in zip(case.images, images, strict=True):
        yield from _grid_faults(images[0].grid, image.grid, path, fault)
        yield from _intensity_faults(image, path, fault)
    channels = sum(image.channels for image in images)
    if channels != rules.channels:
        message = f"expected {rules.channels} channel(s) as declared; found {channels}"
        yield fault(kind="channels", file=case.images[0], message=message, repair=_DROP)


def _grid_faults(expected: Grid, found: Grid, path: Path, fault: partial[Fault]) -> Iterator[Fault]:
    for difference in expected.differences(found):
        kind = difference.split()[0]
        mendable = expected.shape == found.shape
        yield fault(
            kind=kind,
            file=path,
            message=f"expected the grid of the case's first image; {difference}",
            repair=repair.GEOMETRY_FROM_IMAGE if mendable else _DROP,
        )


def _intensity_faults(image: Image, path: Path, fault: partial[Fault]) -> Iterator[Fault]:
    if sum(size >= FEWEST_VOXELS_PER_AXIS for size in image.grid.shape) < 2:
        message = (
            f"expected at least two axes of {FEWEST_VOXELS_PER_AXIS} or more voxels; found shape {image.grid.shape}"
        )
        yield fault(kind="degenerate", file=path, message=message, repair=_DROP)
        return
    if count := repair.non_finite_count(image.array):
        message = f"expected finite intensities; {count} voxels are NaN or infinite"
        yield fault(kind="non-finite", file=path, message=message, repair=repair.NAN_TO_ZERO)
    elif image.array.min() == image.array.max():
        message = f"expected different intensities; every voxel is {image.array.flat[0]}, so it cannot be normalised"
        yield fault(kind="constant", file=path, message=message, repair=_DROP)


def _mask_values(array: NDArray[Any], path: Path, rules: _Rules, fault: partial[Fault]) -> tuple[set[int], list[Fault]]:
    """Return the label values of a mask after the wanted repairs, and what is wrong with it as it is stored."""
    faults = []
    if wrong := _fractions(array):
        message = f"expected whole numbers; {wrong} voxels hold other values"
        faults.append(fault(kind="non-integer", file=path, message=message, repair=repair.ROUND_MASK))
    whole = repair.repaired_values(array, str(path), {repair.ROUND_MASK})
    found = {int(value) for value in np.unique(whole)}
    undeclared = sorted(value for value in found if not 0 <= value <= repair.highest_label(rules.scheme))
    if undeclared == [repair.BINARY_WHITE] and repair.is_black_and_white(whole):
        message = "expected label values from 1; found a black-and-white mask of 0 and 255"
        faults.append(fault(kind="black-and-white", file=path, message=message, repair=repair.MAP_255_TO_1))
        found = {1 if value == repair.BINARY_WHITE else value for value in found}
    elif undeclared:
        message = f"expected label values 0 to {repair.highest_label(rules.scheme)} as declared; found {undeclared}"
        faults.append(
            fault(kind="undeclared-label", file=path, message=message, repair=repair.UNDECLARED_TO_BACKGROUND)
        )
    if not found - {0} - set(undeclared):
        faults.append(fault(kind="empty-mask", file=path, message="no foreground", repair=None, severity="warning"))
    return found, faults


def _fractions(array: NDArray[Any]) -> int:
    """Return how many values are not whole numbers."""
    if np.issubdtype(array.dtype, np.integer):
        return 0
    return int(np.sum(~np.isfinite(array) | (np.rint(array) != array)))


# the whole dataset ------------------------------------------------------------------------------------------------


def _dataset_faults(dataset: Dataset, findings: Iterable[_Finding]) -> Iterator[Fault]:
    findings = list(findings)
    fault = partial(Fault, case_id=None)
    for path in dataset.surplus:
        message = "belongs to no case and is not used"
        yield fault(kind="surplus-file", file=path, message=message, repair=None, severity="warning")
    yield from _identity_faults(dataset)
    if dataset.declared_training_count != len(dataset.training):
        message = f"numTraining says {dataset.declared_training_count}; found {len(dataset.training)} training cases"
        yield fault(kind="count", file=None, message=message, repair=None, severity="warning")
    dims = sorted({finding.dims for finding in findings if finding.dims is not None})
    if len(dims) > 1:
        message = "expected either planes or volumes; found both among the images"
        yield fault(kind="dimensions", file=None, message=message, repair=None)
    yield from _absent_classes(dataset, findings[: len(dataset.training)])


def _identity_faults(dataset: Dataset) -> Iterator[Fault]:
    for cases in (dataset.training, dataset.testing):
        for case_id, count in Counter(case.case_id for case in cases).items():
            if count > 1:
                files = ", ".join(str(case.images[0]) for case in cases if case.case_id == case_id)
                message = f"expected every case once; {case_id} is there {count} times ({files})"
                yield Fault(kind="duplicate-case", case_id=case_id, file=None, message=message, repair=_DROP)
    trained = {case.patient_id for case in dataset.training}
    shared = sorted({case.patient_id for case in dataset.testing} & trained)
    if shared:
        message = f"{len(shared)} patient(s) are in training and in testing, for example {shared[0]}"
        yield Fault(kind="leak", case_id=None, file=None, message=message, repair=None, severity="warning")


def _absent_classes(dataset: Dataset, findings: Iterable[_Finding]) -> Iterator[Fault]:
    present = frozenset[int]().union(*(finding.labels for finding in findings))
    for structure in dataset.scheme.structures:
        if not present & set(structure.values):
            message = (
                f"class {structure.name} {structure.values} is declared but in no training mask, so it cannot be "
                "learnt; take it out of the labels or add cases that show it"
            )
            yield Fault(kind="absent-class", case_id=None, file=None, message=message, repair=None, severity="warning")
