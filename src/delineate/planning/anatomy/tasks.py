"""Anatomy tasks: which structures a task segments, and by which published sub-models at which resolution.

A task has one or several variants (the full one, a fast one at 3 mm, the fastest at 6 mm); a variant is a list of
nnU-Net models whose local labels are put into the task's numbering by name. Values only; the weights are found by
``formats.totalsegmentator``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from delineate.errors import UsageError

VariantName = Literal["normal", "fast", "fastest"]
LicenceKind = Literal["open", "key", "non-commercial"]

TABLE = "tasks.json"
DEFAULT_STEP = 0.5
"""Tile step of every task but the whole-body ones, which are published for 0.8 (TotalSegmentator 2.18)."""
DEFAULT_PLANS = "nnUNetPlans"
DEFAULT_FOLDS = ("0",)
"""Nearly all published models were trained on one fold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Licence:
    """Under which terms the weights of a task may be used."""

    kind: LicenceKind
    text: str
    """What a user has to know, in one or two sentences."""


LICENCES: Mapping[LicenceKind, Licence] = {
    "open": Licence(
        kind="open",
        text="The TotalSegmentator weights of this task are openly available under Apache-2.0; please cite "
        "Wasserthal et al., Radiology: Artificial Intelligence 2023, doi 10.1148/ryai.230024.",
    ),
    "key": Licence(
        kind="key",
        text="The TotalSegmentator weights of this task are not open: they may be used only with a licence number "
        "from their authors, which is free for non-commercial work (https://backend.totalsegmentator.com/"
        "license-academic/); commercial use needs a contract with University Hospital Basel.",
    ),
    "non-commercial": Licence(
        kind="non-commercial",
        text="The weights of this task carry the Creative Commons licence BY-NC: they must not be used commercially.",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SubModel:
    """One published nnU-Net model."""

    dataset_id: int
    folder: str
    """Name of its dataset folder, ``DatasetNNN_*``; the zip of the release is called the same."""
    release: str
    """Tag of the release that the zip is attached to; empty where the authors hand it out themselves."""
    trainer: str
    configuration: str
    classes: tuple[str, ...]
    """Names of its labels 1, 2, 3, ..., auxiliary ones included."""
    plans: str = DEFAULT_PLANS
    folds: tuple[str, ...] | None = DEFAULT_FOLDS
    """None: all that the folder holds."""

    @property
    def model_folder(self) -> str:
        """Name of the trained model's folder inside the dataset folder, as nnU-Net names it."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One resolution of a task."""

    name: VariantName
    spacing_mm: tuple[float, float, float] | None
    """(z, y, x) that images are resampled to; None: nnU-Net resamples by itself."""
    models: tuple[SubModel, ...]
    """In the order in which they are merged; a later one overwrites where it is not background."""

    def holding(self, structures: Sequence[str]) -> Variant:
        """Return the variant with only the sub-models that know one of the structures."""
        wanted = set(structures)
        kept = tuple(model for model in self.models if wanted & set(model.classes))
        return Variant(name=self.name, spacing_mm=self.spacing_mm, models=kept)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoughCrop:
    """A quick first segmentation that says where to look: the box around some structures, widened."""

    task: str
    variant: VariantName
    margin_mm: float
    structures: tuple[str, ...] = ()
    """Whose box it is; empty: the structures that the user asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleanup:
    """What is removed from a raw label map, at the working resolution."""

    largest: tuple[str, ...] = ()
    """Structures of which only the largest piece stays."""
    at_least_mm3: Mapping[str, float] = field(default_factory=dict)
    """Structures whose pieces must be larger than a volume."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A set of structures that one command segments."""

    name: str
    modality: Literal["ct", "mr"]
    licence: Licence
    classes: tuple[str, ...]
    """Names of the labels 1, 2, 3, ... of the result."""
    variants: Mapping[str, Variant]
    step: float = DEFAULT_STEP
    """Largest distance of neighbouring tiles as a share of the patch."""
    crop: RoughCrop | None = None
    """How the image is always cropped first."""
    roi: RoughCrop | None = None
    """How the image is cropped if only some structures are asked for; None: such a choice is not offered."""
    cleanup: Cleanup = field(default_factory=Cleanup)

    def value_of(self, structure: str) -> int:
        """Return the label value of a structure.

        Raises
        ------
        UsageError
            If the task does not have it.
        """
        try:
            return self.classes.index(structure) + 1
        except ValueError:
            raise UsageError(
                f"The task '{self.name}' has no structure '{structure}'. "
                f"`delineate anatomy --list-classes {self.name}` shows those it has."
            ) from None

    def variant(self, name: VariantName) -> Variant:
        """Return a variant by name.

        Raises
        ------
        UsageError
            If the task does not have it.
        """
        if name not in self.variants:
            raise UsageError(
                f"The task '{self.name}' has no {name} variant; it has: {', '.join(self.variants)}. "
                "Leave the option out."
            )
        return self.variants[name]


@lru_cache(maxsize=1)
def tasks() -> Mapping[str, Task]:
    """Return all tasks by name."""
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return {name: _task(name, entry) for name, entry in json.loads(text).items()}


def task_named(name: str) -> Task:
    """Return a task.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    known = tasks()
    if name not in known:
        raise UsageError(f"There is no anatomy task '{name}'; there are: {', '.join(known)}.")
    return known[name]


def rough_crop(task: Task, structures: Sequence[str]) -> RoughCrop | None:
    """Return how the image is cropped before the task's own models see it.

    Parameters
    ----------
    task
        The task.
    structures
        Which of its structures are asked for; empty: all.

    Raises
    ------
    UsageError
        If the task does not offer a choice of structures, or lacks one of them.
    """
    if not structures:
        return task.crop
    for name in structures:
        task.value_of(name)
    if task.roi is None:
        offering = ", ".join(name for name, other in tasks().items() if other.roi is not None)
        raise UsageError(f"A choice of structures (--roi) is offered by the tasks {offering}; not by '{task.name}'.")
    if not set(structures) <= set(task_named(task.roi.task).classes):
        return None
    return replace(task.roi, structures=tuple(structures))


def models_needed(task: Task, variant: VariantName, structures: Sequence[str] = ()) -> tuple[SubModel, ...]:
    """Return the sub-models that a task runs, those of its rough crop first.

    Raises
    ------
    UsageError
        If the task does not have the variant or a structure.
    """
    own = task.variant(variant)
    chosen = own.holding(structures) if structures else own
    rough = rough_crop(task, structures)
    first = models_needed(task_named(rough.task), rough.variant) if rough is not None else ()
    return tuple(dict.fromkeys((*first, *chosen.models)))


def _task(name: str, entry: Mapping[str, Any]) -> Task:
    classes = tuple(entry["classes"])
    cleanup = entry.get("cleanup", {})
    return Task(
        name=name,
        modality=entry["modality"],
        licence=LICENCES[entry["licence"]],
        classes=classes,
        variants={key: _variant(key, value, classes) for key, value in entry["variants"].items()},
        step=entry.get("step", DEFAULT_STEP),
        crop=_rough(entry.get("crop")),
        roi=_rough(entry.get("roi")),
        cleanup=Cleanup(largest=tuple(cleanup.get("largest", ())), at_least_mm3=cleanup.get("at_least_mm3", {})),
    )


def _variant(name: Any, entry: Mapping[str, Any], classes: tuple[str, ...]) -> Variant:
    spacing = entry["spacing_mm"]
    return Variant(
        name=name,
        spacing_mm=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        models=tuple(_submodel(model, classes) for model in entry["models"]),
    )


def _submodel(entry: Mapping[str, Any], classes: tuple[str, ...]) -> SubModel:
    folds = entry.get("folds", DEFAULT_FOLDS)
    return SubModel(
        dataset_id=entry["dataset_id"],
        folder=entry["folder"],
        release=entry["release"],
        trainer=entry["trainer"],
        configuration=entry["configuration"],
        classes=tuple(entry.get("classes", classes)),
        folds=None if folds is None else tuple(folds),
    )


def _rough(entry: Mapping[str, Any] | None) -> RoughCrop | None:
    if entry is None:
        return None
    return RoughCrop(
        task=entry["task"],
        variant=entry["variant"],
        margin_mm=entry["margin_mm"],
        structures=tuple(entry.get("structures", ())),
    )
