"""Which decoding of instance maps is best on held-out pictures: a short search whose cost is known before it begins.

One value after the other is tried, from a start that is good for most networks; a setting that is clearly worse on half
of the pictures is not tried on the rest. Few pictures of each group, cut where they are large, are enough to choose
ten settings from, and keep an untrained network's noise from costing more than seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delineate.errors import UsageError
from delineate.masks.candidate_scorer import CandidateScorer
from delineate.masks.instance_decoding import Decoding, decode_instances, decode_scored
from delineate.metrics.contingency import InstanceOverlap, instance_overlap
from delineate.metrics.panoptic import PanopticQuality, panoptic_quality

START = Decoding()
OTHER_STARTS = (
    replace(START, foreground=0.35, prominence=0.1),
    replace(START, foreground=0.6, prominence=0.2),
)
"""For networks that say too little, or too much, of everything."""
VALUES: Mapping[str, tuple[float, ...]] = {
    "smooth": (1.0, 1.5, 2.0),
    "prominence": (0.08, 0.12, 0.16, 0.2, 0.25),
    "foreground": (0.4, 0.5, 0.6),
}
"""What is tried around the best start, one value after the other: at most eight settings more."""
CANDIDATES = replace(START, foreground=0.4, prominence=0.04)
"""Of these summits, alone or joined, a scorer chooses."""
LEAST_WORTH = (0.2, 0.25, 0.3, 0.35)
"""What a candidate must be worth to be taken: these are tried."""
MATCH = 0.5
"""IoU above which an instance is a true one."""
LEAST_FOUND = 50
"""Instances from which confidences are learnt."""
AS_GOOD = 0.003
"""Panoptic quality that fewer missed instances may cost."""
MOST_SETTINGS = 15
"""The three starts and those eight, and the four with a scorer."""
MOST_PIXELS = 1 << 22
"""Per group of pictures; decoding takes about 0.3 s for a quarter of that."""
MOST_SIDE = 1024
"""Larger pictures are cut to their middle."""
CLEARLY_WORSE = 0.05
"""Panoptic quality on half of the pictures that a setting may lose and still be tried on the rest."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOutMaps:
    """What a network said of a picture that it was not trained on, and what is there."""

    group: str
    """Pictures of one data set and kind; each group counts the same within its kind."""
    kind: str = ""
    """``grey`` or ``coloured``; each kind counts the same, so that two data sets of one do not outvote the other."""
    maps: NDArray[Any]
    """(3, y, x): foreground, interior, distance; fractions, or bytes where 255 is 1."""
    instances: NDArray[np.int32]
    """(y, x), 0 background."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingChoice:
    """The best of the settings that were tried."""

    decoding: Decoding
    quality: float
    """Mean over groups of the pooled panoptic quality; NaN if there was nothing to choose on."""
    tried: tuple[tuple[Decoding, float], ...]
    """Every setting with its quality, of abandoned ones on half of the pictures."""
    n_pictures: int
    """Pictures, or parts of them, that were used."""


def choose_decoding(held: Sequence[HeldOutMaps]) -> DecodingChoice:
    """Choose thresholds and smoothing by panoptic quality.

    Returns
    -------
    DecodingChoice
        The start itself if there is no picture, or no instance in any.
    """
    first, second = _halves(held)
    search = _Search(first=first, second=second)
    search.tries(START)
    if not np.isnan(search.quality):
        for option in OTHER_STARTS:
            search.tries(option)
        for name, values in VALUES.items():
            centre = search.best
            for value in values:
                search.tries(replace(centre, **{name: value}))  # type: ignore[arg-type]
    return DecodingChoice(
        decoding=search.best,
        quality=search.quality,
        tried=tuple(search.tried.items()),
        n_pictures=len(first) + len(second),
    )


def choose_worth(held: Sequence[HeldOutMaps], choice: DecodingChoice, scorer: CandidateScorer) -> DecodingChoice:
    """Choose what a candidate must be worth; what was chosen without a scorer stays if it is as good.

    The least that is about as good as the best is chosen: it misses fewer instances.
    """
    first, second = _halves(held)
    options = [replace(CANDIDATES, scorer=replace(scorer, least=least)) for least in LEAST_WORTH]
    scored = [(option, quality_of([*first, *second], option)) for option in options]
    best = max(quality for _, quality in scored)
    tried = (*choice.tried, *scored)
    if not best > choice.quality:
        return replace(choice, tried=tried)
    chosen, quality = next(each for each in scored if each[1] >= best - AS_GOOD)
    return replace(choice, decoding=_calibrated(chosen, [*first, *second]), quality=quality, tried=tried)


def _calibrated(decoding: Decoding, held: Sequence[HeldOutMaps]) -> Decoding:
    """Return a decoding by a scorer with confidences that are right on held-out pictures; groups count the same.

    A scorer learns from pictures that the network knows, and is too sure of others.
    """
    told: dict[str, list[NDArray[np.float64]]] = {}
    for one in held:
        found, sure = decode_scored(_fractions(one.maps), decoding)
        if sure is not None:
            told.setdefault(one.group, []).append(np.stack([sure, _matched(found, one.instances, len(sure))], axis=1))
    points = [np.concatenate(of_group) for of_group in told.values()]
    weights = np.concatenate([np.full(len(group), 1 / max(len(group), 1)) for group in points])
    sure, true = np.concatenate(points).T
    if decoding.scorer is None or len(sure) < LEAST_FOUND or np.ptp(sure) == 0:
        return decoding
    slope, offset = np.polyfit(sure, true, 1, w=np.sqrt(weights))
    if slope <= 0:
        return decoding
    return replace(decoding, scorer=replace(decoding.scorer, offset=float(offset), slope=float(slope)))


def _matched(found: NDArray[np.int32], instances: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return, per found instance 1, 2, ..., the IoU with the one that it matches, 0 without a match."""
    overlap, best = instance_overlap(found, instances), np.zeros(count)
    np.maximum.at(best, overlap.predicted_ids[overlap.predicted] - 1, overlap.iou)
    return np.where(best > MATCH, best, 0.0)


