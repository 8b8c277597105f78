"""nnU-Net's commands that work on datasets: convert, measure, plan, prepare, look at."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from delineate.cli.nnunet_words import counted, nnunet_folders
from delineate.cli.session import Session
from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.workflows.nnunet_workspace import PlanSettings

DEFAULT_WORKERS = {"2d": 8, "3d_fullres": 4, "3d_lowres": 8}
"""nnU-Net's ``-np`` by configuration; 4 for others."""


def run_plan_and_preprocess(session: Session) -> int:
    """Measure datasets, plan, and prepare their cases."""
    from delineate.workflows.nnunet_workspace import extract_fingerprint, find_datasets, plan_experiment, preprocess

    options = session.options
    settings = _plan_settings(options)
    places = find_datasets(nnunet_folders(), [str(number) for number in options.d])
    for place in places:
        extract_fingerprint(
            place,
            verify=options.verify_dataset_integrity,
            clean=options.clean,
            workers=counted(options.npfp),
            **session.watched,
        )
    plans = [plan_experiment(place, settings) for place in places]
    for place, plan in zip(places, plans, strict=True):
        print(f"plans   {place.plan(plan.plans_name)}")
        if not options.no_pp:
            _tell_prepared(place.name, preprocess(place, plan.plans_name, _workers_of(options), **session.watched))
    return 0


def run_extract_fingerprint(session: Session) -> int:
    """Measure datasets."""
    from delineate.workflows.nnunet_workspace import extract_fingerprint, find_datasets

    options = session.options
    for place in find_datasets(nnunet_folders(), [str(number) for number in options.d]):
        extract_fingerprint(
            place,
            verify=options.verify_dataset_integrity,
            clean=options.clean,
            workers=counted(options.np),
            **session.watched,
        )
        print(f"fingerprint  {place.fingerprint}")
    return 0


def run_plan_experiment(session: Session) -> int:
    """Plan from fingerprints."""
    from delineate.workflows.nnunet_workspace import find_datasets, plan_experiment

    settings = _plan_settings(session.options)
    for place in find_datasets(nnunet_folders(), [str(number) for number in session.options.d]):
        plan = plan_experiment(place, settings)
        print(f"plans   {place.plan(plan.plans_name)}")
    return 0


def run_preprocess(session: Session) -> int:
    """Prepare the cases of a plan."""
    from delineate.workflows.nnunet_workspace import find_datasets, preprocess

    options = session.options
    for place in find_datasets(nnunet_folders(), [str(number) for number in options.d]):
        _tell_prepared(place.name, preprocess(place, options.plans_name, _workers_of(options), **session.watched))
    return 0


def run_move_plans(session: Session) -> int:
    """Use the plans of one dataset for another."""
    from delineate.workflows.nnunet_workspace import find_datasets, move_plans

    options = session.options
    source, target = find_datasets(nnunet_folders(), [options.s, options.t])
    print(f"plans   {move_plans(source, target, options.sp, options.tp)}")
    return 0


def run_convert_decathlon(session: Session) -> int:
    """Make a raw dataset of a Decathlon task."""
    from delineate.workflows.convert_decathlon import convert_decathlon

    options = session.options
    place = convert_decathlon(
        options.i, nnunet_folders(), number=options.overwrite_id, workers=counted(options.np), **session.watched
    )
    print(f"dataset {place.raw}")
    return 0


def run_convert_old_dataset(session: Session) -> int:
    """Make a raw dataset of a task of nnU-Net v1."""
    from delineate.workflows.convert_old_dataset import convert_old_dataset

    options = session.options
    place = convert_old_dataset(
        options.input_folder, options.output_dataset_name, nnunet_folders(), cancellation=session.cancellation
    )
    print(f"dataset {place.raw}")
    return 0


def run_plot_overlays(session: Session) -> int:
    """Draw one picture per case."""
    from delineate.workflows.nnunet_overlays import OverlayOrder, plot_overlays
    from delineate.workflows.nnunet_workspace import find_dataset

    options = session.options
    order = OverlayOrder(
        place=find_dataset(nnunet_folders(), options.d),
        out=options.o,
        channel=options.channel_idx,
        intensity=options.overlay_intensity,
        raw=options.use_raw,
        plans_name=options.p,
        configuration=options.c,
        workers=counted(options.np),
    )
    print(f"{len(plot_overlays(order, **session.watched))} pictures written to {order.out}")
    return 0


def _plan_settings(options: argparse.Namespace) -> PlanSettings:
    from delineate.workflows.nnunet_workspace import PlanSettings

    spacing = options.overwrite_target_spacing
    try:
        target = None if spacing is None else tuple(float(value) for value in spacing)
    except ValueError:
        raise UsageError(
            f"-overwrite_target_spacing takes three numbers, z y x in mm; got {' '.join(spacing)}."
        ) from None
    return PlanSettings(
        planner=options.pl,
        memory_gb=options.gpu_memory_target,
        target_spacing_mm=target,
        plans_name=options.overwrite_plans_name,
    )


def _workers_of(options: argparse.Namespace) -> dict[str, int]:
    """Return how many cases are prepared at a time, by configuration."""
    names: Sequence[str] = options.c
    given: Sequence[int] = options.np or [DEFAULT_WORKERS.get(name, 4) for name in names]
    counts = list(given) * len(names) if len(given) == 1 else list(given)
    if len(counts) != len(names):
        raise UsageError(
            f"-np takes one number, or one per configuration; got {len(given)} numbers for {' '.join(names)}."
        )
    return {name: counted(count) for name, count in zip(names, counts, strict=True)}


def _tell_prepared(dataset: str, counts: dict[str, int | None]) -> None:
    for configuration, count in counts.items():
        words = (
            "is not in the plans; left out" if count is None else f"{count} cases prepared; those that were ready kept"
        )
        print(f"{dataset} {configuration}: {words}")
