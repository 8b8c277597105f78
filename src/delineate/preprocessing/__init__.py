"""From images to prepared arrays and back from logits to label maps. Knows no files and no torch."""

from delineate.case.prepared import ANNOTATED_KEY, OUTSIDE_LABEL, Prepared, Trace
from delineate.preprocessing.air import AIR_HU, air_finder, background_logits
from delineate.preprocessing.prepare import preparation_key, prepare, trace_of
from delineate.preprocessing.previous_stage import prepare_with_previous, restore_to_next_stage, with_one_hot
from delineate.preprocessing.restore import restore_labels, restore_probabilities, restore_stream

__all__ = [
    "AIR_HU",
    "ANNOTATED_KEY",
    "OUTSIDE_LABEL",
    "Prepared",
    "Trace",
    "air_finder",
    "background_logits",
    "preparation_key",
    "prepare",
    "prepare_with_previous",
    "restore_labels",
    "restore_probabilities",
    "restore_stream",
    "restore_to_next_stage",
    "trace_of",
    "with_one_hot",
]
