"""Means of probabilities and the labels that they say."""

import numpy as np
import pytest

from delineate.case import LabelScheme, Structure
from delineate.case.prepared import Trace
from delineate.errors import ModelError
from delineate.geometry.grid import Grid
from delineate.inference import probability_ensemble
from delineate.inference.probability_ensemble import decide_by_heads, ensemble_labels, mean_probabilities
from delineate.preprocessing import restore_probabilities

LABELS = LabelScheme.simple("a", "b")
REGIONS = LabelScheme(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))), region_order=(1, 2)
)


def trace_of(shape, prepared):
    return Trace(
        grid=Grid.regular(shape),
        transpose=(0, 1, 2),
        spacing_mm=(1.0, 1.0, 1.0),
        prepared_spacing_mm=(1.2, 0.9, 1.0),
        shape=shape,
        box=tuple((0, size) for size in shape),
        prepared_shape=prepared,
    )


def test_the_mean_is_that_of_float32_sums():
    rng = np.random.default_rng(0)
    members = [rng.random((3, 4, 5, 6)).astype(kind) for kind in (np.float32, np.float16, np.float16)]
    expected = np.mean([member.astype(np.float64) for member in members], axis=0)
    found = mean_probabilities(members)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ModelError, match="shape"):
        mean_probabilities([members[0], members[1][1:]])


def test_the_largest_wins_and_the_first_of_equals():
    heads = np.array([[[[0.5, 0.2, 0.4, 0.0]]], [[[0.5, 0.4, 0.2, 0.0]]], [[[0.0, 0.4, 0.4, 0.0]]]], np.float32)
    np.testing.assert_array_equal(decide_by_heads(heads, LABELS), [[[0, 1, 0, 0]]])


def test_regions_above_one_half_are_written_in_order():
    heads = np.array([[[[0.5, 0.6, 0.6, 0.1]]], [[[0.5, 0.4, 0.7, 0.9]]]], np.float32)
    np.testing.assert_array_equal(decide_by_heads(heads, REGIONS), [[[0, 1, 2, 2]]])


@pytest.mark.parametrize("count", [2, 4])
def test_another_number_of_heads_is_refused(count):
    with pytest.raises(ModelError, match="heads"):
        decide_by_heads(np.zeros((count, 1, 2, 2), np.float32), LABELS)


@pytest.mark.parametrize("scheme", [LABELS, REGIONS])
def test_models_on_different_grids_say_what_their_mean_says(scheme, monkeypatch):
    monkeypatch.setattr(probability_ensemble, "planes_per_slab", lambda trace, heads: 3)
    rng = np.random.default_rng(2)
    traces = [trace_of((10, 12, 11), (8, 13, 11)), trace_of((10, 12, 11), (5, 6, 5))]
    answers = [
        (rng.standard_normal((scheme.head_count, *trace.prepared_shape)).astype(np.float32), trace) for trace in traces
    ]
    mean = np.mean([restore_probabilities(logits, trace, scheme) for logits, trace in answers], axis=0)
    expected = mean.argmax(0) if not scheme.has_regions else np.where(mean[1] > 0.5, 2, mean[0] > 0.5)
    found = ensemble_labels(answers, scheme)
    assert found.array.dtype == np.uint8
    assert np.mean(found.array == expected) > 0.999


def test_images_of_different_size_are_refused():
    logits = np.zeros((3, 4, 4, 4), np.float32)
    answers = [(logits, trace_of((4, 4, 4), (4, 4, 4))), (logits, trace_of((5, 4, 4), (4, 4, 4)))]
    with pytest.raises(ModelError, match="same image"):
        ensemble_labels(answers, LABELS)
