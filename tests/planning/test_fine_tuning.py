from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from delineate.errors import PlanError
from delineate.planning.budget import decide
from delineate.planning.fine_tuning import TrainedNetwork, fine_tuned, plan_like, reasons_for
from delineate.planning.fingerprint import Fingerprint
from delineate.planning.machine import Machine, StepCost
from delineate.planning.plan import Configuration, Plan
from delineate.planning.planner import plan_dataset
from delineate.planning.recipe import Recipe
from planning.datasets import DATASETS


def own_plan(name: str = "isotropic") -> tuple[Plan, Fingerprint, tuple[str, ...]]:
    made = DATASETS[name]
    return plan_dataset(made.fingerprint(), made.facts()), made.fingerprint(), made.facts().channel_names


def model(name: str = "isotropic", configuration: str = "3d_fullres", **changes) -> TrainedNetwork:
    plan, _, channels = own_plan(name)
    trained = replace(plan.configuration(configuration), **changes)
    return TrainedNetwork(name="Some Model", plan=plan, configuration=trained, channel_names=channels)


def adopted(trained: TrainedNetwork, name: str = "isotropic") -> tuple[Plan, Configuration]:
    own, fingerprint, channels = own_plan(name)
    plan = plan_like(trained, own, fingerprint, channels)
    (configuration,) = plan.configurations
    return plan, configuration


def fits(configuration: Configuration) -> bool:
    patch, divisor = configuration.patch_size, configuration.architecture.divisor
    return patch != divisor and all(size % step == 0 for size, step in zip(patch, divisor, strict=True))


def test_the_models_own_dataset_gets_the_models_plan() -> None:
    own, _, _ = own_plan()
    plan, configuration = adopted(model())
    expected = own.configuration("3d_fullres")
    assert replace(configuration, data_identifier=expected.data_identifier, next_stage=expected.next_stage) == replace(
        expected, median_shape=configuration.median_shape
    )
    assert configuration.median_shape == pytest.approx(expected.median_shape)
    assert plan.intensities == own.intensities
    assert configuration.data_identifier != expected.data_identifier


def test_a_comparable_spacing_is_taken_over_and_the_images_resized() -> None:
    own, _, _ = own_plan()
    standard = own.configuration("3d_fullres")
    spacing = tuple(1.5 * s for s in standard.spacing_mm)
    trained = model(spacing_mm=spacing)
    _, configuration = adopted(trained)
    assert configuration.spacing_mm == spacing
    assert configuration.median_shape == pytest.approx([n / 1.5 for n in standard.median_shape], abs=1)
    assert "brought to the model's spacing" in " ".join(reasons_for(trained, configuration, ("CT",)))


def test_a_foreign_spacing_is_not() -> None:
    own, _, _ = own_plan()
    standard = own.configuration("3d_fullres")
    trained = model(spacing_mm=tuple(3 * s for s in standard.spacing_mm))
    plan, configuration = adopted(trained)
    assert configuration.spacing_mm == standard.spacing_mm
    assert configuration.median_shape == standard.median_shape
    assert plan.transpose_forward == own.transpose_forward
    assert "up to a factor of 2" in " ".join(reasons_for(trained, configuration, ("CT",)))


@pytest.mark.parametrize("name", ["isotropic", "cine", "lowres", "tiny", "masked"])
@pytest.mark.parametrize("source", ["isotropic", "cine", "lowres"])
def test_the_patch_always_fits_network_and_images(name, source) -> None:
    trained = model(source)
    _, configuration = adopted(trained, name)
    assert configuration.architecture == trained.configuration.architecture
    assert fits(configuration)
    assert all(a <= b for a, b in zip(configuration.patch_size, trained.configuration.patch_size, strict=True))


def test_a_patch_larger_than_the_images_is_cut() -> None:
    trained = model(patch_size=(512, 512, 512))
    _, configuration = adopted(trained)
    divisor = configuration.architecture.divisor
    for size, median, step in zip(configuration.patch_size, configuration.median_shape, divisor, strict=True):
        assert median <= size < median + step


