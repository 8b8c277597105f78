"""Regions and objects of one picture in one result: every pixel has a class, and a number if the class has objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from delineate.errors import LabelError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Panoptic:
    """A class and an object number per pixel, never in conflict.

    Raises
    ------
    LabelError
        If shapes differ, a class is undeclared, a pixel of a thing has no object or one of stuff has one, or an object
        lies in two classes.
    """

    classes: NDArray[np.int32]
    """Any axes: 0 for nothing, else a class."""
    instances: NDArray[np.int32]
    """The same axes: 0, or the object's number."""
    stuff: tuple[int, ...]
    """Classes that are regions: tumour, stroma."""
    things: tuple[int, ...]
    """Classes whose objects are counted: nuclei."""

    def __post_init__(self) -> None:
        if self.classes.shape != self.instances.shape:
            raise LabelError(
                f"Classes and objects need one shape; got {self.classes.shape} and {self.instances.shape}."
            )
        present = set(np.unique(self.classes).tolist()) - {0}
        both = set(self.stuff) & set(self.things)
        unknown = present - set(self.stuff) - set(self.things)
        if unknown or both:
            raise LabelError(
                f"Every class is stuff or a thing, not both; undeclared: {sorted(unknown)}, in both: {sorted(both)}."
            )
        thing = np.isin(self.classes, self.things)
        wrong = int((thing != (self.instances > 0)).sum())
        if wrong:
            raise LabelError(f"Exactly the pixels of things belong to objects; {wrong} pixels do not keep to that.")
        numbers, classes = self.instances[thing], self.classes[thing]
        pairs = np.unique(np.stack([numbers, classes]), axis=1)
        torn = pairs.shape[1] - len(np.unique(pairs[0]))
        if torn:
            raise LabelError(f"An object has one class; {torn} objects have several.")

    def of_class(self, kind: int) -> NDArray[np.int32]:
        """Return the segments of a class: of a thing its object numbers, of stuff 1 wherever it is; else 0."""
        mine = self.classes == kind
        segments: NDArray[np.int32] = np.where(mine, self.instances if kind in self.things else 1, 0).astype(np.int32)
        return segments
