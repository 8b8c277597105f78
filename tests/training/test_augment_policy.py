import math

import pytest
from training_oracle import answers

from delineate.errors import PlanError
from delineate.training.augment import NONE, AugmentationPolicy, policy_for


def nnunet(patch):
    return policy_for("nnunet", patch, len(patch), tuple(range(len(patch))))


@pytest.mark.parametrize(
    ("patch", "in_plane", "degrees"),
    [
        ((40, 56, 40), False, 30),
        ((16, 48, 48), False, 30),
        ((16, 320, 256), True, 180),
        ((64, 64), False, 180),
        ((128, 64), False, 15),
    ],
)
def test_rotation_depends_on_the_patch(patch, in_plane, degrees):
    policy = nnunet(patch)
    assert policy.spatial.in_plane is in_plane
    assert policy.low_resolution.in_plane is in_plane
    assert math.degrees(policy.spatial.rotation_rad) == pytest.approx(degrees)


@pytest.mark.oracle
def test_input_sizes_equal_nnunet():
    for patch, size in answers().value("sizes"):
        assert nnunet(tuple(patch)).input_size(tuple(patch)) == tuple(size)


@pytest.mark.oracle
def test_probabilities_and_ranges_equal_nnunet():
    theirs, ours = answers().value("policy"), nnunet((40, 56, 40))
    (spatial,) = theirs["SpatialTransform"]
    assert (spatial["p_rotation"], spatial["p_scaling"]) == (
        ours.spatial.rotation_probability,
        ours.spatial.scaling_probability,
    )
    assert tuple(spatial["scaling"]) == ours.spatial.scaling
    expected = {
        "GaussianNoiseTransform": [(ours.noise.probability, ours.noise.deviation)],
        "GaussianBlurTransform": [(ours.blur.probability, ours.blur.sigma_voxels)],
        "MultiplicativeBrightnessTransform": [(ours.brightness.probability, ours.brightness.factor)],
        "ContrastTransform": [(ours.contrast.probability, ours.contrast.factor)],
        "SimulateLowResolutionTransform": [(ours.low_resolution.probability, ours.low_resolution.zoom)],
        "GammaTransform": [(gamma.probability, gamma.exponent) for gamma in ours.gammas],
    }
    for name, settings in expected.items():
        assert len(theirs[name]) == len(settings)
        for entry, (probability, limits) in zip(theirs[name], settings, strict=True):
            assert entry["probability"] == probability
            assert list(limits) in [list(v) for v in entry.values() if isinstance(v, list)]
    assert [gamma["p_invert_image"] for gamma in theirs["GammaTransform"]] == [g.inverted for g in ours.gammas]
    assert theirs["GaussianBlurTransform"][0]["p_per_channel"] == ours.blur.channel_probability
    assert theirs["SimulateLowResolutionTransform"][0]["p_per_channel"] == ours.low_resolution.channel_probability
    assert tuple(theirs["MirrorTransform"][0]["allowed_axes"]) == ours.mirror_axes


def test_light_is_cut_larger_than_the_patch_and_leaves_resolution_alone():
    policy = policy_for("light", (40, 56, 40), 3, (0, 2))
    assert all(a > b for a, b in zip(policy.input_size((40, 56, 40)), (40, 56, 40), strict=True))
    assert policy.blur is None
    assert policy.low_resolution is None
    assert policy.mirror_axes == (0, 2)


def test_in_plane_input_keeps_its_first_axis():
    assert policy_for("light", (12, 64, 64), 3, ()).input_size((12, 64, 64))[0] == 12


def test_none_changes_nothing():
    assert policy_for("none", (8, 8), 2, (0,)) == NONE == AugmentationPolicy()
    assert NONE.input_size((8, 8)) == (8, 8)


@pytest.mark.parametrize(
    ("name", "patch", "dims", "axes"),
    [("light", (8, 8), 3, ()), ("light", (8,), 1, ()), ("nnunet", (8, 8), 2, (2,)), ("strong", (8, 8), 2, ())],
)
def test_impossible_policies_are_refused(name, patch, dims, axes):
    with pytest.raises(PlanError):
        policy_for(name, patch, dims, axes)
