"""What the numbers of a label map mean.

A :class:`LabelScheme` lists the structures of a dataset. In *label* mode every structure is one integer and the
structures exclude each other; in *region* mode a structure may be the union of several integers and structures may
overlap (nnU-Net's region-based training). The optional ignore label marks voxels that nobody annotated.
"""

from __future__ import annotations

from dataclasses import dataclass

from delineate.errors import LabelError

BACKGROUND_NAME = "background"
IGNORE_NAME = "ignore"


@dataclass(frozen=True, kw_only=True, slots=True)
class Structure:
    """One named structure and the label values that belong to it."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelScheme:
    """The structures of a dataset, background excluded.

    Attributes
    ----------
    structures
        Foreground structures in declared order.
    ignore
        Value of the ignore label, or None.
    region_order
        Region mode only: the value written for each structure when regions are burnt into one label map, in the
        order of ``structures``; a later one overwrites an earlier one (nnU-Net's ``regions_class_order``).

    Raises
    ------
    LabelError
        If names repeat, a value is 0 or negative, values are not consecutive, or the ignore label is not the highest.
    """

    structures: tuple[Structure, ...]
    ignore: int | None = None
    region_order: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.structures:
            raise LabelError("A label scheme needs at least one foreground structure; got none.")
        names = [s.name for s in self.structures]
        if len(set(names)) != len(names):
            raise LabelError(f"Structure names must be unique; got {names}.")
        if any(not s.values or min(s.values) < 0 or s.values == (0,) for s in self.structures):
            raise LabelError(f"Foreground structures need positive label values; got {self.structures}.")
        values = self.values
        expected = tuple(range(1, len(values) + 1))
        if values != expected:
            raise LabelError(f"Label values must be consecutive from 1; declared are {values}.")
        if self.ignore is not None and self.ignore != len(values) + 1:
            raise LabelError(f"The ignore label must be the highest plus one, {len(values) + 1}; got {self.ignore}.")
        if self.has_regions and (self.region_order is None or len(self.region_order) != len(self.structures)):
            raise LabelError(
                f"Region labels need `regions_class_order` with {len(self.structures)} values; got {self.region_order}."
            )

    @staticmethod
    def simple(*names: str) -> LabelScheme:
        """Return the scheme with one structure per name, valued 1, 2, 3, ..."""
        return LabelScheme(structures=tuple(Structure(name=n, values=(i,)) for i, n in enumerate(names, start=1)))

    @property
    def has_regions(self) -> bool:
        """Whether any structure is the union of several label values."""
        return any(len(s.values) > 1 for s in self.structures)

    @property
    def values(self) -> tuple[int, ...]:
        """All foreground label values that a mask may hold, ascending, without ignore."""
        return tuple(sorted({v for s in self.structures for v in s.values if v > 0}))

    @property
    def head_count(self) -> int:
        """Number of output channels of a network: structures (region mode), or labels with background."""
        return len(self.structures) if self.has_regions else len(self.values) + 1
