"""Candidates are what holds together above a height; each is described as a look at its pixels describes it."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from delineate.errors import ModelError
from delineate.masks.candidate_features import FEATURES
from delineate.masks.candidate_scorer import FARTHEST, CandidateScorer
from delineate.masks.candidate_tree import MOST_BASINS
from delineate.masks.instance_candidates import Candidates, find_candidates
from delineate.masks.instance_decoding import Decoding, decode_instances, decode_scored
from delineate.metrics.candidate_quality import candidate_quality
from instance_models import random_scorer

PLACE = {name: column for column, name in enumerate(FEATURES)}


def noise(seed: int, shape: tuple[int, int] = (60, 70)) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Three maps, and a height."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((4, *shape)), (0, 2, 2))
    values = (1 / (1 + np.exp(-2 * values / values.std()))).astype(np.float32)
    return values[:3], values[3]


def split(height: NDArray[np.float32], ground: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Basins without any rule of their own: the nearest summit's."""
    summits = (ndimage.maximum_filter(height, 5) == height) & ground
    marks, _ = ndimage.label(summits)
    places = ndimage.distance_transform_edt(marks == 0, return_distances=False, return_indices=True)
    owner = np.where(ground, marks[tuple(places)], 0)
    numbers, first = np.unique(owner[owner > 0], return_index=True)
    table = np.zeros(owner.max(initial=0) + 1, dtype=np.int32)
    table[numbers[np.argsort(first)]] = np.arange(1, len(numbers) + 1)
    return table[owner]


def example(seed: int, side: int = 40) -> tuple[NDArray[np.float32], NDArray[np.float32], Candidates]:
    maps, height = noise(seed)
    return maps, height, find_candidates(maps, height, split(height, maps[0] > 0.45), side)


def basins_of(candidates: Candidates) -> list[frozenset[int]]:
    """The basins that every candidate is made of."""
    found: list[frozenset[int]] = []
    for number, (one, other) in enumerate(candidates.parts.tolist(), start=1):
        found.append(found[one - 1] | found[other - 1] if one else frozenset([number]))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_features_are_those_of_the_pixels(seed: int) -> None:
    maps, height, candidates = example(seed)
    padded = np.pad(candidates.basins, 1, constant_values=-1)
    joined = 0
    for number, basins in enumerate(basins_of(candidates)):
        mask = np.isin(candidates.basins, list(basins))
        row = candidates.features[number]
        y, x = np.nonzero(mask)
        assert row[PLACE["log of the area in pixels"]] == pytest.approx(np.log(mask.sum()))
        for index, name in enumerate(("foreground", "interior", "distance")):
            assert row[PLACE[f"mean {name}"]] == pytest.approx(maps[index][mask].mean(), abs=1e-6)
        assert row[PLACE["standard deviation of the interior"]] == pytest.approx(maps[1][mask].std(), abs=1e-5)
        variance = np.cov(np.stack([y, x]), bias=True) + np.eye(2) / 12
        ellipse = 4 * np.pi * np.sqrt(np.linalg.det(variance))
        assert row[PLACE["area over that of the ellipse with its second moments"]] == pytest.approx(
            mask.sum() / ellipse
        )
        small, large = np.linalg.eigvalsh(variance)
        assert row[PLACE["short over long axis of that ellipse"]] == pytest.approx(np.sqrt(small / large), abs=1e-6)
        edges, bare, within, beyond = 0, 0, [], []
        for (dy, dx), (py, px) in itertools.product([(-1, 0), (1, 0), (0, -1), (0, 1)], zip(y, x, strict=True)):
            outside = padded[py + dy + 1, px + dx + 1]
            if outside != -1 and outside not in basins:
                edges, bare = edges + 1, bare + (outside == 0)
                within.append(maps[1][py, px])
                beyond.append(maps[0][py + dy, px + dx])
        if edges:
            root = np.sqrt(mask.sum())
            assert row[PLACE["pixel edges of the outline over the root of the area"]] == pytest.approx(edges / root)
            assert row[PLACE["share of the outline that lies against background"]] == pytest.approx(bare / edges)
            assert row[PLACE["mean interior within the outline"]] == pytest.approx(np.mean(within), abs=1e-6)
            assert row[PLACE["mean foreground beyond the outline"]] == pytest.approx(np.mean(beyond), abs=1e-6)
        assert row[PLACE["highest height"]] == pytest.approx(height[mask].max())
        assert row[PLACE["basins"]] == len(basins) <= MOST_BASINS
        assert max(np.ptp(y), np.ptp(x)) < 40
        joined += len(basins) > 1
    assert joined > 4


