"""The plan of one dataset for another: so that networks of both have one shape and weights can move.

References
----------
nnU-Net 2.8.1, ``nnUNetv2_move_plans_between_datasets``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from delineate.errors import PlanError
from delineate.planning.plan import Configuration, Plan
from delineate.planning.rules.normalization import normalization_of


def move_plan(plan: Plan, *, dataset_name: str, image_reader: str, plans_name: str | None = None) -> Plan:
    """Return a plan for another dataset; spacing, patch, network and statistics stay those of the first.

    Parameters
    ----------
    plan
        Of the first dataset.
    dataset_name, image_reader
        Of the other dataset.
    plans_name
        Name of the moved plan; prepared data are then named after it, so that they are not taken for data that were
        prepared by the other dataset's own plan. None: the old name.
    """
    name = plan.plans_name if plans_name is None else plans_name
    return replace(
        plan,
        dataset_name=dataset_name,
        plans_name=name,
        image_reader=image_reader,
        configurations=tuple(_renamed(c, plan.plans_name, name) for c in plan.configurations),
    )


def check_move(plan: Plan, channel_names: Sequence[str]) -> None:
    """Refuse a plan that would treat the channels of the other dataset as what they are not.

    Raises
    ------
    PlanError
        If the number of channels differs, or a channel would be normalised otherwise than its name asks for.
    """
    configuration = plan.configurations[0]
    planned, named = configuration.normalization, tuple(normalization_of(name) for name in channel_names)
    if len(planned) != len(named):
        raise PlanError(
            f"The plan {plan.plans_name} of {plan.dataset_name} is for {len(planned)} channel(s); this dataset has "
            f"{len(named)} ({', '.join(channel_names)}). Use the plan of a dataset with as many."
        )
    wrong = [
        f"'{channel}' would be normalised as '{old}' and not as '{new}'"
        for channel, old, new in zip(channel_names, planned, named, strict=True)
        if old != new
    ]
    if wrong:
        raise PlanError(
            f"The plan {plan.plans_name} of {plan.dataset_name} does not fit the channels of this dataset: "
            f"{'; '.join(wrong)}. Name the channels in dataset.json as that dataset does if they are of the same kind."
        )


def _renamed(configuration: Configuration, before: str, after: str) -> Configuration:
    if before == after:
        return configuration
    old = configuration.data_identifier
    new = after + old.removeprefix(before) if old.startswith(before) else f"{after}_{old}"
    return replace(configuration, data_identifier=new)
