"""The rule that chooses post-processing, on label maps whose best answer is known."""

import numpy as np
import pytest

from delineate.masks import postprocess
from delineate.metrics import choose_postprocessing
from delineate.metrics.scores import evaluate_case

LABELS = (("a", (1,)), ("b", (2,)))
OVERLAPPING = (("whole", (1, 2)), ("core", (2,)))


def rescore_over(pairs, structures, calls=None):
    def rescore(candidates):
        if calls is not None:
            calls.append(list(candidates))
        return [
            [
                evaluate_case(
                    postprocess(predicted, steps),
                    reference,
                    structures,
                    voxel_volume_mm3=1.0,
                    case_id=str(number),
                    patient_id=str(number),
                )
                for number, (predicted, reference) in enumerate(pairs)
            ]
            for steps in candidates
        ]

    return rescore


def row(text):
    return np.array([[int(c) for c in text]], np.uint8)


def chosen(predicted, reference, structures=LABELS):
    choice = choose_postprocessing(rescore_over([(row(predicted), row(reference))], structures), structures)
    return [step.values for step in choice.steps]


def test_nothing_is_chosen_where_nothing_helps():
    assert chosen("0111002220", "0111002220") == []


def test_a_false_island_of_one_label_is_removed_by_its_own_step():
    assert chosen("0111001022000", "0111000022000") == [(1,)]


def test_all_foreground_together_needs_that_no_label_gets_worse():
    # the small island of 2 is right: keeping the largest of everything would lose it
    assert chosen("111220001002", "111220000002") == [(1,)]
    assert chosen("111220001000", "111220000000")[0] == (1, 2)


def test_a_true_island_is_kept():
    assert chosen("01110010", "01110010", LABELS[:1]) == []


def test_one_label_has_one_step_only():
    calls = []
    pairs = [(row("0111001000"), row("0111000000"))]
    choice = choose_postprocessing(rescore_over(pairs, LABELS[:1], calls), LABELS[:1])
    assert [step.values for step in choice.steps] == [(1,)]
    assert len(calls) == 1


def test_labels_are_tried_in_one_pass_and_regions_in_turn():
    pairs = [(row("2200111001020"), row("2200111000000"))]
    calls = []
    labels = choose_postprocessing(rescore_over(pairs, LABELS, calls), LABELS)
    assert [len(call) for call in calls] == [2, 2]
    calls = []
    regions = choose_postprocessing(rescore_over(pairs, OVERLAPPING, calls), OVERLAPPING)
    assert [len(call) for call in calls] == [2, 1, 1]
    assert [step.values for step in labels.steps] == [(1,), (2,)]
    assert [step.values for step in regions.steps] == [(2,)]


@pytest.mark.parametrize("structures", [LABELS, OVERLAPPING])
def test_the_scores_after_are_those_of_the_chosen_steps(structures):
    rng = np.random.default_rng(1)
    pairs = []
    for _ in range(3):
        reference = np.zeros((9, 9), np.uint8)
        reference[1:5, 1:5], reference[5:8, 4:8] = 1, 2
        predicted = np.where(rng.random(reference.shape) < 0.12, rng.integers(0, 3, reference.shape), reference)
        pairs.append((predicted.astype(np.uint8), reference))
    rescore = rescore_over(pairs, structures)
    choice = choose_postprocessing(rescore, structures)
    assert choice.steps
    assert list(choice.after) == rescore([choice.steps])[0]
    assert list(choice.before) == rescore([()])[0]
    assert len(choice.reasons) == 3