def test_candidates_hold_together_above_their_pass_and_the_way_out_lies_lower() -> None:
    joined, (_, height, candidates) = 0, example(4)
    for number, basins in enumerate(basins_of(candidates)):
        row, mask = candidates.features[number], np.isin(candidates.basins, list(basins))
        ring = ndimage.binary_dilation(mask, np.ones((3, 3))) & ~mask & (candidates.basins > 0)
        out = row[PLACE["height of the highest pass out of it, 0 if there is none"]]
        if not ring.any():
            assert out == 0
            continue
        inside = np.where(mask, height, -1)
        passes = [
            min(height[y, x], inside[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max()) for y, x in np.argwhere(ring)
        ]
        assert out == pytest.approx(max(passes))
        assert row[PLACE["how deep that pass lies below its summit"]] == pytest.approx(height[mask].max() - out)
        if len(basins) > 1:  # what joins it lies no lower than any way out
            summits = candidates.features[candidates.parts[number] - 1, PLACE["highest height"]]
            last = row[PLACE["how deep its last pass lies below the lower of the two summits"]]
            assert summits.min() - last >= out - 1e-6
            assert row[PLACE["how deep the deepest of its passes lies"]] >= last >= 0
            assert row[PLACE["lower over higher summit of the last two parts"]] == pytest.approx(
                summits.min() / summits.max()
            )
            joined += 1
    assert joined > 4


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_taken_is_worth_most(seed: int) -> None:
    _, _, candidates = example(seed % 7)
    gain = np.random.default_rng(seed).normal(size=len(candidates))
    taken = candidates.taken(gain)
    basins = basins_of(candidates)
    chosen = [basins[index] for index in np.flatnonzero(taken)]
    assert sum(map(len, chosen)) == len(frozenset().union(*chosen))  # none overlap
    assert (gain[taken] > 0).all()
    painted = candidates.painted(taken)
    for index in np.flatnonzero(taken):
        assert np.array_equal(painted == index + 1, np.isin(candidates.basins, list(basins[index])))
    best = [0.0]
    for index, (one, other) in enumerate(candidates.parts.tolist()):
        best.append(max(gain[index], best[one] + best[other], 0.0))
    assert gain[taken].sum() == pytest.approx(sum(best[n] for n in range(1, len(best)) if not candidates.whole[n - 1]))


def test_of_equal_gains_the_parts_are_taken() -> None:
    _, _, candidates = example(1)
    whole = int(np.flatnonzero(candidates.parts[:, 0])[0])
    gain = np.full(len(candidates), -1.0)
    gain[candidates.parts[whole] - 1], gain[whole] = 0.5, 1.0
    assert set(np.flatnonzero(candidates.taken(gain)) + 1) == set(candidates.parts[whole])


def test_quality_is_the_largest_overlap() -> None:
    _, _, candidates = example(2)
    truth = split(noise(9)[1], noise(9)[0][0] > 0.5) * 7  # numbers with gaps
    quality = candidate_quality(candidates, truth)
    for number, basins in enumerate(basins_of(candidates)):
        mask = np.isin(candidates.basins, list(basins))
        values = [(mask & (truth == t)).sum() / (mask | (truth == t)).sum() for t in np.unique(truth[mask]) if t]
        assert quality[number] == pytest.approx(max(values, default=0.0))


def test_an_empty_plane_has_no_candidates() -> None:
    maps = np.zeros((3, 20, 30), dtype=np.float32)
    found, sure = decode_scored(maps, Decoding(scorer=random_scorer()))
    assert not found.any()
    assert sure is not None
    assert sure.shape == (0,)
    assert len(candidate_quality(find_candidates(maps, maps[0], found, 20), found)) == 0


def test_a_scorer_is_the_same_after_a_file_and_tells_how_sure_it_is() -> None:
    scorer = CandidateScorer.of_arrays(random_scorer().arrays(), random_scorer(least=0.1).settings)
    again = CandidateScorer.of_arrays(scorer.arrays(), scorer.settings)
    assert again.least == 0.1
    features = example(3)[2].features
    assert np.array_equal(scorer.worth(features), again.worth(features))
    assert np.array_equal(scorer.worth(features)[5:9], scorer.worth(features[5:9]))
    far = features.copy()
    far[:, 0] = 1e9
    near = features.copy()
    near[:, 0] = scorer.mean[0] + FARTHEST * scorer.deviation[0]
    assert np.array_equal(scorer.worth(far), scorer.worth(near))
    decoding = Decoding(foreground=0.4, prominence=0.02, least_pixels=3, scorer=replace(scorer, least=-5.0))
    found, sure = decode_scored(noise(3)[0], decoding)
    assert sure is not None
    assert len(sure) == found.max() > 5
    assert sure.min() >= 0
    assert sure.max() <= 1
    assert np.array_equal(found, decode_instances(noise(3)[0], decoding))


def test_a_scorer_that_does_not_fit_is_refused() -> None:
    arrays = random_scorer().arrays()
    with pytest.raises(ModelError, match="24 features to one finite value"):
        CandidateScorer.of_arrays(arrays | {"mean": np.zeros(5)}, random_scorer().settings)
    with pytest.raises(ModelError, match="24 features to one finite value"):
        CandidateScorer.of_arrays(arrays | {"1.weight": np.full((6, 1), np.nan)}, random_scorer().settings)
    with pytest.raises(ModelError, match=r"Expected a scorer's mean, deviation"):
        CandidateScorer.of_arrays(
            {name: array for name, array in arrays.items() if name != "0.offset"}, random_scorer().settings
        )
