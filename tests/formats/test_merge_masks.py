"""Binary masks become one label map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delineate.errors import LabelError
from delineate.formats.datasets.merge_masks import binary_mask, count_masks, merge_masks, plan_merging

CORD = np.array([[1, 1, 1, 1, 0]], bool)
GREY = np.array([[0, 1, 1, 0, 0]], bool)


def plan(masks, order=()):
    return plan_merging({"a": count_masks(masks)}, list(masks), order)


def test_grey_matter_inside_of_the_cord_makes_the_cord_a_region():
    for masks in ({"cord": CORD, "grey": GREY}, {"grey": GREY, "cord": CORD}):
        merging = plan(masks)
        assert {s.name: s.values for s in merging.scheme.structures} == {"cord": (1, 2), "grey": (2,)}
        assert merging.scheme.region_order == (1, 2)
        assert merge_masks(masks, merging).tolist() == [[1, 2, 2, 1, 0]]


def test_structures_beside_each_other_are_plain_labels():
    masks = {"left": np.array([1, 0, 0], bool), "right": np.array([0, 0, 1], bool)}
    merging = plan(masks)
    assert {s.name: s.values for s in merging.scheme.structures} == {"left": (1,), "right": (2,)}
    assert not merging.scheme.has_regions
    assert merge_masks(masks, merging).tolist() == [1, 0, 2]


@given(st.lists(st.integers(-1, 3), min_size=5, max_size=5), st.integers(0, 2**32 - 1))
def test_every_forest_of_nested_masks_comes_back(parents, seed):
    # structure i lies in parents[i] (an earlier one) or in none; each holds at least one voxel of its own
    parents = [min(parent, i - 1) for i, parent in enumerate(parents)]
    own = np.random.default_rng(seed).integers(-1, 5, size=40)
    own[:10] = [0, 1, 2, 3, 4] * 2
    masks = {f"s{i}": own == i for i in range(5)}
    for i in reversed(range(5)):
        if parents[i] >= 0:
            masks[f"s{parents[i]}"] |= masks[f"s{i}"]
    merging = plan(masks)
    labels = merge_masks(masks, merging)
    for structure in merging.scheme.structures:
        assert np.array_equal(np.isin(labels, structure.values), masks[structure.name])


def test_overlap_that_is_no_nesting_is_refused_with_the_numbers():
    masks = {"a": np.array([1, 1, 1, 0, 0], bool), "b": np.array([0, 0, 1, 1, 0], bool)}
    with pytest.raises(LabelError, match=r"a and b overlap in 1 of 1 cases.*most in a: 1 voxels of 3 of a and 2 of b"):
        plan(masks)
    merging = plan(masks, order=("b", "a"))
    assert merge_masks(masks, merging).tolist() == [2, 2, 2, 1, 0]
    assert [s.values for s in merging.scheme.structures] == [(1,), (2,)]


def test_nesting_must_hold_in_every_case():
    inside = count_masks({"cord": CORD, "grey": GREY})
    across = count_masks({"cord": CORD, "grey": np.array([[0, 0, 0, 1, 1]], bool)})
    with pytest.raises(LabelError, match="overlap in 2 of 2 cases"):
        plan_merging({"a": inside, "b": across}, ["cord", "grey"])


def test_a_slip_of_the_pencil_is_told_and_belongs_to_both():
    cord, grey = np.zeros((2, 400), bool), np.zeros((2, 400), bool)
    cord[0], grey[0, 100:300], grey[1, 7] = True, True, True
    merging = plan({"cord": cord, "grey": grey})
    assert merging.strays == ("a: 1 of 201 voxels of grey lie outside of cord; they now belong to both",)
    labels = merge_masks({"cord": cord, "grey": grey}, merging)
    assert labels[1, 7] == 2
    grey[1, 8:11] = True  # 4 of 204 are more than 1 %
    with pytest.raises(LabelError, match="neither lies inside"):
        plan({"cord": cord, "grey": grey})


def test_the_same_mask_twice_is_no_nesting():
    with pytest.raises(LabelError, match="are the same voxels"):
        plan({"cord": CORD, "again": CORD})


def test_an_empty_mask_does_not_decide():
    counts = {
        "a": count_masks({"cord": CORD, "grey": GREY}),
        "b": count_masks({"cord": CORD, "grey": np.zeros_like(GREY)}),
    }
    assert plan_merging(counts, ["cord", "grey"]).scheme.has_regions


def test_an_order_names_every_structure():
    with pytest.raises(LabelError, match="every structure once: cord, grey; got cord"):
        plan({"cord": CORD, "grey": GREY}, order=("cord",))


@pytest.mark.parametrize("values", [[0, 1], [0.0, 1.0], [0, 255], [0, 0], [1, 1]])
def test_binary_files(values):
    assert binary_mask(np.array(values), "m").tolist() == [v > 0 for v in values]


@pytest.mark.parametrize("values", [[0, 1, 2], [0, 0.5], [0, 130, 255], [0, -1], [0, 2]])
def test_files_that_are_not_binary(values):
    with pytest.raises(LabelError, match=r"m\.nii\.gz: expected a binary mask"):
        binary_mask(np.array(values), "m.nii.gz")


def test_one_value_of_a_label_map():
    assert binary_mask(np.array([0, 1, 3]), "m", 3).tolist() == [False, False, True]
