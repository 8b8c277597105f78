"""The budget planner on a made-up machine whose clock is its cost model: nothing is trained here."""

import math
import re
from dataclasses import replace

import pytest

from delineate.errors import PlanError, ResourceError
from delineate.planning.budget import decide, describe, sightings, spell_seconds
from delineate.planning.candidates import candidates
from delineate.planning.fingerprint import StructureFacts
from delineate.planning.machine import Machine, StepCost
from delineate.planning.planner import plan_dataset
from delineate.planning.presets import RESENC_M
from delineate.planning.quality import BudgetModel, Sight, expected_dice
from delineate.planning.rules.cost import parameter_count, step_operations
from delineate.planning.rules.memory import feature_map_voxels
from delineate.planning.schedule import STANDARD_ITERATIONS, fast_recipe, iterations_within, standard_recipe
from planning.datasets import DATASETS

GIB = 2**30
LAPTOP = Machine(device="cpu", cores=2, memory_bytes=16 * GIB, bfloat16=True)
MINUTE, HOUR = 60, 3600


class FakeMachine:
    """Measures by arithmetic; its clock runs only while it measures."""

    def __init__(self, *, speed=3e11, bytes_per_value=6.0, refuses_above=math.inf):
        self.now = 0.0
        self.speed = speed
        self.bytes_per_value = bytes_per_value
        self.refuses_above = refuses_above
        self.measured = []

    def clock(self):
        return self.now

    def measure(self, configuration, recipe):
        assert recipe.patch_size == configuration.patch_size
        assert recipe.batch_size == configuration.batch_size
        network, patch, batch = configuration.architecture, configuration.patch_size, configuration.batch_size
        values = batch * feature_map_voxels(network, patch, 3)
        slower = 1 if recipe.precision == "bfloat16" else 2.5
        seconds = slower * (batch * step_operations(network, patch, 1, 3) / self.speed + values * 4e-9) + 0.005
        self.now += 4 * seconds
        peak = int(values * self.bytes_per_value)
        self.measured.append((configuration, recipe, StepCost(seconds=seconds, peak_bytes=peak)))
        if peak > self.refuses_above:
            raise ResourceError("out of memory")
        return self.measured[-1][2]


def _dataset(name, structures=None, preset=None):
    made = DATASETS[name]
    cases = len(made.shapes)
    facts = structures or [_facts("organ", cases), _facts("vessel", cases)]
    fingerprint = replace(made.fingerprint(), structures=tuple(facts))
    return plan_dataset(fingerprint, made.facts(), **({"preset": preset} if preset else {})), fingerprint


def _facts(name, cases, volume=5000.0):
    return StructureFacts(value=1, name=name, cases=cases, median_volume_mm3=volume, smallest_volume_mm3=volume)


def _decide(name, budget, machine=LAPTOP, fake=None, **kwargs):
    fake = fake or FakeMachine()
    plan, fingerprint = _dataset(name, **kwargs)
    configuration, recipe = decide(plan, fingerprint, budget, machine, fake.measure, clock=fake.clock)
    return configuration, recipe, fake


def test_standard_is_nnunets_schedule_and_measures_nothing():
    configuration, recipe, fake = _decide("hippocampus_208", None)
    assert configuration.name == "3d_fullres"
    assert (recipe.iterations, recipe.optimizer, recipe.learning_rate, recipe.momentum) == (250_000, "sgd", 1e-2, 0.99)
    assert (recipe.weight_decay, recipe.schedule, recipe.gradient_clip) == (3e-5, "poly", 12.0)
    assert (recipe.ema_decay, recipe.precision, recipe.augmentation) == (None, "float32", "nnunet")
    assert (recipe.patch_size, recipe.batch_size, recipe.mirror_axes) == ((40, 56, 40), 7, (0, 1, 2))
    assert recipe.budget_seconds is None
    assert not fake.measured
    on_gpu = replace(LAPTOP, device="cuda")
    assert standard_recipe(configuration, on_gpu).precision == "bfloat16"


def test_small_volumes_get_a_small_network_on_nearly_whole_volumes():
    configuration, recipe, _ = _decide("hippocampus_208", 20 * MINUTE)
    assert configuration.inherits_from == "3d_fullres"
    assert configuration.data_identifier == "nnUNetPlans_3d_fullres"
    assert configuration.architecture.stages in (3, 4)
    assert configuration.architecture.features[0] in (16, 24, 32)
    assert all(p >= 0.8 * n for p, n in zip(configuration.patch_size, (36, 50, 35), strict=True))
    assert (recipe.optimizer, recipe.schedule, recipe.precision) == ("adamw", "cosine", "bfloat16")
    assert recipe.budget_seconds < 20 * MINUTE


