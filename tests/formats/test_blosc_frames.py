import blosc2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.formats.blosc_frames import compressed_frame
from delineate.formats.prepared_store import block_shapes

SIZES = st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.tuples(*[st.integers(1, 9)] * n)] * 3))


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, dtype=st.sampled_from([np.float32, np.int16, np.uint8]))
def test_any_layout_comes_back(sizes, dtype):
    shape, chunks, blocks = sizes
    chunks = tuple(map(min, chunks, shape))
    blocks = tuple(map(min, blocks, chunks))
    array = np.random.default_rng(0).integers(-3, 100, shape).astype(dtype)
    frame = compressed_frame(array, chunks, blocks, byte_filter=blosc2.Filter.SHUFFLE)
    np.testing.assert_array_equal(blosc2.ndarray_from_cframe(frame)[...], array)


@pytest.mark.parametrize("shape", [(2, 70, 90, 50), (1, 1, 300, 200)])
def test_the_frame_is_the_one_that_blosc2_makes(shape):
    array = np.random.default_rng(0).integers(0, 9, shape).astype(np.float32)
    blocks, chunks = block_shapes(shape, (40, 56, 40), 4)
    ours = blosc2.ndarray_from_cframe(compressed_frame(array, chunks, blocks, byte_filter=blosc2.Filter.NOFILTER))
    theirs = blosc2.asarray(array, chunks=chunks, blocks=blocks)
    assert (ours.chunks, ours.blocks, ours.dtype) == (theirs.chunks, theirs.blocks, theirs.dtype)
    np.testing.assert_array_equal(ours[...], theirs[...])
    np.testing.assert_array_equal(ours[:, :, 33:71, 5], array[:, :, 33:71, 5])
