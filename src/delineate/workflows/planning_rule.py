"""By which rule a dataset is planned: nnU-Net's planner, the network of a model, or the plan of another dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from delineate.errors import UsageError
from delineate.formats.nnunet.plans_json import read_plan
from delineate.planning.fine_tuning import plan_like
from delineate.planning.fingerprint import Fingerprint
from delineate.planning.plan import Plan
from delineate.planning.planner import DatasetFacts
from delineate.planning.planner import plan_dataset as decide_plan
from delineate.planning.presets import Preset
from delineate.planning.transfer import check_move, move_plan
from delineate.workflows.fine_tune import StartingPoint, read_starting_point
from delineate.workflows.run_folder import RunFolder

Decide = Callable[[Fingerprint, DatasetFacts, Preset], Plan]
"""From what is known of a dataset to its plan."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlanningRule:
    """How to plan, and the model to start from, if any."""

    decide: Decide = decide_plan
    start: StartingPoint | None = None
    origin: str | None = None
    """Where the plan comes from, if not from the dataset itself; a run's folder belongs to one origin."""


def planning_rule(model: Path | None = None, plan_of: Path | None = None) -> PlanningRule:
    """Return the rule that the user asked for.

    Parameters
    ----------
    model
        A trained model to start from; its network is planned with.
    plan_of
        A run's folder, or a plans file, of another dataset.

    Raises
    ------
    UsageError
        If both are given.
    ModelError, PlanError
        If the model or the plan cannot be read or used.
    """
    if model is not None and plan_of is not None:
        raise UsageError("Give either a model to start from (--from) or the plan of another dataset (--plan-of).")
    if model is not None:
        return _like_model(read_starting_point(model))
    return PlanningRule() if plan_of is None else _like_plan(plan_of)


def _like_model(start: StartingPoint) -> PlanningRule:
    trained = start.network

    def decide(fingerprint: Fingerprint, facts: DatasetFacts, preset: Preset) -> Plan:
        own = decide_plan(fingerprint, facts, preset)
        return plan_like(trained, own, fingerprint, facts.channel_names)

    return PlanningRule(decide=decide, start=start, origin=f"model {start.package.identity}")


def _like_plan(path: Path) -> PlanningRule:
    file = RunFolder(root=path).plan if path.is_dir() else path
    plan = read_plan(file)

    def decide(fingerprint: Fingerprint, facts: DatasetFacts, preset: Preset) -> Plan:
        check_move(plan, facts.channel_names)
        name = f"{plan.plans_name}_from_{plan.dataset_name}"
        return move_plan(plan, dataset_name=facts.name, image_reader=facts.reader_name, plans_name=name)

    return PlanningRule(decide=decide, origin=f"plan of {plan.dataset_name}, {file.resolve()}")
