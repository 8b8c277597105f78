"""Components against a flood fill that needs no library."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.masks import label_components, largest_component, without_small_components

MASKS = st.integers(2, 3).flatmap(lambda n: hnp.arrays(bool, hnp.array_shapes(min_dims=n, max_dims=n, max_side=5)))


def flood(mask, *, by_faces):
    """Return the components as sets of indices, in the order of their first voxel."""
    left, found = {tuple(map(int, i)) for i in np.argwhere(mask)}, []
    for seed in sorted(left):
        if seed not in left:
            continue
        left.discard(seed)
        component, edge = {seed}, [seed]
        while edge:
            here = edge.pop()
            for other in list(left):
                steps = [abs(a - b) for a, b in zip(here, other, strict=True)]
                if max(steps) <= 1 and (not by_faces or sum(steps) == 1):
                    left.discard(other)
                    component.add(other)
                    edge.append(other)
        found.append(component)
    return found


@given(mask=MASKS, by_faces=st.booleans())
def test_components_are_those_of_a_flood_fill(mask, by_faces):
    numbered, sizes = label_components(mask, by_faces=by_faces)
    expected = flood(mask, by_faces=by_faces)
    assert [set(zip(*np.nonzero(numbered == i + 1), strict=True)) for i in range(len(sizes))] == expected
    assert sizes.tolist() == [len(component) for component in expected]


@given(mask=MASKS, by_faces=st.booleans())
def test_the_largest_stays_and_ties_all_stay(mask, by_faces):
    components = flood(mask, by_faces=by_faces)
    most = max(map(len, components), default=0)
    expected = set().union(*(c for c in components if len(c) == most))
    assert set(zip(*np.nonzero(largest_component(mask, by_faces=by_faces)), strict=True)) == expected


@pytest.mark.parametrize(("least", "left"), [(0, 4), (1, 4), (2, 3), (3, 3), (4, 0)])
def test_small_components_go(least, left):
    mask = np.array([[1, 0, 1, 1, 1]], bool)
    assert int(without_small_components(mask, least).sum()) == left
