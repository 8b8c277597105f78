"""The planner without the oracle: golden facts, the published conformance vectors, and bad input."""

from dataclasses import replace

import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import plan_to_json
from delineate.planning.planner import DatasetFacts, plan_dataset
from delineate.planning.presets import DEFAULT, PRESETS, RESENC_L
from planning.datasets import DATASETS, Made, gist
from planning.golden import GOLDEN


@pytest.mark.parametrize("key", sorted(GOLDEN))
def test_plans_are_those_of_nnunet(key):
    name, plans_name = key.split("/")
    preset = next(p for p in PRESETS.values() if p.plans_name == plans_name)
    plan = plan_dataset(DATASETS[name].fingerprint(), DATASETS[name].facts(), preset)
    assert gist(plan_to_json(plan)) == GOLDEN[key]


@pytest.mark.parametrize(("cases", "batch_3d", "batch_2d"), [(260, 9, 366), (208, 7, 292)])
def test_hippocampus(cases, batch_3d, batch_2d):
    made = DATASETS[f"hippocampus_{cases}"]
    plan = plan_dataset(made.fingerprint(), made.facts())
    assert [c.name for c in plan.configurations] == ["2d", "3d_fullres"]
    volume, plane = plan.configuration("3d_fullres"), plan.configuration("2d")
    assert (volume.patch_size, volume.batch_size) == ((40, 56, 40), batch_3d)
    assert volume.architecture.features == (32, 64, 128, 256)
    assert volume.architecture.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert (plane.patch_size, plane.batch_size) == ((56, 40), batch_2d)


def test_low_resolution_brings_a_cascade():
    plan = plan_dataset(DATASETS["lowres"].fingerprint(), DATASETS["lowres"].facts())
    cascade, full = plan.configuration("3d_cascade_fullres"), plan.configuration("3d_fullres")
    assert cascade == replace(full, name="3d_cascade_fullres", inherits_from="3d_fullres", previous_stage="3d_lowres")
    assert plan.configuration("3d_lowres").next_stage == "3d_cascade_fullres"
    assert full.batch_dice
    assert not plan.configuration("3d_lowres").batch_dice


def test_planes_get_no_volume_configuration():
    plan = plan_dataset(DATASETS["planes"].fingerprint(), DATASETS["planes"].facts())
    assert [c.name for c in plan.configurations] == ["2d"]


def test_residual_presets_share_the_prepared_data_of_the_default():
    made = DATASETS["lowres"]
    plan = plan_dataset(made.fingerprint(), made.facts(), RESENC_L)
    folders = {c.name: c.data_identifier for c in plan.configurations}
    assert folders["3d_fullres"] == "nnUNetPlans_3d_fullres"
    assert folders["3d_lowres"] == "nnUNetResEncUNetLPlans_3d_lowres"


def test_more_memory_gives_a_larger_patch():
    made = DATASETS["isotropic"]
    small, large = (
        plan_dataset(made.fingerprint(), made.facts(), DEFAULT.with_memory(gb)).configuration("3d_fullres")
        for gb in (4, 24)
    )
    assert sum(small.patch_size) < sum(large.patch_size)


def test_target_spacing_given_by_the_user():
    made = DATASETS["isotropic"]
    plan = plan_dataset(made.fingerprint(), made.facts(), target_spacing_mm=(1.0, 1.0, 4.0))
    assert plan.transpose_forward == (2, 0, 1)
    assert plan.transpose_backward == (1, 2, 0)
    assert plan.configuration("3d_fullres").spacing_mm == (4.0, 1.0, 1.0)
    for bad in ((1.0, 1.0), (1.0, 0.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(PlanError, match="three positive numbers"):
            plan_dataset(made.fingerprint(), made.facts(), target_spacing_mm=bad)
    with pytest.raises(PlanError, match="finer target spacing"):
        plan_dataset(made.fingerprint(), made.facts(), target_spacing_mm=(900.0, 900.0, 900.0))


def test_contradictions_are_refused():
    made = DATASETS["masked"]
    with pytest.raises(PlanError, match="4 channels, the dataset declares 1"):
        plan_dataset(made.fingerprint(), replace(made.facts(), channel_names=("CT",)))
    with pytest.raises(PlanError, match="at least one channel"):
        DatasetFacts(name="D", channel_names=(), label_count=2, training_cases=3)
    with pytest.raises(PlanError, match="larger memory target"):
        plan_dataset(made.fingerprint(), made.facts(), DEFAULT.with_memory(1e-6))


def test_one_voxel_images_are_planned_or_refused_by_name():
    made = Made([[1.0, 1.0, 1.0]], [[1, 1, 1]], training=1)
    plan = plan_dataset(made.fingerprint(), made.facts())
    assert plan.configuration("2d").patch_size == (1, 1)


def test_unknown_configuration_names_what_there_is():
    plan = plan_dataset(DATASETS["planes"].fingerprint(), DATASETS["planes"].facts())
    with pytest.raises(PlanError, match="it has: 2d"):
        plan.configuration("3d_fullres")


@pytest.mark.parametrize("name", ["isotropic", "cine", "planes", "lowres"])
@pytest.mark.parametrize("preset", ["mednext-s", "mednext-l-k5"])
def test_mednext_takes_the_place_of_the_u_net_and_changes_nothing_else(name, preset):
    made = DATASETS[name]
    ours = plan_dataset(made.fingerprint(), made.facts(), PRESETS[preset])
    default = plan_dataset(made.fingerprint(), made.facts())
    assert [c.name for c in ours.configurations] == [c.name for c in default.configurations]
    for mine, standard in zip(ours.configurations, default.configurations, strict=True):
        assert mine.architecture.kind == "mednext"
        assert mine.architecture.stages == min(5, standard.architecture.stages)
        assert mine.architecture.strides == standard.architecture.strides[: mine.architecture.stages]
        assert all(size % step == 0 for size, step in zip(mine.patch_size, mine.architecture.divisor, strict=True))
        assert replace(mine, architecture=standard.architecture, data_identifier=standard.data_identifier) == standard
