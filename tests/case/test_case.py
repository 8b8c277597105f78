import dataclasses

import numpy as np
import pytest
from hypothesis import given

from delineate.case import Case, Image, LabelMap, LabelScheme, Provenance, Result, Structure
from delineate.errors import GeometryError, LabelError
from delineate.geometry.grid import Grid
from strategies import images, label_maps


@given(images())
def test_an_image_counts_its_channels(image):
    assert image.channels == image.array.shape[0]


@given(label_maps())
def test_labels_must_be_whole_numbers_on_their_grid(labels):
    with pytest.raises(LabelError, match="integer"):
        LabelMap(array=labels.array.astype(np.float32), grid=labels.grid)
    with pytest.raises(GeometryError, match="shape"):
        LabelMap(array=labels.array[None], grid=labels.grid)


def test_an_image_must_have_the_shape_of_its_grid():
    with pytest.raises(GeometryError, match="channel"):
        Image(array=np.zeros((1, 2, 2, 3)), grid=Grid.regular((2, 2, 2)))
    with pytest.raises(GeometryError, match="channel"):
        Image(array=np.zeros((0, 2, 2, 2)), grid=Grid.regular((2, 2, 2)))


def test_values_cannot_be_changed():
    scheme = LabelScheme.simple("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.ignore = 5


def test_a_simple_scheme_counts_from_one():
    scheme = LabelScheme.simple("liver", "spleen")
    assert scheme.values == (1, 2)
    assert scheme.head_count == 3
    assert not scheme.has_regions


def test_regions_share_values_and_have_one_head_each():
    structures = (Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,)))
    scheme = LabelScheme(structures=structures, ignore=3, region_order=(1, 2))
    assert scheme.has_regions
    assert scheme.values == (1, 2)
    assert scheme.head_count == 2


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"structures": ()}, "at least one"),
        ({"structures": (Structure(name="a", values=(1,)), Structure(name="a", values=(2,)))}, "unique"),
        ({"structures": (Structure(name="a", values=(0,)),)}, "positive"),
        ({"structures": (Structure(name="a", values=(2,)),)}, "consecutive"),
        ({"structures": (Structure(name="a", values=(1,)),), "ignore": 5}, "ignore"),
        ({"structures": (Structure(name="a", values=(1, 2)),)}, "regions_class_order"),
    ],
)
def test_impossible_schemes_are_refused(fields, text):
    with pytest.raises(LabelError, match=text):
        LabelScheme(**fields)


def test_a_case_and_a_result_hold_what_they_are_given():
    grid = Grid.regular((2, 2, 2))
    labels = LabelMap(array=np.zeros(grid.shape, np.uint8), grid=grid)
    case = Case(case_id="a", patient_id="p", image=Image(array=np.zeros((1, 2, 2, 2)), grid=grid), labels=labels)
    result = Result(case_id=case.case_id, labels=labels, provenance=Provenance(software="x", model="m"))
    assert result.labels is case.labels
    assert result.provenance.settings == {}
