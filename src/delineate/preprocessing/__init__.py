"""From images to prepared arrays and back from logits to label maps. Knows no files and no torch."""

from delineate.case.prepared import ANNOTATED_KEY, OUTSIDE_LABEL, Prepared, Trace
from delineate.preprocessing.prepare import preparation_key, prepare, trace_of
from delineate.preprocessing.restore import restore_labels, restore_probabilities

__all__ = [
    "ANNOTATED_KEY",
    "OUTSIDE_LABEL",
    "Prepared",
    "Trace",
    "preparation_key",
    "prepare",
    "restore_labels",
    "restore_probabilities",
    "trace_of",
]
