"""``dataset.json``: the declaration of a dataset as nnU-Net reads it, and the label scheme from such a declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from delineate.case.labels import BACKGROUND_NAME, IGNORE_NAME, LabelScheme, Structure
from delineate.formats.nnunet.json_node import Node


def dataset_json(
    *,
    channel_names: Sequence[str],
    scheme: LabelScheme,
    training_cases: int,
    file_ending: str,
    name: str | None = None,
    reader_name: str | None = None,
) -> dict[str, Any]:
    """Return the dictionary of a ``dataset.json``.

    Parameters
    ----------
    channel_names
        One per channel, in order; the names decide the normalisation.
    scheme
        Structures; a region is written as the list of its values.
    training_cases
        ``numTraining``.
    file_ending
        With the dot, as ``.nii.gz``.
    name
        Written if given; nnU-Net does not look at it.
    reader_name
        Forces nnU-Net's reader (``overwrite_image_reader_writer``) if given.
    """
    data: dict[str, Any] = {
        "channel_names": {str(channel): channel_name for channel, channel_name in enumerate(channel_names)},
        "labels": _labels(scheme),
        "numTraining": training_cases,
        "file_ending": file_ending,
    }
    if scheme.region_order is not None:
        data["regions_class_order"] = list(scheme.region_order)
    if name is not None:
        data["name"] = name
    if reader_name is not None:
        data["overwrite_image_reader_writer"] = reader_name
    return data


def _labels(scheme: LabelScheme) -> dict[str, int | list[int]]:
    labels: dict[str, int | list[int]] = {BACKGROUND_NAME: 0}
    for structure in scheme.structures:
        values = structure.values
        labels[structure.name] = values[0] if len(values) == 1 else list(values)
    if scheme.ignore is not None:
        labels[IGNORE_NAME] = scheme.ignore
    return labels


def scheme_from_json(data: Mapping[str, Any], *, source: str = "dataset.json") -> LabelScheme:
    """Return the label scheme of a ``dataset.json`` in nnU-Net's form (names to values).

    Raises
    ------
    PlanError
        If ``labels`` is missing or a value is not a whole number or a list of them.
    LabelError
        If the values contradict each other.
    """
    root = Node(value=data, source=source)
    labels = root.child("labels")
    names = [name for name in labels.keys() if name not in (BACKGROUND_NAME, IGNORE_NAME)]
    ignore, order = labels.get(IGNORE_NAME), root.get("regions_class_order")
    return LabelScheme(
        structures=tuple(Structure(name=name, values=_values(labels.child(name))) for name in names),
        ignore=None if ignore is None else _values(ignore)[0],
        region_order=None if order is None else order.integers(),
    )


def _values(node: Node) -> tuple[int, ...]:
    return node.integers() if isinstance(node.value, list | tuple) else (node.integer(),)
