"""From a plan and a time to a recipe: candidates are measured on this machine, the best is kept, with reasons."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from delineate.execution import write_text
from delineate.formats.nnunet.json_node import read_document
from delineate.formats.recipe_json import read_recipe, write_recipe
from delineate.planning.budget import decide, describe
from delineate.planning.machine import Machine, StepCost
from delineate.planning.plan import Configuration, Plan
from delineate.planning.recipe import Recipe
from delineate.training.probe import measure_step
from delineate.workflows.fine_tune import StartingPoint, start_from
from delineate.workflows.plan_dataset import PlannedDataset
from delineate.workflows.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What will be trained, and how."""

    configuration: Configuration
    recipe: Recipe
    step_seconds: float | None = None
    """What a training step was measured to cost; None if nothing was measured."""


def decide_training(
    planned: PlannedDataset,
    folder: RunFolder,
    machine: Machine,
    *,
    budget_seconds: float | None,
    start: StartingPoint | None = None,
) -> Decision:
    """Choose configuration and recipe for the time there is; an earlier decision in the folder stands.

    A folder of a configuration that was asked for by name is offered that one only.
    With a model to ``start`` from there is no choice of network; the recipe becomes one of fine-tuning.

    Raises
    ------
    PlanError
        If the budget is too short for anything of use, or the plan has no configuration of the name.
    ResourceError
        If no candidate fits the memory.
    ModelError
        If the network is not that of the model to start from.
    """
    if folder.recipe.exists():
        configuration, recipe = read_recipe(folder.recipe)
        return Decision(configuration=configuration, recipe=recipe, step_seconds=_read_cost(folder))
    costs: dict[str, StepCost] = {}

    def measure(configuration: Configuration, recipe: Recipe) -> StepCost:
        cost = measure_step(
            configuration,
            recipe,
            in_channels=configuration.input_channels(planned.dataset.scheme),
            heads=planned.dataset.scheme.head_count,
            device=machine.device,
        )
        costs[describe(configuration, recipe)] = cost
        return cost

    configuration, recipe = decide(
        _offered(planned.plan, folder.configuration),
        planned.fingerprint,
        budget_seconds,
        machine,
        measure,
        fixed_network=start is not None,
    )
    cost = costs.get(describe(configuration, recipe))
    if cost is not None:
        write_text(folder.step_cost, json.dumps({"seconds": cost.seconds, "device": machine.device}))
    if start is None:
        write_recipe(folder.recipe, configuration, recipe)
    else:
        recipe = start_from(start, planned.dataset, folder, configuration, recipe)
    return Decision(configuration=configuration, recipe=recipe, step_seconds=cost.seconds if cost else None)


def _offered(plan: Plan, configuration: str | None) -> Plan:
    """Return the plan with the one configuration that was asked for, or with all."""
    return plan if configuration is None else replace(plan, configurations=(plan.configuration(configuration),))


def _read_cost(folder: RunFolder) -> float | None:
    if not folder.step_cost.exists():
        return None
    return float(read_document(folder.step_cost).child("seconds").number())
