"""Probabilities slab by slab are those of the whole image."""

import numpy as np
import pytest

from delineate.errors import ModelError
from delineate.preprocessing import prepare, restore_probabilities
from delineate.preprocessing.probability_slabs import planes_per_slab, probability_slabs
from preprocessing.preparation_cases import EXAMPLES

NAMES = ("isotropic", "anisotropic", "transposed", "slices", "anisotropic slices", "plane", "regions", "masked")


def answer(name):
    example = EXAMPLES[name]
    trace = prepare(example.image(), None, example.plan, example.configuration).trace
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((example.scheme.head_count, *trace.prepared_shape)).astype(np.float32) * 3
    return logits, trace, example.scheme


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("planes", [1, 4, 1000])
def test_slabs_are_the_whole(name, planes):
    logits, trace, scheme = answer(name)
    slabs = list(probability_slabs(logits, trace, scheme, planes=planes))
    whole = restore_probabilities(logits, trace, scheme)
    found = np.concatenate(slabs, axis=1)
    np.testing.assert_allclose(found[:, 0] if trace.is_plane else found, whole, atol=2e-6)
    assert all(slab.shape[1] <= planes and slab.dtype == np.float32 for slab in slabs)


def test_half_precision_and_wrong_shapes():
    logits, trace, scheme = answer("isotropic")
    half = np.concatenate(list(probability_slabs(logits.astype(np.float16), trace, scheme, planes=5)), axis=1)
    np.testing.assert_allclose(half, restore_probabilities(logits, trace, scheme), atol=5e-3)
    with pytest.raises(ModelError, match="expected"):
        next(probability_slabs(logits[1:], trace, scheme, planes=5))
    logits[:] = np.nan
    with pytest.raises(ModelError, match="not finite"):
        list(probability_slabs(logits, trace, scheme, planes=100))


def test_planes_fit_the_limit():
    _, trace, scheme = answer("isotropic")
    plane = 4 * scheme.head_count * trace.grid.shape[1] * trace.grid.shape[2]
    assert planes_per_slab(trace, scheme.head_count, 3 * plane) == 3
    assert planes_per_slab(trace, scheme.head_count, 1) == 1
    assert planes_per_slab(trace, scheme.head_count) == trace.grid.shape[0]
