"""Studies of raters against loops over cases and people, SimpleITK's STAPLE, and answers that are known."""

import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from delineate.errors import InputError, UsageError
from delineate.metrics.evaluation.directions import direction_of
from delineate.metrics.evaluation.rater_case import (
    SYMMETRIC_METRICS,
    RaterRules,
    compare_raters,
    suspected_inversions,
)
from delineate.metrics.evaluation.rater_study import study_raters
from delineate.metrics.table import METRICS, METRICS_RELOADED, evaluate_structures
from metrics.metric_cases import both_ways

NAMES = ("ann", "bob", "cy", "dee")
SPACING = (3.0, 0.8, 1.3)


def blob(seed, shape=(6, 20, 24), centre=(3, 9, 11), radius=5.0, jitter=1.5):
    """Return an ellipsoid that every seed draws somewhat differently."""
    rng = np.random.default_rng(seed)
    at = np.array(centre) + rng.normal(size=3) * jitter * np.array([0.3, 1, 1])
    grid = np.indices(shape) - at.reshape(3, 1, 1, 1)
    return (grid[0] / 0.4) ** 2 + grid[1] ** 2 + grid[2] ** 2 < (radius + rng.normal() * 0.5) ** 2


def drawn(case=0, n=4):
    return {name: blob(100 * case + i) for i, name in enumerate(NAMES[:n])}


def compared(masks, model=None, rules=None, person_of=None, case_id="c", patient="p"):
    return compare_raters(
        masks,
        None if model is None else ("net", model),
        rules or RaterRules(),
        spacing_mm=SPACING[-next(iter(masks.values())).ndim :],
        person_of=person_of,
        named=(case_id, patient, "cell"),
    )


def plain_dice(first, second):
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def plain_hd95(first, second):
    return max(np.percentile(side, 95) for side in both_ways(first, second, SPACING))


@pytest.mark.parametrize(("metric", "plain"), [("dice", plain_dice), ("hd95", plain_hd95)])
def test_one_case_equals_loops_over_people(metric, plain):
    masks, model = drawn(), blob(77)
    found = compared(masks, model, RaterRules(metric=metric))
    for i, j in itertools.permutations(range(4), 2):
        assert found.pairwise[i, j] == pytest.approx(plain(masks[NAMES[i]], masks[NAMES[j]]))
    for i, name in enumerate(NAMES):
        others = [m.astype(int) for other, m in masks.items() if other != name]
        reference = 2 * sum(others) > 3
        assert found.people[i] == pytest.approx(plain(masks[name], reference))
        assert found.model[i] == pytest.approx(plain(model, reference))
    assert found.difference == pytest.approx(np.mean(found.model - found.people))
    everybody = 2 * sum(m.astype(int) for m in masks.values()) > 4
    assert found.model_against_majority == pytest.approx(plain(model, everybody))
    np.testing.assert_allclose(found.volumes_ml, [m.sum() * 3.0 * 0.8 * 1.3 / 1000 for m in masks.values()])


def staple_box(masks):
    """Return the joint box of the masks, a tenth larger on every side, as slices."""
    points = np.argwhere(np.any(list(masks.values()), axis=0))
    box = []
    for axis, size in enumerate(next(iter(masks.values())).shape):
        low, high = points[:, axis].min(), points[:, axis].max() + 1
        margin = max(1, math.ceil((high - low) / 10))
        box.append(slice(max(0, low - margin), min(size, high + margin)))
    return tuple(box)


def test_staple_is_that_of_simpleitk_on_the_box_of_the_raters():
    masks = drawn()
    model = np.zeros_like(masks["ann"])
    model[0, 0, 0] = True  # far away: must not change what STAPLE sees
    found = compared(masks, model, RaterRules(consensus="staple"))
    box = staple_box(masks)
    peer = sitk.STAPLEImageFilter()
    peer.SetForegroundValue(1)

    def consensus(chosen):
        cut = [sitk.GetImageFromArray(np.ascontiguousarray(m[box]).astype(np.uint8)) for m in chosen]
        return sitk.GetArrayFromImage(peer.Execute(cut)) > 0.5

    whole = consensus(masks.values())
    np.testing.assert_allclose(found.sensitivity, peer.GetSensitivity(), atol=1e-4)
    np.testing.assert_allclose(found.specificity, peer.GetSpecificity(), atol=1e-4)
    inside = np.zeros_like(model)
    inside[box] = whole
    assert found.model_against_staple == pytest.approx(plain_dice(model, inside))
    for i, name in enumerate(NAMES):
        reference = consensus([m for other, m in masks.items() if other != name])
        assert found.people[i] == pytest.approx(plain_dice(masks[name][box], reference))


