"""Image statistics, reference and assessment on made-up populations."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import InputError
from delineate.geometry.grid import Grid
from delineate.metrics.trust import (
    Agreement,
    Behaviour,
    HonestCase,
    Observation,
    Population,
    Uncertainty,
    assess_case,
    fit_reference,
    image_statistics,
    measure_shapes,
)
from delineate.metrics.trust.assessment import rarity
from delineate.metrics.trust.image_statistics import orientation_of

GRID = Grid.regular((12, 24, 20), (2.0, 1.0, 1.0))
STRUCTURES = (("organ", (1,)), ("rare", (2,)))


def picture(seed, grid=GRID):
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, grid.shape[1]), np.linspace(-1, 1, grid.shape[2]), indexing="ij")
    body = (y**2 + (x - 0.2) ** 2 < 0.7) * rng.uniform(90, 110) + rng.uniform(0, 5)
    return (body + rng.normal(0, 4, (1, *grid.shape))).astype(np.float32)


def observation(seed, *, image=None, grid=GRID, empty=False, quality=None, features=0.0):
    rng = np.random.default_rng(seed)
    quality = rng.uniform(0.8, 0.95) if quality is None else quality
    labels = np.zeros(grid.shape, np.uint8)
    if not empty:
        labels[3:8, 6:14, 5 : 12 + seed % 3] = 1
    if seed < 4:
        labels[0, 0, :3] = 2
    behaviour = Behaviour(
        agreement=Agreement(flips=(math.nan,) if empty else (quality,)),
        uncertainty=Uncertainty(
            expected_dice=(math.nan if empty else quality,), boundary_entropy=1 - quality, confidence=quality
        ),
        features={"0": tuple((rng.standard_normal(n) + features).astype(np.float32) for n in (20, 30))},
    )
    return Observation(
        behaviour=behaviour,
        image=image_statistics(picture(seed) if image is None else image, grid),
        shapes=measure_shapes(labels, grid, STRUCTURES),
    )


def honest(seed):
    found = observation(seed)
    (quality,) = found.behaviour.uncertainty.expected_dice
    return HonestCase(
        observation=found, dice=quality - 0.1, logits=np.zeros((0, 2), np.float32), truths=np.zeros(0, np.int64)
    )


@pytest.fixture(scope="module")
def reference():
    cases = [honest(i) for i in range(40)]
    population = [Population(image=c.observation.image, shapes=c.observation.shapes) for c in cases]
    return fit_reference(population, cases, origin="out of fold", regions=False)


def test_ordinary_cases_are_rarely_told(reference):
    found = [assess_case(observation(100 + i), reference, case_id="x") for i in range(40)]
    assert sum(a.verdict == "review with care" for a in found) <= 6
    assert (
        np.mean(
            [
                abs(a.quality - (observation(100 + i).behaviour.uncertainty.confidence - 0.1))
                for i, a in enumerate(found)
            ]
        )
        < 0.02
    )
    assert found[0].quality_error < 0.02
    assert "expected Dice" in next(a.words for a in found if a.verdict == "nothing unusual")


def test_doubt_lowers_the_expected_dice(reference):
    sure, unsure = (assess_case(observation(101, quality=q), reference, case_id="x") for q in (0.9, 0.4))
    assert unsure.quality < sure.quality - 0.3
    assert "below that of 95 % of ordinary cases" in unsure.words


def test_nothing_where_there_always_was_something(reference):
    found = assess_case(observation(101, empty=True), reference, case_id="x")
    assert found.quality == 0
    assert "organ is missing; all 40 training cases have it" in found.reasons


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a + np.random.default_rng(0).normal(0, 60, a.shape), "sharpness"),
        (lambda a: 200 - a, "percentile"),
        (lambda a: a[..., ::-1], "brightness towards L"),
        (lambda a: a * 100, "intensity range"),
    ],
)
def test_strange_images_are_told_in_words(reference, change, word):
    found = assess_case(observation(101, image=change(picture(101))), reference, case_id="x")
    text = next(r for r in found.reasons if r.startswith("the image differs"))
    assert word in text
    assert found.outlier > 1.2


def test_strange_headers_are_told(reference):
    coarse = assess_case(observation(101, grid=replace(GRID, spacing_mm=(5.0, 1.0, 1.0))), reference, case_id="x")
    assert any("spacing z" in r for r in coarse.reasons)
    turned = replace(GRID, direction=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)))
    found = assess_case(observation(101, grid=turned), reference, case_id="x")
    assert "the image lies as IPR; training images lie as SPL" in found.reasons


def test_strange_features_are_told(reference):
    found = assess_case(observation(101, features=3.0), reference, case_id="x")
    assert any(r.startswith("the network sees an unusual image") for r in found.reasons)
    score = next(s for s in found.scores if s.name == "features")
    assert score.rarity == pytest.approx(1 / 41)


def test_few_examples_are_noticed(reference):
    notices = assess_case(observation(101), reference, case_id="x").notices
    assert notices == ("rare has only 4 training examples and is not compared with them",)


def test_without_reference_nothing_is_assessed():
    found = assess_case(observation(1), None, case_id="x")
    assert found.verdict == "not assessed"
    assert "carries no reference statistics" in found.words
    assert {s.name for s in found.scores} == {"flip_disagreement", "expected_error", "boundary_entropy", "doubt"}


def test_too_few_cases_are_no_reference():
    cases = [honest(i) for i in range(9)]
    with pytest.raises(InputError, match="at least 10"):
        fit_reference(
            [Population(image=c.observation.image, shapes=c.observation.shapes) for c in cases],
            cases,
            origin="held out",
            regions=False,
        )


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(0, 5))
def test_rarity_counts(ordinary, value):
    expected = (sum(o >= value for o in ordinary) + 1) / (len(ordinary) + 1)
    assert rarity(value, np.sort(np.array(ordinary, float))) == pytest.approx(expected)


@given(st.floats(0.1, 1e4), st.floats(-1e3, 1e3))
def test_shapes_of_distributions_do_not_depend_on_the_scale(scale, offset):
    array = picture(5).astype(np.float64)
    plain, changed = (image_statistics(a, GRID).values for a in (array, array * scale + offset))
    for name in ("percentile 50", "noise", "sharpness x", "unevenness", "brightness towards L"):
        assert changed[name] == pytest.approx(plain[name], abs=1e-4)


def test_statistics_are_finite_for_hard_images():
    for array in (np.zeros((1, 3, 4, 5)), np.ones((2, 1, 1, 1)), np.eye(7)[None]):
        grid = Grid.regular(array.shape[1:])
        assert np.isfinite(list(image_statistics(array, grid).values.values())).all()


def test_axes_have_names_of_the_world():
    assert orientation_of(GRID) == "SPL"
    assert orientation_of(Grid.regular((3, 4))) == "PL"
