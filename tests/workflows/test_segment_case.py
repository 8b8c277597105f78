"""A case as one stream against the single steps, on every kind of case."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from delineate.case import Image
from delineate.errors import UsageError
from delineate.inference import Tiling, make_ensemble, predict_logits
from delineate.networks import build_network
from delineate.planning.machine import Machine
from delineate.preprocessing import prepare, restore_labels
from delineate.workflows.model import Model
from delineate.workflows.segment_case import segment_case

sys.path.append(str(Path(__file__).parents[1] / "preprocessing"))

from preparation_cases import EXAMPLES


def model_of(example, summed="auto"):
    configuration = example.configuration
    network = build_network(
        configuration.architecture,
        in_channels=len(example.normalization),
        heads=example.scheme.head_count,
        seed=1,
    )
    return Model(
        package=SimpleNamespace(
            plan=example.plan,
            configuration=configuration,
            scheme=example.scheme,
            identity="test",
            weights={"0": {}},
            postprocessing=(),
            trust=None,
        ),
        ensemble=make_ensemble([network]),
        tiling=Tiling(patch_size=configuration.patch_size, summed=summed),
        machine=Machine(device="cpu", cores=1, memory_bytes=2**30, bfloat16=False),
    )


@pytest.mark.parametrize("summed", ["auto", "features"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_stream_gives_the_labels_of_the_single_steps(name, summed):
    example = EXAMPLES[name]
    model = model_of(example, summed)
    prepared = prepare(example.image(), None, example.plan, example.configuration)
    logits = predict_logits(model.ensemble, prepared.array, model.tiling)
    expected = restore_labels(logits, prepared.trace, example.scheme).array
    found = segment_case(example.image(), model)
    np.testing.assert_array_equal(found.labels.array, expected)
    assert len(np.unique(expected)) > 1
    with_probabilities = segment_case(example.image(), model, probabilities=True)
    np.testing.assert_array_equal(with_probabilities.labels.array, expected)
    assert with_probabilities.probabilities.shape == (example.scheme.head_count, *expected.shape)


def test_air_is_background_and_the_rest_is_predicted():
    example = EXAMPLES["same grid"]
    model = model_of(example)
    image = example.image()
    grid = type(image.grid).regular((21, 24, 90))
    array = np.full((1, *grid.shape), -1000, np.float32)
    array[..., :26] = image.array
    wide = Image(array=array, grid=grid)
    everything = segment_case(wide, model).labels.array
    found = segment_case(wide, model.without_air())
    assert found.provenance.settings["air_below_hu"] == -900
    assert not found.labels.array[..., 64:].any()
    np.testing.assert_array_equal(found.labels.array[..., :26], everything[..., :26])
    assert segment_case(wide, model).provenance.settings["air_below_hu"] is None


def test_air_is_a_matter_of_ct():
    example = EXAMPLES["isotropic"]
    with pytest.raises(UsageError, match="Hounsfield"):
        segment_case(example.image(), model_of(example).without_air())
