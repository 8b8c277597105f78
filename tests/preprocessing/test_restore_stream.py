"""Restoring from slabs is restoring from the whole volume, however the volume was cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from preparation_cases import REGIONS, THREE
from test_restore import GRIDS, smooth, trace_like, trace_of

from delineate.errors import ModelError
from delineate.preprocessing import restore, restore_labels, restore_stream


def cut(logits, cuts):
    return np.split(logits, sorted({c % (logits.shape[1] + 1) for c in cuts} - {0, logits.shape[1]}), axis=1)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(GRIDS)),
    cuts=st.lists(st.integers(0, 40), max_size=12),
    scheme=st.sampled_from([THREE, REGIONS]),
    mode=st.sampled_from(["exact", "nnunet"]),
    dtype=st.sampled_from([np.float16, np.float32]),
)
def test_slabs_give_the_labels_of_the_whole(name, cuts, scheme, mode, dtype):
    trace = trace_of(name)
    logits = smooth(trace.prepared_shape, scheme.head_count).astype(dtype)
    found = restore_stream(iter(cut(logits, cuts)), trace, scheme, mode=mode)
    expected = restore_labels(logits, trace, scheme, mode=mode)
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.grid == expected.grid


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("budget", [1, 20_000])
def test_thin_rows_of_tiles_give_the_same_labels(name, budget, monkeypatch):
    trace = trace_of(name)
    logits = smooth(trace.prepared_shape, 4).astype(np.float32)
    expected = restore_labels(logits, trace, THREE).array
    monkeypatch.setattr(restore, "SOURCE_BYTES", budget)
    np.testing.assert_array_equal(restore_labels(logits, trace, THREE).array, expected)


def test_slabs_are_taken_when_they_are_needed_and_let_go():
    trace = trace_like(trace_of("finer"), (60, 6, 5), (200, 6, 5))
    logits = smooth(trace.prepared_shape, 4).astype(np.float32)
    alive = []

    class Slab(np.ndarray):
        def __array_finalize__(self, parent):
            if parent is not None and type(parent) is np.ndarray:
                alive.append(id(self))

        def __del__(self):
            if id(self) in alive:
                alive.remove(id(self))

    most = []

    def slabs():
        for plane in range(logits.shape[1]):
            yield logits[:, plane : plane + 1].copy().view(Slab)
            most.append(len(alive))

    restore_stream(slabs(), trace, THREE)
    assert max(most) <= 32 * 60 / 200 + 6


def test_slabs_that_do_not_make_up_the_volume_are_refused():
    trace = trace_of("finer")
    good = smooth(trace.prepared_shape, 4).astype(np.float16)
    wrong = {
        "few": [good[:, :9]],
        "none": [],
        "many": [good, good[:, :1]],
        "heads": [good[:3]],
        "flat": [good[0]],
        "double": [good.astype(np.float64)],
    }
    for slabs in wrong.values():
        with pytest.raises(ModelError, match="were expected for this case"):
            restore_stream(iter(slabs), trace, THREE)


def test_a_slab_that_is_not_finite_is_told():
    trace = trace_of("same")
    broken = smooth(trace.prepared_shape, 4).astype(np.float32)
    broken[1, 19, 2, 3] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        restore_stream(iter(cut(broken, [5, 11])), trace, THREE)
