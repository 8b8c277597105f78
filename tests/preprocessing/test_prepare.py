import dataclasses

import numpy as np
import pytest
from preparation_cases import EXAMPLES, THREE, Example, ask_nnunet
from scipy import ndimage

from delineate.case import Image, LabelMap
from delineate.case.prepared import Trace
from delineate.errors import GeometryError, InputError, PlanError
from delineate.formats.nnunet import dataset_json, plan_to_json
from delineate.geometry.grid import Grid
from delineate.preprocessing import preparation_key, prepare, restore_labels, restore_probabilities
from delineate.preprocessing.steps import lift, volume_spacing


def prepared_of(example, **changes):
    return prepare(example.image(), example.labels(), example.plan, example.configuration, **changes)


def smooth_logits(prepared, heads):
    rng = np.random.default_rng(8)
    shape = prepared.trace.prepared_shape
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) * 20 for _ in range(heads)]
    return np.stack(fields).astype(np.float16)


def question(example):
    channels = [f"channel{number}" for number in range(len(example.normalization))]
    declared = dataset_json(channel_names=channels, scheme=example.scheme, training_cases=10, file_ending=".nii.gz")
    return {
        "plans": plan_to_json(example.plan),
        "dataset": declared,
        "configuration": example.configuration.name,
        "spacing": list(volume_spacing(example.image().grid)),
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Ours and nnU-Net's arrays per example."""
    folder = tmp_path_factory.mktemp("nnunet")
    ours, questions = {}, {}
    for name, example in EXAMPLES.items():
        image, labels = example.image(), example.labels()
        prepared = prepared_of(example)
        logits = smooth_logits(prepared, example.scheme.head_count)
        given = {
            "image": lift(image.array, image.grid),
            "labels": lift(labels.array, labels.grid)[None].astype(np.int16),
        }
        np.savez(folder / f"{name}.npz", logits=logits, **given)
        ours[name], questions[name] = (prepared, logits), question(example)
    ask_nnunet(questions, folder)
    return {name: (*ours[name], np.load(folder / f"{name}_answer.npz")) for name in EXAMPLES}


@pytest.mark.oracle
@pytest.mark.parametrize("name", EXAMPLES)
def test_preparation_equals_nnunet(answers, name):
    prepared, _, theirs = answers[name]
    assert prepared.array.shape == theirs["data"].shape
    np.testing.assert_allclose(prepared.array, theirs["data"], atol=1e-4)
    np.testing.assert_array_equal(prepared.labels[None], theirs["labels"])
    np.testing.assert_array_equal(prepared.trace.box, theirs["box"])


@pytest.mark.oracle
@pytest.mark.parametrize("name", EXAMPLES)
def test_sampled_voxels_equal_nnunet(answers, name):
    prepared, _, theirs = answers[name]
    assert len([key for key in theirs if key.startswith("locations")]) == len(prepared.locations)
    for number, voxels in enumerate(prepared.locations.values()):
        np.testing.assert_array_equal(voxels, theirs[f"locations{number}"][:, 1:])


@pytest.mark.oracle
@pytest.mark.parametrize("name", EXAMPLES)
def test_restoring_equals_nnunet(answers, name):
    prepared, logits, theirs = answers[name]
    scheme = EXAMPLES[name].scheme
    for mode in ("nnunet", "exact"):
        found = restore_labels(logits, prepared.trace, scheme, mode=mode)
        expected = theirs["restored_directly"]
        differing = (lift(found.array, found.grid) != expected).mean()
        assert differing <= (1e-4 if mode == "nnunet" else 2e-3)
    probabilities = restore_probabilities(logits, prepared.trace, scheme)
    # nnU-Net rounds the resampled logits to float16, of steps up to 2**-6 here
    np.testing.assert_allclose(lift(probabilities, found.grid), theirs["probabilities"], atol=1e-2)


def test_inputs_are_not_changed():
    for example in EXAMPLES.values():
        image, labels = example.image(), example.labels()
        before = image.array.copy(), labels.array.copy()
        prepare(image, labels, example.plan, example.configuration)
        np.testing.assert_array_equal(image.array, before[0])
        np.testing.assert_array_equal(labels.array, before[1])


def test_a_case_without_labels_gets_the_same_array():
    example = EXAMPLES["masked"]
    alone = prepare(example.image(), None, example.plan, example.configuration)
    assert alone.labels is None
    assert not alone.locations
    assert alone.trace == prepared_of(example).trace


def test_locations_hold_what_their_labels_say():
    prepared = prepared_of(EXAMPLES["ignore"])
    assert set(prepared.locations) == {1, 2, -1}
    for key, voxels in prepared.locations.items():
        found = np.unique(prepared.labels[tuple(voxels.T)])
        assert set(found) <= set(prepared.location_labels[key])
        assert len(np.unique(voxels, axis=0)) == len(voxels)
    assert 3 not in prepared.labels[tuple(prepared.locations[-1].T)]


def test_another_seed_draws_other_voxels():
    example = Example((40, 40, 40), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))
    first, second = prepared_of(example), prepared_of(example, seed=5)
    assert len(first.locations[1]) == len(second.locations[1])
    assert not np.array_equal(first.locations[1], second.locations[1])


