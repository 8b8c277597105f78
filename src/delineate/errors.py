"""The exception tree of Delineate.

Every error that a user can cause or repair is a :class:`DelineateError`; its text is one readable sentence that
names the file, what was expected, what was found and what to do. The doors print :meth:`DelineateError.diagnostics`
and exit with :attr:`DelineateError.exit_code`; everything else is a fault of the program (exit code 1).

    DelineateError                      anything below
    ├── UsageError                 (2)  arguments that contradict each other or cannot be understood
    ├── InputError                 (3)  the user's data cannot be used as they are
    │   ├── ImageReadError         (3)  a file is missing, truncated, or not an image
    │   ├── GeometryError          (3)  grids that should agree do not
    │   ├── LabelError             (3)  label values or label declarations are wrong
    │   ├── DatasetError           (3)  a folder of data has faults; carries all of them at once
    │   ├── LedgerError            (3)  a ledger was altered, or cannot be read
    │   ├── ReviewError            (3)  a draft was not approved, or a review does not allow what is asked for
    │   └── ProtocolError          (3)  a study's protocol has faults (all at once), or forbids what is asked for
    ├── PlanError                  (3)  a plan is missing, contradictory or does not fit the data
    ├── SomeCasesFailed            (4)  a batch went through, but not for every case
    ├── ModelError                 (5)  a model package or checkpoint is missing, damaged or foreign
    │   └── UnsafeModelError       (5)  a model file asks for code to be executed
    ├── TrainingError              (1)  training diverged: the loss or the gradients are no numbers any more
    ├── ResourceError              (6)  device, memory or disk do not suffice
    └── Interrupted              (130)  the user stopped the work; the state was saved
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DelineateError(Exception):
    """Root of all errors that the program raises on purpose."""

    exit_code: ClassVar[int] = 1

    def diagnostics(self) -> str:
        """Return the text for the person: what happened and what to do."""
        return str(self)


class UsageError(DelineateError):
    """Arguments contradict each other or cannot be understood."""

    exit_code = 2


class InputError(DelineateError):
    """The user's data cannot be used as they are."""

    exit_code = 3


class ImageReadError(InputError):
    """A file is missing, truncated, or not an image of a known format."""


class GeometryError(InputError):
    """Grids that should agree do not, or a grid is impossible."""


class LabelError(InputError):
    """Label values or label declarations are wrong."""


class DatasetError(InputError):
    """A folder of data has faults; all of them are told at once."""

    def __init__(self, summary: str, faults: Sequence[str] = ()) -> None:
        super().__init__(summary)
        self.summary = summary
        self.faults = tuple(faults)

    def diagnostics(self) -> str:
        """Return the summary followed by one line per fault."""
        return "\n".join([self.summary, *(f"  - {fault}" for fault in self.faults)])


class LedgerError(InputError):
    """A ledger was altered, or cannot be read."""


class ProtocolError(DatasetError):
    """A study's protocol has faults, all told at once, or it forbids what is asked for."""


class ReviewError(InputError):
    """A draft was not approved, or the state of its review does not allow what is asked for."""


class PlanError(DelineateError):
    """A plan is missing, contradictory or does not fit the data."""

    exit_code = 3


class SomeCasesFailed(DelineateError):
    """A batch of cases went through, but not for every case."""

    exit_code = 4

    def __init__(self, summary: str, failures: Sequence[str] = ()) -> None:
        super().__init__(summary)
        self.summary = summary
        self.failures = tuple(failures)

    def diagnostics(self) -> str:
        """Return the summary followed by one line per failed case."""
        return "\n".join([self.summary, *(f"  - {failure}" for failure in self.failures)])


class ModelError(DelineateError):
    """A model package or checkpoint is missing, damaged or foreign."""

    exit_code = 5


class UnsafeModelError(ModelError):
    """A model file asks for code to be executed; it is refused."""


class TrainingError(DelineateError):
    """Training diverged: the loss or the gradients are not finite any more."""


class ResourceError(DelineateError):
    """Device, memory or disk do not suffice."""

    exit_code = 6


class Interrupted(DelineateError):
    """The user stopped the work; what was done so far is saved."""

    exit_code = 130
