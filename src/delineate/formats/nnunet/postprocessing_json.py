"""``postprocessing.json``: nnU-Net's readable record of the post-processing, and back.

nnU-Net itself applies the pickle that stands beside it; that one is never read here, because reading it would execute
what it names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delineate.case.labels import LabelScheme
from delineate.errors import LabelError
from delineate.execution.atomic import write_text
from delineate.formats.nnunet.json_node import Node, read_document
from delineate.masks.postprocessing import PostprocessingStep

KEEP_LARGEST = "remove_all_but_largest_component_from_segmentation"
"""nnU-Net's name of the only function it uses."""


def postprocessing_to_json(
    steps: Sequence[PostprocessingStep], before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, Any]:
    """Return nnU-Net's record.

    Parameters
    ----------
    steps
        What was chosen.
    before, after
        Summaries (:func:`delineate.formats.nnunet.summary_json.summary_to_json`) of the predictions as they were, and
        after the steps.
    """
    kept = ("foreground_mean", "mean")
    return {
        "input_folder": {key: before[key] for key in kept},
        "postprocessed": {key: after[key] for key in kept},
        "postprocessing_fns": [KEEP_LARGEST for _ in steps],
        "postprocessing_kwargs": [{"labels_or_regions": _spelled(step)} for step in steps],
    }


def write_postprocessing(
    path: Path, steps: Sequence[PostprocessingStep], before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Write ``postprocessing.json``, atomically.

    Raises
    ------
    ResourceError
        If the folder cannot be written or the disk is full.
    """
    write_text(path, json.dumps(postprocessing_to_json(steps, before, after), indent=4, sort_keys=True))


def read_postprocessing(path: Path, scheme: LabelScheme | None = None) -> tuple[PostprocessingStep, ...]:
    """Read the steps of a ``postprocessing.json``, nnU-Net's or ours; with a scheme, check the labels that it names.

    Raises
    ------
    PlanError
        If the file is missing, of another form, or asks for another function; names file and key.
    LabelError
        If a step names labels that the scheme does not have.
    """
    document = read_document(path)
    names, kwargs = document.child("postprocessing_fns"), document.child("postprocessing_kwargs")
    functions, arguments = tuple(names.items()), tuple(kwargs.items())
    if len(functions) != len(arguments):
        raise document.wrong(f"{len(functions)} functions, but {len(arguments)} sets of arguments")
    for function in functions:
        if function.text() != KEEP_LARGEST:
            raise function.wrong(f"only '{KEEP_LARGEST}' is known, found '{function.value}'")
    steps = steps_from_json([_values(argument.child("labels_or_regions")) for argument in arguments], names)
    unknown = sorted({v for step in steps for v in step.values if scheme is not None and v not in scheme.values})
    if unknown:
        raise LabelError(f"{path} is for other labels: {', '.join(map(str, unknown))} are not declared by the model.")
    return steps


def steps_from_json(values: Sequence[Sequence[int]], node: Node) -> tuple[PostprocessingStep, ...]:
    """Return one step per list of label values; ``node`` says where they stand.

    Raises
    ------
    PlanError
        If a list is empty or holds a label that is not positive.
    """
    try:
        return tuple(PostprocessingStep(values=tuple(each)) for each in values)
    except LabelError as error:
        raise node.wrong(str(error)) from error


def _spelled(step: PostprocessingStep) -> int | list[int]:
    return step.values[0] if len(step.values) == 1 else list(step.values)


def _values(node: Node) -> tuple[int, ...]:
    """Return the label values of a label, a region, or a list of both."""
    if not isinstance(node.value, list):
        return (node.integer(),)
    found = (
        value
        for item in node.items()
        for value in (item.integers() if isinstance(item.value, list) else (item.integer(),))
    )
    return tuple(dict.fromkeys(value for value in found if value > 0))