def test_nobody_is_judged_by_another_mask_of_their_own():
    masks = drawn()
    twice = {"ann": "A", "bob": "A", "cy": "C", "dee": "D"}
    found = compared(masks, person_of=twice)
    both_others = masks["cy"] & masks["dee"]  # a tie of two is not enough
    assert found.people[0] == pytest.approx(plain_dice(masks["ann"], both_others))
    assert found.people[1] == pytest.approx(plain_dice(masks["bob"], both_others))
    assert found.people[2] == pytest.approx(
        plain_dice(masks["cy"], masks["ann"].astype(int) + masks["bob"] + masks["dee"] > 1)
    )
    study = study_raters([found], RaterRules(), rater_names=NAMES, person_of=twice)
    assert study.people == ("A", "A", "C", "D")
    assert study.structures[0].within_people.value == pytest.approx(plain_dice(masks["ann"], masks["bob"]))
    pairs = [p for p in itertools.combinations(NAMES, 2) if p != ("ann", "bob")]
    between = np.mean([plain_dice(masks[a], masks[b]) for a, b in pairs])
    assert study.structures[0].between_people.value == pytest.approx(between)


@pytest.mark.parametrize("metric", sorted(m for m in METRICS if direction_of(m) != "signed"))
def test_every_metric_is_that_of_the_table_and_symmetric_where_it_is_said(metric):
    masks = drawn(n=3)
    found = compared(masks, rules=RaterRules(metric=metric, tolerance_mm=1.5))

    def of_table(first, second):
        (row,) = evaluate_structures(
            first,
            second,
            [("x", (1,))],
            spacing_mm=SPACING,
            metrics=[metric],
            tolerance_mm=1.5,
            policy=METRICS_RELOADED,
        )
        return row.values[metric]

    for i, j in itertools.permutations(range(3), 2):
        assert found.pairwise[i, j] == pytest.approx(of_table(masks[NAMES[i]], masks[NAMES[j]]))
    symmetric = np.allclose(found.pairwise, found.pairwise.T, equal_nan=True)
    assert symmetric or metric not in SYMMETRIC_METRICS


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(np.bool_, st.tuples(st.integers(4, 6), st.integers(2, 6), st.integers(2, 6))),
    st.randoms(use_true_random=False),
    st.sampled_from(["majority", "staple"]),
)
def test_permuting_raters_changes_nothing(stack, random, consensus):
    model, masks = stack[0], {f"r{i}": mask for i, mask in enumerate(stack[1:])}
    order = list(masks)
    random.shuffle(order)
    rules = RaterRules(consensus=consensus)
    found = compared(masks, model, rules)
    again = compared({name: masks[name] for name in order}, model, rules)
    index = [order.index(name) for name in masks]
    np.testing.assert_allclose(again.people[index], found.people, atol=1e-9)
    np.testing.assert_allclose(again.pairwise[np.ix_(index, index)], found.pairwise)
    np.testing.assert_allclose(again.sensitivity[index], found.sensitivity, atol=1e-6)
    np.testing.assert_allclose(again.difference, found.difference, atol=1e-9)
    np.testing.assert_allclose(again.model_against_majority, found.model_against_majority)


