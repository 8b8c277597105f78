import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delineate.planning import sampling
from delineate.planning.sampling import SAMPLING_SEED, DrawStream, percentiles_of_counts


def _numpys(populations, samples):
    generator = np.random.RandomState(SAMPLING_SEED)
    return [generator.choice(np.arange(n), samples, replace=True) if n else np.arange(0) for n in populations]


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=4), st.integers(1, 400))
def test_draws_are_numpys(populations, samples):
    found = DrawStream(samples).indices(populations)
    for ours, numpys in zip(found, _numpys(populations, samples), strict=True):
        assert np.array_equal(ours, numpys)


def test_a_stream_serves_many_cases():
    stream = DrawStream(1000)
    for population in (5, 4096, 4097, 2, 1, 100_000, 65_536):
        assert np.array_equal(stream.indices([population, 7])[1], _numpys([population, 7], 1000)[1])


def test_large_draws_go_through_numpy(monkeypatch):
    monkeypatch.setattr(sampling, "LARGEST_STREAM", 10)
    for ours, numpys in zip(DrawStream(50).indices([9, 0, 5]), _numpys([9, 0, 5], 50), strict=True):
        assert np.array_equal(ours, numpys)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
def test_percentiles_of_counts_are_numpys(dtype, data):
    finite = st.floats(-1000, 1000, width=32)
    values = data.draw(hnp.arrays(dtype, st.integers(1, 30), elements=finite))
    counts = data.draw(hnp.arrays(np.int64, len(values), elements=st.integers(0, 9)))
    counts[0] += 1
    expected = np.percentile(np.repeat(values, counts), np.array([0.5, 50.0, 99.5]))
    assert percentiles_of_counts(values, counts, (0.5, 50.0, 99.5)) == tuple(expected.tolist())
