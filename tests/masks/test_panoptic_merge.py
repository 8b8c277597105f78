"""Regions and objects in one result, never in conflict; panoptic quality of stuff and things."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delineate.case.panoptic import Panoptic
from delineate.errors import GeometryError, LabelError, UsageError
from delineate.masks.panoptic import merge_regions_and_objects
from delineate.metrics import panoptic_quality_of_classes
from instance_pictures import discs


def scene(seed: int):
    generator = np.random.default_rng(seed)
    regions = np.repeat(np.repeat(generator.integers(0, 3, (6, 6)), 10, 0), 10, 1).astype(np.int32)
    instances = discs(seed, 60) * generator.integers(1, 4)
    class_of = {int(n): int(10 + n % 2) for n in np.unique(instances) if n}
    return regions, instances, class_of


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 500), most=st.floats(0, 1))
def test_no_pixel_is_in_conflict_and_no_object_is_cut(seed: int, most: float) -> None:
    regions, instances, class_of = scene(seed)
    merged = merge_regions_and_objects(
        regions, instances, class_of, forbidden={10: frozenset({0, 2})}, most_outside=most
    )
    result = Panoptic(classes=merged.classes, instances=merged.instances, stuff=(1, 2), things=(10, 11))
    for number in np.unique(instances[instances > 0]):
        own = instances == number
        outside = np.isin(regions[own], [0, 2]).mean() if class_of[int(number)] == 10 else 0.0
        left = merged.instances[own]
        assert len(np.unique(left)) == 1
        assert (left[0] > 0) == (outside <= most)
    nothing = merged.instances == 0
    assert np.array_equal(merged.classes[nothing], regions[nothing])
    assert merged.instances.max() == len(merged.sources)
    assert result.of_class(1).max(initial=0) <= 1


def test_quality_of_stuff_and_things() -> None:
    classes = np.zeros((20, 20), dtype=np.int32)
    classes[:, :10] = 1
    classes[2:6, 2:6], classes[10:14, 12:16] = 5, 5
    instances = np.zeros_like(classes)
    instances[2:6, 2:6], instances[10:14, 12:16] = 1, 2
    reference = Panoptic(classes=classes, instances=instances, stuff=(1,), things=(5,))
    found = classes.copy()
    found[:, 8:10] = 0
    found[10:14, 12:16] = 0
    prediction = Panoptic(
        classes=found, instances=np.where(found == 5, instances, 0).astype(np.int32), stuff=(1,), things=(5,)
    )
    quality = panoptic_quality_of_classes(prediction.of_class, reference.of_class, (1, 5))
    assert quality[1].quality == pytest.approx((160 - 16) / (200 - 16))
    assert quality[5].quality == pytest.approx(1 / 1.5)
    same = panoptic_quality_of_classes(reference.of_class, reference.of_class, (1, 5))
    assert [same[kind].quality for kind in (1, 5)] == [1, 1]


def test_contradictions_are_refused() -> None:
    classes, instances = np.array([[1, 5, 5]], dtype=np.int32), np.array([[0, 1, 2]], dtype=np.int32)
    Panoptic(classes=classes, instances=instances, stuff=(1,), things=(5,))
    with pytest.raises(LabelError, match="undeclared"):
        Panoptic(classes=classes, instances=instances, stuff=(), things=(5,))
    with pytest.raises(LabelError, match="in both"):
        Panoptic(classes=classes, instances=instances, stuff=(1, 5), things=(5,))
    with pytest.raises(LabelError, match="do not keep"):
        Panoptic(classes=classes, instances=np.zeros_like(instances), stuff=(1,), things=(5,))
    with pytest.raises(LabelError, match="several"):
        Panoptic(classes=classes + 1, instances=np.array([[3, 1, 3]], dtype=np.int32), stuff=(), things=(2, 6))
    with pytest.raises(LabelError, match="one shape"):
        Panoptic(classes=classes, instances=instances[:, :2], stuff=(1,), things=(5,))
    with pytest.raises(UsageError, match="without a class"):
        merge_regions_and_objects(classes, instances, {1: 7})
    with pytest.raises(UsageError, match="shared"):
        merge_regions_and_objects(classes, instances, {1: 5, 2: 5})
    with pytest.raises(GeometryError, match="one shape"):
        merge_regions_and_objects(classes, instances[:, :2], {1: 7, 2: 7})