@pytest.mark.parametrize("name", ["hippocampus_208", "planes", "cine", "lowres", "huge_anisotropic", "thin", "tiny"])
def test_training_fits_the_budget_and_measuring_stays_short(name):
    for budget in (3 * MINUTE, 20 * MINUTE, 5 * HOUR):
        configuration, recipe, fake = _decide(name, budget)
        cost = next(c for k, _, c in fake.measured if k == configuration)
        assert recipe.iterations * cost.seconds + fake.now <= budget
        assert fake.now <= max(0.05 * min(budget, 400), 0.005 * budget) * 1.5
        assert all(p % d == 0 for p, d in zip(recipe.patch_size, configuration.architecture.divisor, strict=True))
        assert recipe.patch_size == configuration.patch_size
        assert recipe.reasons


def test_more_time_never_promises_less():
    plan, fingerprint = _dataset("hippocampus_208")
    model, promised, steps = BudgetModel(), [], []
    for budget in (MINUTE, 5 * MINUTE, 20 * MINUTE, HOUR, 4 * HOUR, 24 * HOUR):
        configuration, recipe, _ = _decide("hippocampus_208", budget)
        found = candidates(plan, fingerprint, LAPTOP, model)
        sight = next(c.sight for c in found if c.configuration == configuration)
        size = parameter_count(configuration.architecture, 1, 3)
        promised.append(
            expected_dice(model, configuration, sight, parameters=size, structures=2, iterations=recipe.iterations)
        )
        steps.append(recipe.iterations * step_operations(configuration.architecture, recipe.patch_size, 1, 3))
    assert promised == sorted(promised)
    assert steps == sorted(steps)


def test_many_passes_get_the_full_augmentation():
    _, short, _ = _decide("hippocampus_208", MINUTE)
    _, long, _ = _decide("hippocampus_208", 4 * HOUR)
    assert (short.augmentation, long.augmentation) == ("light", "nnunet")


def test_a_faster_machine_is_used():
    slow = _decide("isotropic", HOUR, fake=FakeMachine(speed=1e11))[:2]
    fast = _decide("isotropic", HOUR, replace(LAPTOP, device="cuda"), fake=FakeMachine(speed=2e14))[:2]

    def operations(pair):
        return pair[1].iterations * step_operations(pair[0].architecture, pair[1].patch_size, 1, 3)

    assert operations(fast) > 5 * operations(slow)


def test_memory_limit_is_kept():
    for memory in (1 * GIB, 4 * GIB, 64 * GIB):
        machine = replace(LAPTOP, memory_bytes=memory)
        configuration, _, fake = _decide("isotropic", 4 * HOUR, machine, FakeMachine(speed=1e13))
        cost = next(c for k, _, c in fake.measured if k == configuration)
        assert cost.peak_bytes <= 0.85 * memory


def test_candidates_that_run_out_of_memory_are_passed_over():
    fake = FakeMachine(speed=1e13, refuses_above=int(0.4 * GIB))
    configuration, recipe, _ = _decide("isotropic", HOUR, fake=fake)
    cost = next(c for k, _, c in fake.measured if k == configuration)
    assert cost.peak_bytes <= 0.4 * GIB
    assert any("did not fit the memory" in r for r in recipe.reasons)


def test_nothing_fits():
    with pytest.raises(ResourceError, match="No network for this dataset fits the memory"):
        _decide("isotropic", HOUR, replace(LAPTOP, memory_bytes=1000))
    with pytest.raises(ResourceError, match="fits the memory"):
        _decide("isotropic", HOUR, fake=FakeMachine(refuses_above=0))


def test_float32_where_bfloat16_is_not_native():
    _, recipe, _ = _decide("hippocampus_208", 5 * MINUTE, replace(LAPTOP, bfloat16=False))
    assert recipe.precision == "float32"
    assert not recipe.channels_last


def test_planes_and_thick_slices_get_a_plane_network():
    for name in ("planes", "cine"):
        configuration, recipe, _ = _decide(name, 5 * MINUTE)
        assert configuration.dims == 2
        assert recipe.mirror_axes == (0, 1)
    assert _decide("isotropic", 5 * MINUTE)[0].dims == 3


def test_residual_plans_stay_residual():
    configuration, _, _ = _decide("hippocampus_208", HOUR, preset=RESENC_M)
    assert configuration.architecture.kind == "residual_unet"


def test_a_budget_that_holds_the_whole_schedule_gets_it():
    configuration, recipe, _ = _decide(
        "hippocampus_208", 200 * HOUR, replace(LAPTOP, device="cuda"), FakeMachine(speed=1e14)
    )
    assert recipe.iterations == STANDARD_ITERATIONS or recipe.optimizer == "adamw"
    assert configuration.architecture.features[0] == 32


def test_too_short_budgets_say_what_is_needed():
    with pytest.raises(PlanError, match=r"5 s for training is too short .* at least 10 s"):
        _decide("hippocampus_208", 5)
    with pytest.raises(PlanError, match="too short"):
        _decide("hippocampus_208", float("nan"))
    with pytest.raises(PlanError, match=r"the quickest network takes .* s per step on cpu. Give at least .* min"):
        _decide("isotropic", 40, fake=FakeMachine(speed=1e9))


