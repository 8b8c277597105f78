"""The plan in words."""

from dataclasses import replace

import pytest

from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, Plan
from delineate.planning.recipe import Recipe
from delineate.reports.plan_words import describe_plan, tabulate_plan

ARCHITECTURE = Architecture(
    kind="plain_unet",
    dims=3,
    features=(32, 64, 128, 256),
    kernel_sizes=((3, 3, 3),) * 4,
    strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    encoder_blocks=(2,) * 4,
    decoder_convs=(2,) * 3,
)
CONFIGURATION = Configuration(
    name="3d_fullres",
    data_identifier="x",
    spacing_mm=(1.0, 0.5, 0.5),
    patch_size=(40, 56, 40),
    batch_size=9,
    median_shape=(36.0, 50.0, 35.0),
    normalization=("zscore",),
    use_mask_for_norm=(False,),
    architecture=ARCHITECTURE,
    batch_dice=False,
)
PLAN = Plan(
    dataset_name="Dataset004_Hippocampus",
    plans_name="nnUNetPlans",
    planner_name="ExperimentPlanner",
    image_reader="SimpleITKIO",
    transpose_forward=(0, 1, 2),
    transpose_backward=(0, 1, 2),
    original_median_spacing_mm=(1.0, 1.0, 1.0),
    original_median_shape=(36.0, 50.0, 35.0),
    intensities=(IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_99_5=1, percentile_00_5=0),),
    configurations=(CONFIGURATION,),
)
RECIPE = Recipe(iterations=2500, batch_size=4, patch_size=(40, 48, 40), budget_seconds=1200.0)


def test_sentences_carry_the_numbers():
    text = " ".join(describe_plan(PLAN, CONFIGURATION, RECIPE))
    for part in ("1 × 0.5 × 0.5 mm", "36 × 50 × 35 voxels", "4 resolution stages", "32 to 256", "40 × 48 × 40 voxels"):
        assert part in text
    assert "(40 × 24 × 20 mm)" in text
    assert "2\u202f500 steps of 4" in text
    assert "trained for 20 min, which is about" in text
    assert "standard deviation 1" in text


def test_without_a_recipe_the_configuration_speaks():
    assert "40 × 56 × 40 voxels" in " ".join(describe_plan(PLAN, CONFIGURATION))
    assert not any("trained" in sentence for sentence in describe_plan(PLAN, CONFIGURATION))


def test_channels_with_different_scaling_are_told_apart():
    mixed = replace(CONFIGURATION, normalization=("ct", "none"), use_mask_for_norm=(False, False))
    assert any("channel 1 clipped" in s and "channel 2 left" in s for s in describe_plan(PLAN, mixed))


def test_planes_and_cascades_are_said():
    flat = replace(CONFIGURATION, spacing_mm=(0.5, 0.5), patch_size=(56, 40), median_shape=(50.0, 35.0))
    assert any("slice by slice" in s for s in describe_plan(PLAN, flat))
    assert any("coarser" in s for s in describe_plan(PLAN, replace(CONFIGURATION, previous_stage="3d_lowres")))


@pytest.mark.parametrize(("seconds", "text"), [(45.0, "45 s"), (300.0, "5 min"), (7200.0, "2 h")])
def test_budgets_read_well(seconds, text):
    assert any(text in s for s in describe_plan(PLAN, CONFIGURATION, replace(RECIPE, budget_seconds=seconds)))


def test_the_table_has_configuration_and_recipe():
    facts = {fact.label: fact.value for fact in tabulate_plan(CONFIGURATION, RECIPE)}
    assert facts["Batch"] == "4"
    assert facts["Strides"] == "1 × 1 × 1, 2 × 2 × 2, 2 × 2 × 2, 2 × 2 × 2"
    assert facts["Weight average"] == "none"
    assert "Iterations" not in {fact.label for fact in tabulate_plan(CONFIGURATION)}
