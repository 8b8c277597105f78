"""``trust.json`` in a model package: what is ordinary for the model, as plain numbers.

Numbers have six digits, which is more than they mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from delineate.formats.nnunet.json_node import Node
from delineate.metrics.trust import TrustReference
from delineate.metrics.trust.normal_reference import NormalReference
from delineate.metrics.trust.quality_model import QualityModel
from delineate.metrics.trust.reference import Origin
from delineate.metrics.trust.structure_norms import Spread, StructureNorm

FORMAT_VERSION = 1


def trust_to_json(reference: TrustReference) -> str:
    """Return the text of the file."""
    content = {
        "format_version": FORMAT_VERSION,
        "origin": reference.origin,
        "cases": reference.cases,
        "temperature": list(reference.temperature),
        "orientations": list(reference.orientations),
        "structures": [asdict(norm) for norm in reference.structures],
        "quality": None if reference.quality is None else asdict(reference.quality),
        "image_names": list(reference.image_names),
        "image": None if reference.image is None else _cloud(reference.image),
        "features": {fold: [_cloud(cloud) for cloud in stages] for fold, stages in reference.features.items()},
        "ordinary": {name: values.tolist() for name, values in reference.ordinary.items()},
    }
    return json.dumps(_rounded(content), allow_nan=False, separators=(",", ":"))


def trust_from_json(text: str | bytes, *, source: str) -> TrustReference:
    """Return what is ordinary for a model from the text of the file.

    Raises
    ------
    PlanError
        If the text is not what :func:`trust_to_json` writes; names the place.
    """
    try:
        node = Node(value=json.loads(text), source=source)
    except (ValueError, RecursionError) as error:
        raise Node(value=None, source=source).wrong(f"no JSON: {error}") from error
    version = node.child("format_version").integer()
    origin = node.child("origin").text()
    if version != FORMAT_VERSION or origin not in get_args(Origin):
        raise node.wrong(
            f"version {FORMAT_VERSION} of an origin {get_args(Origin)} is read, found {version} '{origin}'"
        )
    features = node.child("features")
    ordinary = node.child("ordinary")
    return TrustReference(
        origin="out of fold" if origin == "out of fold" else "held out",
        cases=node.child("cases").integer(),
        temperature=_positive(node.child("temperature")),
        orientations=tuple(item.text() for item in node.child("orientations").items()),
        structures=tuple(_norm(item) for item in node.child("structures").items()),
        quality=None if _is_null(node, "quality") else _quality(node.child("quality")),
        image_names=tuple(item.text() for item in node.child("image_names").items()),
        image=None if _is_null(node, "image") else _cloud_of(node.child("image")),
        features={fold: _stages(features.child(fold)) for fold in features.keys()},
        ordinary={name: np.array(ordinary.child(name).numbers(), np.float64) for name in ordinary.keys()},
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _cloud(cloud: NormalReference) -> dict[str, Any]:
    return {
        "mean": cloud.mean.tolist(),
        "scale": cloud.scale.tolist(),
        "axes": cloud.axes.tolist(),
        "variances": cloud.variances.tolist(),
        "rest": cloud.rest,
        "distances": cloud.distances.tolist(),
    }


def _cloud_of(node: Node) -> NormalReference:
    mean, scale = _array(node, "mean"), _array(node, "scale")
    axes = np.array([row.numbers() for row in node.child("axes").items()], np.float64)
    variances, distances, rest = _array(node, "variances"), _array(node, "distances"), node.child("rest").number()
    shapes = (mean.shape == scale.shape, axes.shape == (len(variances), len(mean)), len(distances) > 0, len(mean) > 0)
    if not all(shapes) or min(scale.min(), variances.min(initial=1.0), rest) <= 0:
        raise node.wrong("the numbers do not make a cloud of points")
    return NormalReference(
        mean=mean, scale=scale, axes=axes, variances=variances, rest=float(rest), distances=distances
    )


def _stages(node: Node) -> tuple[NormalReference, ...]:
    stages = tuple(_cloud_of(item) for item in node.items())
    if len({len(cloud.distances) for cloud in stages}) != 1:
        raise node.wrong("every stage needs the distances of the same cases")
    return stages


def _array(node: Node, key: str) -> NDArray[np.float64]:
    return np.array(node.child(key).numbers(), np.float64)


def _positive(node: Node) -> tuple[float, ...]:
    numbers = tuple(float(n) for n in node.numbers())
    if any(n <= 0 for n in numbers):
        raise node.wrong(f"temperatures must be above 0; found {numbers}")
    return numbers


def _quality(node: Node) -> QualityModel:
    lists = {key: tuple(map(float, node.child(key).numbers())) for key in ("medians", "spreads", "weights")}
    names = tuple(item.text() for item in node.child("names").items())
    if any(len(values) != len(names) for values in lists.values()) or min(lists["spreads"], default=1.0) <= 0:
        raise node.wrong("every score needs a median, a positive spread and a weight")
    numbers = {key: float(node.child(key).number()) for key in ("intercept", "error", "lowest")}
    return QualityModel(
        names=names,
        medians=lists["medians"],
        spreads=lists["spreads"],
        weights=lists["weights"],
        intercept=numbers["intercept"],
        error=numbers["error"],
        lowest=numbers["lowest"],
    )


def _norm(node: Node) -> StructureNorm:
    return StructureNorm(
        name=node.child("name").text(),
        cases=node.child("cases").integer(),
        present=node.child("present").integer(),
        log_volume=_optional_spread(node, "log_volume"),
        largest_share=_optional_spread(node, "largest_share"),
        most_pieces=node.child("most_pieces").integer(),
        offset_mm=tuple(_spread(item) for item in node.child("offset_mm").items()),
        place_mm=tuple(_spread(item) for item in node.child("place_mm").items()),
    )


def _optional_spread(node: Node, key: str) -> Spread | None:
    return None if _is_null(node, key) else _spread(node.child(key))


def _spread(node: Node) -> Spread:
    mean, std = float(node.child("mean").number()), float(node.child("std").number())
    if std <= 0:
        raise node.wrong(f"a standard deviation must be above 0; found {std}")
    return Spread(mean=mean, std=std)


def _is_null(node: Node, key: str) -> bool:
    return node.child(key).value is None
