from __future__ import annotations

import pytest
import torch

from delineate.errors import UsageError
from delineate.training.schedule import EXTENSION_PEAK, Extension, Leg, extension_leg, first_leg, learning_rate
from training.toys import toy_recipe


def rate(recipe, step, leg=None, seconds=0.0):
    leg = leg or first_leg(recipe)
    return learning_rate(recipe, leg, leg.progress(step, seconds), step)


def test_poly_is_nnunets_per_epoch():
    recipe = toy_recipe(iterations=250_000, iterations_per_epoch=250, learning_rate=1e-2)
    for step in (0, 249, 250, 750, 1000 * 123, 1000 * 123 + 1, 249_999):
        assert rate(recipe, step) == pytest.approx(1e-2 * (1 - (step // 250) / 1000) ** 0.9, rel=1e-12)


def test_poly_under_a_budget_is_smooth_and_ends_with_the_time():
    recipe = toy_recipe(iterations=1000, iterations_per_epoch=250, budget_seconds=100.0, learning_rate=1.0)
    assert rate(recipe, 10, seconds=50.0) == pytest.approx(0.5**0.9)
    assert rate(recipe, 10, seconds=99.9) < 0.01


def test_a_forecast_of_too_few_steps_does_not_hasten_a_training_under_a_budget():
    recipe = toy_recipe(iterations=1000, budget_seconds=100.0, learning_rate=1.0)
    assert rate(recipe, 5000, seconds=50.0) == pytest.approx(0.5**0.9)
    assert first_leg(recipe).progress(5000, 99.0) < 1.0
    assert first_leg(recipe).progress(400, 100.0) == 1.0


def test_nnunets_whole_schedule_ends_before_the_time():
    recipe = toy_recipe(iterations=250_000, budget_seconds=100.0, learning_rate=1.0)
    assert rate(recipe, 200_000, seconds=50.0) == pytest.approx(0.2**0.9)
    assert first_leg(recipe).progress(250_000, 50.0) == 1.0


def test_without_a_budget_the_steps_decide():
    leg = first_leg(toy_recipe(iterations=1000))
    assert (leg.progress(999, 1e9), leg.progress(1000, 0.0)) == (0.999, 1.0)


def test_warm_up_rises_linearly_then_cosine_falls():
    recipe = toy_recipe(iterations=100, schedule="cosine", warmup_iterations=10, learning_rate=1.0)
    assert rate(recipe, 0) == pytest.approx(0.1, abs=0.01)
    assert rate(recipe, 4) == pytest.approx(0.5, abs=0.01)
    assert rate(recipe, 50) == pytest.approx(0.5)
    assert rate(recipe, 100) == pytest.approx(0.0, abs=1e-12)


def test_one_cycle_is_torchs():
    recipe = toy_recipe(iterations=101, schedule="one_cycle", learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.3, total_steps=102, pct_start=31.3 / 102, final_div_factor=1e12, cycle_momentum=False
    )
    for step in range(102):
        assert rate(recipe, step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=2e-4)
        optimizer.step()
        if step < 101:
            oracle.step()


def test_the_reserve_ends_a_leg_early_but_takes_at_most_half():
    leg = Leg(budget_seconds=100.0)
    assert leg.progress(1, 90.0, reserve_seconds=10.0) == 1.0
    assert leg.progress(1, 45.0, reserve_seconds=10.0) == pytest.approx(0.5)
    assert leg.progress(1, 25.0, reserve_seconds=500.0) == pytest.approx(0.5)


def test_an_extension_rises_again_and_anneals():
    recipe = toy_recipe(schedule="cosine", learning_rate=1.0, warmup_iterations=3)
    leg = extension_leg(Extension(iterations=100), 1000, 60.0)
    assert 0 < rate(recipe, 1000, leg) < 0.01
    assert rate(recipe, 1005, leg) == pytest.approx(EXTENSION_PEAK, rel=0.01)
    assert rate(recipe, 1100, leg) == pytest.approx(0.0, abs=1e-9)
    assert leg.amounts_to(Extension(iterations=100))
    assert not leg.amounts_to(Extension(seconds=100.0))


def test_an_extension_by_time_counts_from_the_end_of_the_run():
    leg = extension_leg(Extension(seconds=30.0), 1000, 60.0)
    assert leg.progress(1500, 75.0) == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [{}, {"iterations": 0}, {"seconds": -1.0}, {"iterations": 5, "seconds": 5.0}])
def test_an_extension_is_one_positive_amount(wrong):
    with pytest.raises(UsageError, match="An extension is either"):
        Extension(**wrong)
