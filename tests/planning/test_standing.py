"""What a training knew of a case."""

from delineate.planning.standing import standing_of

SITES = {"a1": "A", "a2": "A", "a3": "A", "b1": "B"}
PATIENTS = {"a1": "p", "a2": "p", "a3": "q", "b1": "r"}


def test_what_a_training_knew_of_a_case():
    assert standing_of("a1", ["b1"], SITES, PATIENTS) == "unseen"
    assert standing_of("a1", ["a3", "b1"], SITES, PATIENTS) == "known"
    assert standing_of("a1", ["a2", "a3"], SITES, PATIENTS) == "own patient"
    assert standing_of("a1", ["a1"], SITES, PATIENTS) == "own patient"


def test_a_case_without_a_group_is_unclear_unless_its_patient_was_trained_on():
    assert standing_of("x", ["a1"], SITES, PATIENTS) == "unclear"
    assert standing_of("x", ["x"], SITES, PATIENTS) == "own patient"


def test_training_cases_without_a_group_make_no_site_known():
    assert standing_of("b1", ["x", "a1"], SITES, PATIENTS) == "unseen"