def test_a_class_that_is_absent_has_no_voxels():
    example = EXAMPLES["isotropic"]
    labels = LabelMap(array=np.zeros(example.shape, np.uint8), grid=Grid.regular(example.shape), scheme=THREE)
    prepared = prepare(example.image(), labels, example.plan, example.configuration)
    assert {key: voxels.shape for key, voxels in prepared.locations.items()} == dict.fromkeys((1, 2, 3), (0, 3))


def test_one_voxel_of_ct_is_prepared():
    example = Example((1, 1, 1), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), ("ct",))
    image = Image(array=np.full((1, 1, 1, 1), 40), grid=Grid.regular((1, 1, 1)))
    assert prepare(image, None, example.plan, example.configuration).array.shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("normalization", "value", "message"),
    [
        ("zscore", 5.0, "Channel 0 of case liver_7 .* differ; all are 5"),
        ("zscore", 0.0, "differ; all are 0"),
        ("rescale_to_0_1", 5.0, "differ; all are 5"),
        ("rgb_to_0_1", 300.0, "0 to 255; found 300"),
        ("none", np.nan, "NaN or infinity.* verify"),
        ("ct", np.inf, "NaN or infinity"),
    ],
)
def test_intensities_that_cannot_be_normalised_are_told(normalization, value, message):
    example = Example((4, 5, 6), (1.0, 1.0, 1.0), (0.7, 1.0, 1.0), (normalization,))
    image = Image(array=np.full((1, 4, 5, 6), value), grid=Grid.regular((4, 5, 6)))
    with pytest.raises(InputError, match=message):
        prepare(image, None, example.plan, example.configuration, case_id="liver_7")


def test_an_empty_image_under_a_mask_is_told():
    example = Example((4, 5, 6), (1.0, 1.0, 1.0), (0.7, 1.0, 1.0), masked=True)
    image = Image(array=np.zeros((1, 4, 5, 6)), grid=Grid.regular((4, 5, 6)))
    with pytest.raises(InputError, match="the image is empty"):
        prepare(image, None, example.plan, example.configuration)


def test_wrong_channels_and_wrong_labels_are_told():
    example = EXAMPLES["isotropic"]
    with pytest.raises(PlanError, match="1 channels; the image of case x has 3"):
        prepare(EXAMPLES["channels"].image(), None, example.plan, example.configuration, case_id="x")
    with pytest.raises(GeometryError, match="grid of shape"):
        prepare(example.image(), EXAMPLES["masked"].labels(), example.plan, example.configuration)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_trace_survives_json(name):
    trace = prepared_of(EXAMPLES[name]).trace
    assert Trace.from_json(trace.to_json()) == trace


def test_the_key_follows_what_the_arrays_depend_on():
    example = EXAMPLES["isotropic"]
    key = preparation_key(example.plan, example.configuration)
    assert key == preparation_key(example.plan, dataclasses.replace(example.configuration, batch_size=9))
    assert key != preparation_key(example.plan, dataclasses.replace(example.configuration, spacing_mm=(1.0, 1.0, 2.0)))
    assert key != preparation_key(dataclasses.replace(example.plan, transpose_forward=(1, 0, 2)), example.configuration)