@dataclass(kw_only=True)
class _Search:
    """The best setting so far."""

    first: Sequence[HeldOutMaps]
    second: Sequence[HeldOutMaps]
    best: Decoding = START
    quality: float = float("nan")
    half: float = float("nan")
    """Of the best, on the first half of the pictures."""
    tried: dict[Decoding, float] = field(default_factory=dict)

    def tries(self, option: Decoding) -> None:
        if option in self.tried:
            return
        half = quality_of(self.first, option)
        if half < self.half - CLEARLY_WORSE:
            self.tried[option] = half
            return
        whole = quality_of([*self.first, *self.second], option) if self.second else half
        self.tried[option] = whole
        if np.isnan(self.quality) or whole > self.quality:
            self.best, self.quality, self.half = option, whole, half


def quality_of(held: Sequence[HeldOutMaps], decoding: Decoding) -> float:
    """Return the mean over kinds of the mean over groups of the pooled panoptic quality; NaN without instances."""
    kind_of = {one.group: one.kind for one in held}
    scores: dict[str, list[float]] = {}
    for group, pairs in overlaps_by_group(held, decoding).items():
        if not np.isnan(quality := pooled_quality(pairs).quality):
            scores.setdefault(kind_of[group], []).append(quality)
    return float(np.mean([np.mean(of_kind) for of_kind in scores.values()])) if scores else float("nan")


def overlaps_by_group(held: Sequence[HeldOutMaps], decoding: Decoding) -> dict[str, list[InstanceOverlap]]:
    """Decode every picture and compare it with what is there, in the order of the pictures."""
    pairs: dict[str, list[InstanceOverlap]] = {}
    for one in held:
        pairs.setdefault(one.group, []).append(instance_overlap(decoded(one.maps, decoding), one.instances))
    return pairs


def decoded(maps: NDArray[Any], decoding: Decoding) -> NDArray[np.int32]:
    """Return the instances (y, x) of maps (3, y, x), fractions or bytes."""
    return decode_instances(_fractions(maps), decoding)


def _fractions(maps: NDArray[Any]) -> NDArray[Any]:
    return maps.astype(np.float32) / 255 if maps.dtype == np.uint8 else maps


def pooled_quality(pairs: Sequence[InstanceOverlap]) -> PanopticQuality:
    """Return the panoptic quality of pictures whose counts are added.

    Raises
    ------
    UsageError
        If there is no picture.
    """
    if not pairs:
        raise UsageError("The panoptic quality of no picture at all was asked for; give at least one.")
    total = panoptic_quality(pairs[0])
    for pair in pairs[1:]:
        total = total + panoptic_quality(pair)
    return total


def _halves(held: Sequence[HeldOutMaps]) -> tuple[list[HeldOutMaps], list[HeldOutMaps]]:
    """Return two halves of a few pictures of each group, evenly spread over the group."""
    halves: tuple[list[HeldOutMaps], list[HeldOutMaps]] = ([], [])
    for group in dict.fromkeys(one.group for one in held):
        mine = [_cut(one) for one in held if one.group == group]
        pixels = float(np.mean([one.instances.size for one in mine]))
        count = max(1, min(len(mine), int(MOST_PIXELS // max(pixels, 1.0))))
        chosen = [mine[i] for i in np.linspace(0, len(mine) - 1, count).round().astype(int)]
        for half, part in zip(halves, (chosen[::2], chosen[1::2]), strict=True):
            half.extend(part)
    return halves


def _cut(one: HeldOutMaps) -> HeldOutMaps:
    starts = [max(0, (size - MOST_SIDE) // 2) for size in one.instances.shape]
    window = tuple(slice(start, start + MOST_SIDE) for start in starts)
    return replace(one, maps=one.maps[:, window[0], window[1]], instances=one.instances[window])
