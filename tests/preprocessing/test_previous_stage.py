"""Label maps of a previous stage on the next stage's prepared grid."""

from dataclasses import replace

import numpy as np
import pytest

from delineate.case import LabelMap
from delineate.errors import GeometryError, ModelError
from delineate.geometry.grid import Grid
from delineate.preprocessing import prepare, prepare_with_previous, restore_to_next_stage, with_one_hot
from preprocessing.preparation_cases import EXAMPLES

NAMES = ("isotropic", "anisotropic", "transposed", "slices", "plane", "regions")


@pytest.mark.parametrize("name", NAMES)
def test_the_stage_is_prepared_like_labels(name):
    example = EXAMPLES[name]
    image, labels = example.image(), example.labels()
    both = prepare_with_previous(image, labels, example.plan, example.configuration, example.scheme)
    known = prepare(image, labels, example.plan, example.configuration)
    channels = len(known.array)
    np.testing.assert_array_equal(both.array[:channels], known.array)
    for channel, value in enumerate(example.scheme.values):
        np.testing.assert_array_equal(both.array[channels + channel], known.labels == value)
    assert both.array.dtype == np.float32
    assert both.labels is None
    assert both.trace == known.trace


def test_a_stage_on_another_grid_is_refused():
    example = EXAMPLES["isotropic"]
    other = LabelMap(array=np.zeros((3, 4, 5), np.uint8), grid=Grid.regular((3, 4, 5)))
    with pytest.raises(GeometryError, match="grid"):
        prepare_with_previous(example.image(), other, example.plan, example.configuration, example.scheme)


def test_one_hot_leaves_out_background_and_outside():
    labels = np.array([[[-1, 0, 1, 2]]], np.int16)
    found = with_one_hot(np.full((1, 1, 1, 4), 7, np.float32), labels, (1, 2))
    np.testing.assert_array_equal(found[:, 0, 0], [[7, 7, 7, 7], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_sharp_logits_keep_their_labels_on_a_finer_grid():
    example = EXAMPLES["isotropic"]
    coarse = replace(example.configuration, spacing_mm=(1.6, 1.8, 2.4))
    stored = prepare(example.image(), example.labels(), example.plan, coarse)
    logits = np.stack([np.where(np.maximum(stored.labels, 0) == head, 9, -9) for head in range(4)]).astype(np.float32)
    shape = tuple(2 * size for size in stored.trace.prepared_shape)
    fine = restore_to_next_stage(logits, stored.trace, example.scheme, shape)
    inner = np.maximum(stored.labels, 0)
    assert fine.shape == shape
    # the middle of a doubled voxel block belongs to its coarse voxel
    assert np.mean(fine[::2, ::2, ::2] == inner) > 0.85
    same = restore_to_next_stage(logits, stored.trace, example.scheme, stored.trace.prepared_shape)
    np.testing.assert_array_equal(same, inner)
    with pytest.raises(ModelError, match="expected"):
        restore_to_next_stage(logits[:2], stored.trace, example.scheme, shape)