@settings(max_examples=30, deadline=None)
@given(npst.arrays(np.bool_, st.tuples(st.integers(2, 7), st.integers(2, 7))), st.sampled_from(["majority", "staple"]))
def test_raters_who_draw_the_same_agree_perfectly_and_are_told(mask, consensus):
    masks = dict.fromkeys(NAMES, mask)
    cases = [compared(masks, mask, RaterRules(consensus=consensus), case_id=f"c{i}", patient=f"p{i}") for i in range(3)]
    study = study_raters(cases, RaterRules(consensus=consensus), rater_names=NAMES, model_name="net")
    (structure,) = study.structures
    if not mask.any():
        assert math.isnan(structure.between_people.value)
        assert structure.between_people.n_excluded == 3
        assert not any("equal" in notice for notice in study.notices)
        return
    assert structure.between_people.value == 1
    assert structure.people_against_left_out.value == 1
    assert structure.verdict.difference.value == 0
    assert structure.verdict.non_inferior
    assert all(skill.sensitivity == pytest.approx(1, abs=1e-4) for skill in structure.raters)
    assert sum("equal" in notice for notice in study.notices) == 10  # every pair of four raters and the model
    assert any("ann and bob" in notice for notice in study.notices)
    assert any("ann and net" in notice for notice in study.notices)


def test_structures_that_the_model_invents_count_against_it_and_those_nobody_has_do_not():
    nothing = np.zeros((4, 8, 8), np.bool_)
    masks = dict.fromkeys(NAMES, nothing)
    invented = nothing.copy()
    invented[1, 2:5, 2:5] = True
    found = compared(masks, invented)
    assert found.difference == -1  # people agree on nothing, the model does not
    assert math.isnan(compared(masks, nothing).difference)
    assert math.isnan(compared(masks).model_against_majority)
    cases = [compared(drawn(i), blob(i), case_id=f"c{i}", patient=f"p{i}") for i in range(3)]
    with_invention = study_raters([*cases, found], RaterRules(), rater_names=NAMES, model_name="net").structures[0]
    without = study_raters(cases, RaterRules(), rater_names=NAMES, model_name="net").structures[0]
    assert with_invention.between_people.value == without.between_people.value
    assert with_invention.raters[0].against_consensus.value == without.raters[0].against_consensus.value
    assert with_invention.verdict.difference.value < without.verdict.difference.value
    missed = compared(drawn(), np.zeros_like(blob(0)), RaterRules(metric="hd95"))
    assert missed.model_against_majority == pytest.approx(np.linalg.norm(np.array([6, 20, 24]) * SPACING))


@pytest.mark.parametrize(("metric", "margin"), [("dice", 0.05), ("nsd", 0.05), ("hd95", 1.0)])
def test_the_better_of_two_models_is_non_inferior_whatever_the_sign_of_the_metric(metric, margin):
    rules = RaterRules(metric=metric, margin=margin)
    good, bad = [], []
    for i in range(12):
        masks = drawn(i)
        consensus = np.sum(list(masks.values()), axis=0) > 2
        named = {"case_id": f"c{i}", "patient": f"p{i}"}
        good.append(compared(masks, consensus, rules, **named))
        bad.append(compared(masks, np.roll(consensus, 6, 2), rules, **named))
    studies = [study_raters(c, rules, rater_names=NAMES, model_name="net").structures[0] for c in (good, bad)]
    assert studies[0].verdict.non_inferior
    assert studies[0].verdict.difference.value > 0
    assert not studies[1].verdict.non_inferior
    assert studies[1].verdict.difference.value < -margin
    assert "no more than a person" in studies[0].sentences[-1]
    assert studies[1].sentences[-1].startswith("It is not shown")
    expected = np.mean([c.difference for c in bad]) * (1 if rules.higher_is_better else -1)
    assert studies[1].verdict.difference.value == pytest.approx(expected)


def test_raters_may_be_missing_and_cases_of_two_people_count_for_their_agreement_only():
    masks = [drawn(i) for i in range(3)]
    del masks[1]["bob"]
    for name in ("ann", "cy"):
        del masks[2][name]
    cases = [compared(m, blob(i), case_id=f"c{i}", patient=f"p{i}") for i, m in enumerate(masks)]
    study = study_raters(cases, RaterRules(), rater_names=NAMES, model_name="net")
    (structure,) = study.structures
    assert [(case, "2 people" in why) for case, why in study.left_out_cases] == [("c2", True)]
    assert structure.verdict.difference.n_used == 2
    assert [skill.n_cases for skill in structure.raters] == [2, 2, 2, 3]
    assert [skill.against_consensus.n_used for skill in structure.raters] == [2, 1, 2, 2]
    ann_cy = [plain_dice(m["ann"], m["cy"]) for m in masks[:2]]
    assert structure.pairwise[0, 2] == pytest.approx(np.mean(ann_cy))
    bob_dee = [plain_dice(masks[i]["bob"], masks[i]["dee"]) for i in (0, 2)]
    assert structure.pairwise[3, 1] == pytest.approx(np.mean(bob_dee))
    assert structure.between_people.n_used == 3
    alone = study_raters([compared({"ann": blob(1), "bob": blob(2)})], RaterRules(), rater_names=("ann", "bob", "cy"))
    assert math.isnan(alone.structures[0].pairwise[0, 2])
    assert alone.structures[0].people_against_left_out is None