def test_the_axes_of_the_model_are_those_of_the_spacing() -> None:
    """A model of thick slices along the last axis, a dataset whose own plan keeps the order."""
    trained = model()
    forward = (2, 0, 1)
    spacing = own_plan()[0].configuration("3d_fullres").spacing_mm
    rotated = replace(trained, plan=replace(trained.plan, transpose_forward=forward))
    plan, configuration = adopted(replace(rotated, configuration=replace(trained.configuration, spacing_mm=spacing)))
    _, fingerprint, _ = own_plan()
    assert plan.transpose_forward == forward
    assert [forward[i] for i in plan.transpose_backward] == [0, 1, 2]
    expected = np.median(fingerprint.shapes_after_crop, 0)[list(forward)]
    assert plan.original_median_shape == pytest.approx(expected)
    assert configuration.dims == 3


def test_normalisation_follows_the_names_of_channels() -> None:
    own, fingerprint, channels = own_plan()
    trained = model(normalization=("rescale_to_0_1",) * len(channels))
    statistics = tuple(replace(i, mean=-1.0) for i in own.intensities)
    trained = replace(trained, plan=replace(trained.plan, intensities=statistics))
    known = plan_like(trained, own, fingerprint, [name.upper() for name in channels])
    assert known.configurations[0].normalization == trained.configuration.normalization
    assert known.intensities == statistics
    unknown = plan_like(trained, own, fingerprint, [f"other {name}" for name in channels])
    assert unknown.configurations[0].normalization == own.configuration("3d_fullres").normalization
    assert unknown.intensities == own.intensities
    told = " ".join(reasons_for(trained, unknown.configurations[0], ["other"]))
    assert "does not know a channel 'other'" in told


def test_a_second_stage_is_refused() -> None:
    with pytest.raises(PlanError, match="second stage of a cascade"):
        model("lowres", "3d_cascade_fullres")


def test_a_model_of_volumes_is_refused_for_planes() -> None:
    own, fingerprint, channels = own_plan("planes")
    with pytest.raises(PlanError, match="3 axes"):
        plan_like(model(), own, fingerprint, channels)


def test_the_recipe_is_gentler_and_says_why() -> None:
    recipe = Recipe(iterations=1000, batch_size=2, patch_size=(8, 8, 8), mirror_axes=(0, 1, 2), reasons=("last",))
    tuned = fine_tuned(recipe, ("first",), (0, 1, 2))
    assert tuned.learning_rate == pytest.approx(1e-3)
    assert tuned.warmup_iterations == 50
    assert tuned.reasons[0] == "first"
    assert tuned.reasons[-1] == "last"
    assert "0.001 instead of 0.01" in tuned.reasons[1]
    assert len(tuned.reasons) == 3


def test_a_model_that_was_not_mirrored_is_not_mirrored_now() -> None:
    recipe = Recipe(iterations=1000, batch_size=2, patch_size=(8, 8, 8), mirror_axes=(0, 1, 2))
    tuned = fine_tuned(recipe, (), ())
    assert tuned.mirror_axes == ()
    assert "along the axes none" in tuned.reasons[-1]


@pytest.mark.parametrize("budget", [None, 3600.0])
def test_a_given_network_is_not_searched_for(budget) -> None:
    plan, configuration = adopted(model())
    _, fingerprint, _ = own_plan()
    asked = []

    def measure(candidate: Configuration, recipe: Recipe) -> StepCost:
        asked.append(candidate)
        return StepCost(seconds=0.5, peak_bytes=2**30)

    machine = Machine(device="cpu", cores=2, memory_bytes=64 * 2**30, bfloat16=True)
    chosen, recipe = decide(plan, fingerprint, budget, machine, measure, fixed_network=True)
    assert chosen == configuration
    assert asked == ([] if budget is None else [configuration])
    assert recipe.patch_size == configuration.patch_size
    if budget is not None:
        assert 3000 < recipe.iterations < 7200
