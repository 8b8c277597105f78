"""The end of a training on instances: thresholds chosen on held-out pictures, scores, and the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from delineate import __version__
from delineate.execution import Cancellation, Progress, Silent
from delineate.formats.instance_package import InstancePackage, write_instance_package
from delineate.inference.instance_maps import InstancePredictor
from delineate.inference.precision import converted
from delineate.masks.instance_decoding import Decoding, decode_instances
from delineate.metrics import instance_overlap
from delineate.metrics.contingency import InstanceOverlap
from delineate.metrics.panoptic import PanopticQuality, average_precision, panoptic_quality
from delineate.networks.instance_unet import MAPS, InstanceUNet
from delineate.planning.likeness import is_coloured
from delineate.preprocessing.pictures import stretch_of
from delineate.workflows.run_instances import WIDTHS, InstanceRun

FOREGROUND, INTERIOR, DISTANCE, SMOOTH = (0.35, 0.5, 0.6), (0.3, 0.45, 0.6), (0.1, 0.25), (0.5, 1.0, 2.0)
"""Values among which the decoding is chosen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """How well the instances of a group of pictures were found."""

    group: str
    n_pictures: int
    n_instances: int
    ap50: float
    """Mean over pictures of TP / (TP + FP + FN) at an IoU of 0.5."""
    ap_mean: float
    """The same, mean over IoU 0.5 to 0.95."""
    pq: float
    """Pooled over pictures."""
    dice: float
    """Of the foreground, mean over pictures."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Held:
    group: str
    instances: NDArray[np.int32]
    maps: NDArray[np.uint8]


def conclude_instances(
    run: InstanceRun,
    weights: Mapping[str, Tensor],
    target: Path,
    *,
    licence: str = "",
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> tuple[InstancePackage, tuple[InstanceScores, ...]]:
    """Predict the held-out pictures, choose the decoding by their panoptic quality, score, and write the package.

    The scores are those of the chosen decoding on the pictures it was chosen on; with some ten settings and dozens of
    pictures the difference to fresh pictures is small, and the package says so.

    Raises
    ------
    ResourceError
        If the package cannot be written.
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    held = _predicted(run, weights, progress, cancellation)
    decoding = _chosen(held)
    scores = tuple(_scores(group, held, decoding) for group in dict.fromkeys(one.group for one in held))
    package = InstancePackage(
        name=" + ".join(dataset.name for dataset in run.datasets),
        software=f"delineate {__version__}",
        licence=licence,
        type_names=run.type_names,
        widths=WIDTHS,
        decoding=decoding,
        typical_pixels=_typical(held),
        pixel_um=None,
        weights=weights,
        facts={**(facts or {}), "scores": [asdict(one) for one in scores], "scored_on": "held-out pictures"},
    )
    return write_instance_package(target, package), scores


def _predicted(
    run: InstanceRun, weights: Mapping[str, Tensor], progress: Progress, cancellation: Cancellation
) -> tuple[_Held, ...]:
    network = InstanceUNet(types=len(run.type_names), widths=WIDTHS)
    network.load_state_dict(dict(weights))
    predictor = InstancePredictor(
        network=converted(network, device="cpu", precision=run.recipe.precision, channels_last=True),
        decoding=Decoding(),
        device=torch.device("cpu"),
        precision=run.recipe.precision,
        channels_last=True,
    )
    progress.start("score", sum(map(len, run.held_out)))
    held = []
    for dataset, names in zip(run.datasets, run.held_out, strict=True):
        chosen = set(names)
        for files in (case for case in dataset.cases if case.case_id in chosen):
            cancellation.check()
            case = dataset.load(files)
            picture = stretch_of(case.picture).applied(case.picture)
            group = f"{dataset.name}, {'coloured' if is_coloured(picture) else 'grey'}"
            held.append(_Held(group=group, instances=case.instances, maps=predictor.maps(picture)[:MAPS]))
            progress.advance(note=case.case_id)
    progress.finish()
    return tuple(held)


def _chosen(held: Sequence[_Held]) -> Decoding:
    """Return the decoding with the best mean over groups of the pooled panoptic quality."""

    def quality(decoding: Decoding) -> float:
        return float(np.mean([_pooled(pairs).quality for pairs in _by_group(held, decoding).values()]))

    options = product(FOREGROUND, INTERIOR, DISTANCE)
    thresholds = [replace(Decoding(), foreground=f, interior=i, distance=d) for f, i, d in options]
    best = max(thresholds, key=quality)
    return max((replace(best, smooth=smooth) for smooth in SMOOTH), key=quality)


def _by_group(held: Sequence[_Held], decoding: Decoding) -> dict[str, list[InstanceOverlap]]:
    pairs: dict[str, list[InstanceOverlap]] = {}
    for one in held:
        found = decode_instances(one.maps.astype(np.float32) / 255, decoding)
        pairs.setdefault(one.group, []).append(instance_overlap(found, one.instances))
    return pairs


def _pooled(pairs: Sequence[InstanceOverlap]) -> PanopticQuality:
    total = panoptic_quality(pairs[0])
    for pair in pairs[1:]:
        total = total + panoptic_quality(pair)
    return total


def _scores(group: str, held: Sequence[_Held], decoding: Decoding) -> InstanceScores:
    mine = [one for one in held if one.group == group]
    pairs = _by_group(mine, decoding)[group]
    precision = average_precision(pairs)
    return InstanceScores(
        group=group,
        n_pictures=len(mine),
        n_instances=sum(len(pair.reference_ids) for pair in pairs),
        ap50=float(precision[0]),
        ap_mean=float(precision.mean()),
        pq=_pooled(pairs).quality,
        dice=float(np.nanmean([_dice(one, decoding) for one in mine])),
    )


def _dice(one: _Held, decoding: Decoding) -> float:
    found, there = one.maps[0] >= 255 * decoding.foreground, one.instances > 0
    total = found.sum() + there.sum()
    return float(2 * (found & there).sum() / total) if total else float("nan")


def _typical(held: Sequence[_Held]) -> float:
    """Return the median diameter of the instances, in pixels."""
    areas = np.concatenate([np.bincount(one.instances.ravel())[1:] for one in held])
    return float(np.median(np.sqrt(areas[areas > 0] * 4 / np.pi)))