def test_majorities_that_can_tie_are_told():
    def told(n, rules, person_of=None):
        case = compared(drawn(n=n), rules=rules, person_of=person_of)
        study = study_raters([case], rules, rater_names=NAMES[:n], person_of=person_of)
        return [notice[: notice.index(" comparisons")] for notice in study.notices if "even number" in notice]

    assert told(3, RaterRules()) == ["In 3 of 3"]  # two others
    assert told(4, RaterRules()) == []  # three others
    assert told(4, RaterRules(), {"ann": "A", "bob": "A"}) == ["In 2 of 4"]
    assert told(3, RaterRules(consensus="staple")) == []
    assert told(2, RaterRules()) == []  # no consensus at all


def test_without_a_model_only_people_are_compared():
    study = study_raters([compared(drawn())], RaterRules(), rater_names=NAMES)
    (structure,) = study.structures
    assert study.model_name is None
    assert (structure.verdict, structure.model_against_majority, structure.model_against_staple) == (None, None, None)
    assert structure.model_against_left_out is None
    assert len(structure.sentences) == 2
    assert "the model" not in " ".join(structure.sentences)


def test_intervals_are_drawn_by_patient():
    cases = [compared(drawn(i), blob(i), case_id=f"c{i}", patient="p") for i in range(4)]
    structure = study_raters(cases, RaterRules(), rater_names=NAMES, model_name="net").structures[0]
    assert structure.verdict.difference.n_patients == 1
    assert math.isnan(structure.between_people.interval.low)
    assert "too few patients" in structure.sentences[-1]


def test_masks_that_may_be_inverted_are_suspected_by_their_complement():
    masks = drawn(n=3)
    assert suspected_inversions(masks) == ()
    assert suspected_inversions(masks | {"bob": ~masks["bob"]}) == ("bob",)
    assert suspected_inversions({name: ~mask for name, mask in masks.items()}) == ("ann", "bob", "cy")
    whole = np.zeros((10, 10), np.bool_)
    whole[1:] = True
    almost = np.zeros((10, 10), np.bool_)
    almost[3:] = True
    assert suspected_inversions({"ann": whole, "bob": almost}) == ()  # large, but as the other says
    small = np.zeros((10, 10), np.bool_)
    small[4:] = True
    assert suspected_inversions({"ann": small, "bob": almost, "cy": small & whole}) == ()


def test_lengths_of_pictures_without_a_size_are_told_in_pixels():
    rules = RaterRules(metric="hd95", margin=2)
    study = study_raters([compared(drawn(), rules=rules)], rules, rater_names=NAMES, calibrated=False)
    assert study.structures[0].sentences[0].endswith("px.")
    study = study_raters([compared(drawn(), rules=rules)], rules, rater_names=NAMES)
    assert study.structures[0].sentences[0].endswith("mm.")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"metric": "volume_error"}, "has a sign"),
        ({"metric": "nonsense"}, "Unknown metric"),
        ({"margin": 0.0}, "above 0"),
        ({"consensus": "vote"}, "'majority' or 'staple'"),
    ],
)
def test_rules_that_mean_nothing_are_refused(words, text):
    with pytest.raises(UsageError, match=text):
        RaterRules(**words)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="2 to 16"):
        compared({"ann": blob(0)})
    with pytest.raises(InputError, match="one shape"):
        compared({"ann": blob(0), "bob": blob(0)[1:]})
    with pytest.raises(InputError, match="one shape"):
        compared(drawn(), blob(0)[1:])
    with pytest.raises(InputError, match="dee"):
        study_raters([compared(drawn())], RaterRules(), rater_names=NAMES[:3])
