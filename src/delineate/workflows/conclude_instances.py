"""The end of a training on instances: thresholds chosen on held-out pictures, scores, the package and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from delineate import __version__
from delineate.execution import Cancellation, Progress, Silent, write_text
from delineate.formats.instance_package import InstancePackage, write_instance_package
from delineate.masks.instance_decoding import Decoding
from delineate.masks.instance_types import types_of_instances
from delineate.metrics.decoding_choice import DecodingChoice, HeldOutMaps, choose_decoding, choose_worth
from delineate.metrics.instance_scores import (
    InstanceScores,
    ScoredPicture,
    TypeScores,
    mean_over_types,
    score_group,
    score_picture,
    score_types,
)
from delineate.networks.instance_unet import MAPS
from delineate.planning.instance_size import diameters_of, median_diameter
from delineate.workflows.answer_pictures import AnsweredPicture, Answers
from delineate.workflows.learn_candidates import learn_candidates
from delineate.workflows.run_instances import InstanceRun

SCORES = "scores.json"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceConclusion:
    """What a training on instances came to."""

    package: InstancePackage
    groups: tuple[InstanceScores, ...]
    types: tuple[TypeScores, ...]
    pictures: tuple[ScoredPicture, ...]
    choice: DecodingChoice
    held: tuple[AnsweredPicture, ...]
    before: tuple[InstanceScores, ...] = ()
    """Scores of the model that the training started from, on the same pictures; empty if it started from none."""


def conclude_instances(
    run: InstanceRun,
    weights: Mapping[str, Tensor],
    target: Path,
    *,
    licence: str = "",
    facts: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> InstanceConclusion:
    """Predict the held-out pictures, choose the decoding by their panoptic quality, score, and write the package.

    What objects look like is learnt from pictures that were trained on; it is used if it does better on the held-out
    ones. The scores are those of the chosen decoding on the pictures it was chosen on; with some fifteen settings and
    dozens of pictures the difference to fresh pictures is small, and the package says so.

    Raises
    ------
    ResourceError
        If the package cannot be written.
    Interrupted
        If a stop was requested.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    before = _scores_before(run, device, progress, cancellation)
    answers = Answers.of(run, weights, device)
    held = answers.held_out(progress, cancellation)
    known = [HeldOutMaps(group=one.group, kind=one.kind, maps=one.maps[:MAPS], instances=one.instances) for one in held]
    choice = choose_decoding(known)
    if held and (scorer := learn_candidates(answers, progress, cancellation)) is not None:
        choice = choose_worth(known, choice, scorer)
    pictures = tuple(_scored(one, choice.decoding, len(run.type_names)) for one in held)
    groups = _grouped(pictures)
    types = score_types(run.type_names, pictures)
    told = _told(groups, types, pictures, len(choice.tried))
    told |= {"scores_before": [_plain(asdict(one)) for one in before]} if before else {}
    package = InstancePackage(
        name=" + ".join(dataset.name for dataset in run.datasets),
        software=f"delineate {__version__}",
        licence=licence,
        type_names=run.type_names,
        widths=run.widths,
        decoding=choice.decoding,
        typical_pixels=_typical(run, held),
        pixel_um=run.pixel_um,
        zoom=run.zoom,
        weights=weights,
        facts={**(facts or {}), "decisions": list(run.reasons), **told},
    )
    write_text(run.folder / SCORES, json.dumps(_by_picture(told, pictures), indent=1, allow_nan=False))
    written = write_instance_package(target, package)
    return InstanceConclusion(
        package=written, groups=groups, types=types, pictures=pictures, choice=choice, held=held, before=before
    )


def _grouped(pictures: Sequence[ScoredPicture]) -> tuple[InstanceScores, ...]:
    return tuple(
        score_group(group, [picture for picture in pictures if picture.group == group])
        for group in dict.fromkeys(picture.group for picture in pictures)
    )


def _scores_before(
    run: InstanceRun, device: str, progress: Progress, cancellation: Cancellation
) -> tuple[InstanceScores, ...]:
    """Score the network as the training found it, by the decoding of the model that it came from."""
    network, transfer = run.fresh_network()
    if run.start is None or transfer is None or not transfer.is_whole:
        return ()
    held = Answers.of(run, network.state_dict(), device).held_out(progress, cancellation)
    return _grouped([_scored(one, run.start.package.decoding, 0) for one in held])


def _scored(one: AnsweredPicture, decoding: Decoding, n_types: int) -> ScoredPicture:
    found = one.found(decoding)
    types = None
    if n_types and one.types is not None:
        guessed, _ = types_of_instances(found, one.maps[MAPS + 1 :], int(found.max(initial=0)))
        types = (np.concatenate([[0], guessed]).astype(np.int64), one.types, n_types)
    return score_picture(one.files.case_id, one.group, found, one.instances, types)


def _told(
    groups: Sequence[InstanceScores], types: Sequence[TypeScores], pictures: Sequence[ScoredPicture], tried: int
) -> dict[str, Any]:
    """Return the scores for the package and the card."""
    plus, plain = mean_over_types(pictures)
    return {
        "scored_on": f"{len(pictures)} held-out pictures, on which the decoding was chosen among {tried}",
        "scores": [_plain(asdict(one)) for one in groups],
        "types": [_plain(asdict(one)) for one in types],
        "mPQ+": _plain(plus),
        "mPQ (PanNuke)": _plain(plain),
    }


def _typical(run: InstanceRun, held: Sequence[AnsweredPicture]) -> float:
    """Return the median diameter, in pixels, of the objects as the network sees them."""
    median = median_diameter([diameters_of(one.instances) for one in held])
    return run.diameters[0] * run.zooms[0] if math.isnan(median) else median


def _by_picture(told: Mapping[str, Any], pictures: Sequence[ScoredPicture]) -> dict[str, Any]:
    lines = [
        {
            "case": one.case_id,
            "group": one.group,
            "found": one.counts[0],
            "reference": one.counts[1],
            "pq": _plain(one.quality),
            "dice": _plain(one.dice),
        }
        for one in pictures
    ]
    return {**told, "pictures": lines}


def _plain(value: Any) -> Any:
    """Return a value for JSON: no number is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