def test_the_least_budget_that_is_told_suffices():
    with pytest.raises(PlanError, match="Give at least ") as caught:
        _decide("isotropic", 40, fake=FakeMachine(speed=1e9))
    told = re.search(r"Give at least (?:(\d+) h )?([\d.]+) min", str(caught.value))
    seconds = HOUR * float(told[1] or 0) + MINUTE * float(told[2])
    assert _decide("isotropic", seconds, fake=FakeMachine(speed=1e9))[1].iterations >= 60


def test_reasons_tell_the_story():
    _, recipe, fake = _decide("hippocampus_208", 20 * MINUTE)
    text = "\n".join(recipe.reasons)
    assert "The budget is 20 min on cpu (2 cores" in text
    assert text.count("Measured 3d_fullres_budget: ") + text.count("Measured 3d_fullres: ") == len(fake.measured)
    assert "Chosen: " in text
    assert "passes over the 5 cases" in text
    assert "Warning" not in text


def test_rare_and_absent_structures_are_warned_of():
    cases = len(DATASETS["isotropic"].shapes)
    structures = [_facts("liver", cases), _facts("polyp", 1, 20.0), _facts("ghost", 0, 0.0)]
    _, recipe, _ = _decide("isotropic", 5 * MINUTE, structures=structures, fake=FakeMachine(speed=3e10))
    warnings = [r for r in recipe.reasons if r.startswith("Warning")]
    assert any("'polyp' is rare (1 of 9 cases" in w for w in warnings)
    assert any("'ghost' is declared but occurs in no training case" in w for w in warnings)
    assert any("expect a rough result" in w for w in warnings)


def test_sightings_count_centred_and_chance_patches():
    plan, fingerprint = _dataset("hippocampus_208")
    configuration = plan.configuration("3d_fullres")
    recipe = replace(standard_recipe(configuration, LAPTOP), iterations=100, batch_size=4)
    everywhere, half = _facts("a", 5), _facts("b", 2)
    # whole-volume patches show everything that the case has
    assert sightings(plan, fingerprint, configuration, recipe, everywhere) == pytest.approx(400)
    assert sightings(plan, fingerprint, configuration, recipe, half) == pytest.approx(160)
    # an eighth of the volume: every patch centred on one of two structures, or the chance of one in eight
    eighth = replace(recipe, patch_size=(18, 25, 17))
    share = 18 * 25 * 17 / (36 * 50 * 35)
    expected = 400 * (0.165 + 0.835 * share)
    assert sightings(plan, fingerprint, configuration, eighth, everywhere) == pytest.approx(expected)


def test_the_recipe_is_fitted_to_its_iterations():
    plan, _ = _dataset("hippocampus_208")
    base = standard_recipe(plan.configuration("3d_fullres"), LAPTOP)
    short, long = fast_recipe(base, 400, 60.0), fast_recipe(base, 100_000, 36_000.0)
    assert (short.ema_decay, long.ema_decay) == (pytest.approx(0.975), 0.999)
    assert (short.iterations_per_epoch, long.iterations_per_epoch) == (10, 250)
    assert (short.warmup_iterations, long.warmup_iterations) == (20, 500)
    assert 2 <= short.validation_batches < long.validation_batches <= 50
    assert iterations_within(60, 0.1) == 587


def test_quality_prefers_context_depth_and_capacity():
    plan, _ = _dataset("hippocampus_208")
    configuration, model = plan.configuration("3d_fullres"), BudgetModel()
    sight = Sight(context=1.0, patch_share=1.0, slice_ratio=1.0, planar=False, coarseness=1.0)

    def quality(sight=sight, parameters=2_000_000, iterations=2000, structures=2):
        return expected_dice(
            model, configuration, sight, parameters=parameters, structures=structures, iterations=iterations
        )

    best = quality()
    assert best > quality(replace(sight, context=0.5))
    assert best > quality(replace(sight, planar=True))
    assert best == quality(replace(sight, planar=True, slice_ratio=6.0))
    assert best > quality(replace(sight, coarseness=2.0))
    assert best > quality(parameters=500_000)
    assert best > quality(iterations=500)
    assert best > quality(structures=50)
    assert quality(iterations=0) < 0


def test_machine_and_words():
    with pytest.raises(PlanError, match="at least one core"):
        Machine(device="cpu", cores=0, memory_bytes=1, bfloat16=False)
    assert [spell_seconds(s) for s in (5, 300, 5400, 9000)] == ["5 s", "5 min", "1 h 30 min", "2 h 30 min"]
    plan, _ = _dataset("hippocampus_208")
    configuration = plan.configuration("3d_fullres")
    assert describe(configuration, standard_recipe(configuration, LAPTOP)) == (
        "3d_fullres: 32 to 256 channels in 4 stages, 2+2 convolutions per stage, patch 40×56×40, batch 7, float32"
    )
