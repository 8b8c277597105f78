"""The whole job for instances: from folders of pictures with numbered objects and a time to a model and a page.

Every stage keeps what it did in the run's folder, so the same command goes on where an interrupted one stopped.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from delineate import __version__
from delineate.errors import DatasetError, UsageError
from delineate.execution import Cancellation, Progress, Silent, write_text
from delineate.formats.datasets.instance_dataset import is_instance_dataset, open_instance_dataset
from delineate.formats.datasets.verify_instances import verify_instances
from delineate.formats.instance_card import write_card
from delineate.formats.instance_package import DOCUMENT, WEIGHTS, is_instance_package
from delineate.formats.recipe_json import recipe_from_json, recipe_to_json
from delineate.metrics.decoding_choice import MOST_PIXELS, MOST_SETTINGS
from delineate.metrics.instance_scores import InstanceScores
from delineate.planning.machine import Machine
from delineate.planning.recipe import Recipe
from delineate.preprocessing.pictures import Zoom
from delineate.reports import Fact
from delineate.reports.document import Drawing
from delineate.reports.instance_page import InstanceFindings, chosen_pictures, draw_instances, render_instances
from delineate.training.history import METRICS_FILE
from delineate.training.instances import InstanceAssignment, measure_instance_step
from delineate.training.loop import TrainedFold
from delineate.training.machine import AUTO, find_machine
from delineate.workflows.conclude_instances import InstanceConclusion, conclude_instances
from delineate.workflows.hold_out_instances import FOLDS
from delineate.workflows.learn_candidates import SHARE
from delineate.workflows.run_folder import INSTANCE_PLAN
from delineate.workflows.run_instances import (
    TRAINING,
    InstanceRun,
    assignment_of,
    plan_instances,
    train_instances,
)
from delineate.workflows.start_instances import InstanceStart, read_instance_start

STANDARD_STEPS = 40_000
"""Without a budget: about 320 000 crops, twice the published schedule of StarDist on the same data."""
LEAST_STEPS = 100
MODEL, REPORT, CARD = "model", "report.html", "card.md"
FORWARD_SHARE = 0.3
"""Time of predicting a pixel relative to training on it."""
DECODING_SECONDS = 0.4e-6
"""Per pixel and decoding, measured on one core."""
LEARNING_SECONDS = 3.0
"""Of a scorer of candidates, on two cores."""
REPORT_SECONDS = 10.0
MOST_WARNINGS = 12
MOST_RESERVE = 0.3
"""Largest part of a budget kept free for scoring."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceSettings:
    """What the user asked for."""

    budget_seconds: float | None
    """Wall-clock time for everything; None: 40 000 steps."""
    pixel_um: float | None = None
    """Micrometres per pixel of all pictures; None: not told, and never guessed."""
    device: str = AUTO
    licence: str = ""
    """Under which the model may be passed on; it follows from the licences of the data."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Owner and licence of data sets by their folder's name, for the model's card."""
    command: str = "delineate run"
    start_model: Path | None = None
    """A trained model of instances to start from; None: from random weights."""
    fold: int = 0
    """Which part of the pictures is held out, from 0."""

    def __post_init__(self) -> None:
        if not 0 <= self.fold < FOLDS:
            raise UsageError(f"Folds of pictures with objects are 0 to {FOLDS - 1}; got {self.fold}.")
        if self.fold and self.start_model is not None:
            raise UsageError(
                f"--fold {self.fold} and --from exclude each other: the model may have been trained on what that fold "
                "holds out. Leave one of them away."
            )
        if self.pixel_um is not None and not 0 < self.pixel_um < float("inf"):
            raise UsageError(f"The pixel size must be above 0 micrometres; got {self.pixel_um}.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class InstanceOutcome:
    """What the whole job left behind."""

    conclusion: InstanceConclusion
    model: Path
    report: Path
    seconds: float


@dataclass(kw_only=True)
class _Stopwatch:
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


def run_instance_dataset(
    sources: Sequence[Path],
    out: Path,
    settings: InstanceSettings,
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> InstanceOutcome:
    """Verify, plan, train, choose the decoding, score and report.

    Parameters
    ----------
    sources
        Folders of the data sets that train together.
    out
        The run's folder; made if needed. An interrupted run of the same data sets goes on there.
    settings
        What was asked for.
    progress, cancellation
        Where to tell how far it is, and who may stop it.

    Raises
    ------
    DelineateError
        Whatever a stage raises; what earlier stages did stays in ``out``.
    """
    progress, cancellation = progress or Silent(), cancellation or Cancellation()
    watch = _Stopwatch()
    _require_known(settings.sources, sources)
    if strange := [str(source) for source in sources if not is_instance_dataset(source)]:
        raise DatasetError("Data sets of instances can be trained together only with others of their kind.", strange)
    start = None if settings.start_model is None else read_instance_start(settings.start_model)
    _claim(out, sources, settings, start)
    _require_free(out / MODEL)
    machine = find_machine(settings.device)
    odd = _oddities(sources, progress, cancellation)
    run = plan_instances(
        sources,
        out,
        budget_seconds=settings.budget_seconds,
        iterations=STANDARD_STEPS,
        pixel_um=settings.pixel_um,
        machine=machine,
        start=start,
        fold=settings.fold,
    )
    assignment = assignment_of(run)
    run = _decided(run, assignment, settings, machine, watch)
    trained = train_instances(
        run,
        device=machine.device,
        assignment=replace(assignment, recipe=run.recipe),
        progress=progress,
        cancellation=cancellation,
    )
    conclusion = conclude(run, trained, settings, machine.device, progress=progress, cancellation=cancellation)
    _report(run, trained, conclusion, _Circumstances(settings=settings, machine=machine, watch=watch, odd=odd))
    return InstanceOutcome(conclusion=conclusion, model=out / MODEL, report=out / REPORT, seconds=watch.elapsed)


def conclude(
    run: InstanceRun,
    trained: TrainedFold,
    settings: InstanceSettings,
    device: str = "cpu",
    *,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> InstanceConclusion:
    """Choose the decoding, score, and write the model with its card; a model that stands there is replaced.

    Raises
    ------
    ResourceError
        If something cannot be written.
    Interrupted
        If a stop was requested.
    """
    target = run.folder / MODEL
    _remove_model(target)
    facts = {
        "command": settings.command,
        "data": [dataset.name for dataset in run.datasets],
        "sources": dict(settings.sources),
        "held_out": {name: list(ids) for name, ids in run.held_out_of.items()},
        "steps": trained.steps,
        "training_seconds": round(trained.seconds, 1),
        "parameters": sum(tensor.numel() for tensor in trained.weights.values()),
        **_origin(run),
    }
    conclusion = conclude_instances(
        run,
        trained.weights,
        target,
        licence=settings.licence,
        facts=facts,
        device=device,
        progress=progress,
        cancellation=cancellation,
    )
    write_card(target / CARD, conclusion.package)
    return conclusion


def _origin(run: InstanceRun) -> dict[str, Any]:
    _, transfer = run.fresh_network()
    return {} if run.start is None or transfer is None else {"origin": run.start.facts(transfer)}


def _oddities(sources: Sequence[Path], progress: Progress, cancellation: Cancellation) -> tuple[str, ...]:
    """Read all data; faults are raised, and what is odd is returned."""
    datasets = [open_instance_dataset(source) for source in sources]
    checked = [verify_instances(dataset, progress=progress, cancellation=cancellation) for dataset in datasets]
    return tuple(warning for verification in checked for warning in verification.warnings)


def _require_known(told: Mapping[str, str], sources: Sequence[Path]) -> None:
    names = {source.name for source in sources}
    if unknown := sorted(set(told) - names):
        raise UsageError(f"Sources are told of {', '.join(unknown)}, but the data sets are {', '.join(sorted(names))}.")


def _claim(out: Path, sources: Sequence[Path], settings: InstanceSettings, start: InstanceStart | None) -> None:
    """Write down what the folder is for, or check that it is for the same.

    Raises
    ------
    UsageError
        If the folder holds a run with other settings.
    """
    path = out / "run.json"
    wanted: dict[str, Any] = {
        "datasets": [str(source.resolve()) for source in sources],
        "budget_seconds": settings.budget_seconds,
        "pixel_um": settings.pixel_um,
        "from": None if start is None else start.package.identity,
        "fold": settings.fold or None,  # folders of before do not tell it
    }
    if path.is_file():
        stood = json.loads(path.read_text(encoding="utf-8"))
        differing = [
            f"{key} was {stood.get(key)} and is now {wanted[key]}" for key in wanted if stood.get(key) != wanted[key]
        ]
        if differing:
            raise UsageError(
                f"{out} holds a run with other settings: {'; '.join(differing)}. Use the same ones to go on, or choose "
                "another output folder."
            )
    write_text(path, json.dumps(wanted, indent=1))


def _decided(
    run: InstanceRun, assignment: InstanceAssignment, settings: InstanceSettings, machine: Machine, watch: _Stopwatch
) -> InstanceRun:
    """Return the run with the recipe that fits the time, or with the one that was decided before."""
    path = run.folder / INSTANCE_PLAN
    if path.is_file():
        stood = json.loads(path.read_text(encoding="utf-8"))
        recipe = recipe_from_json(stood["recipe"], source=str(path))
        return replace(run, recipe=recipe, reasons=tuple(stood["reasons"]))
    recipe, reason = run.recipe, f"{run.recipe.iterations} steps, as no time was set."
    if settings.budget_seconds is not None:
        seconds = measure_instance_step(assignment, machine.device)
        recipe, reason = _fitted(run, seconds, settings.budget_seconds - watch.elapsed, settings.budget_seconds)
    format_words = f"Training on {machine.device} in {recipe.precision}: {_why_format(machine)}."
    pixel = "not told" if run.pixel_um is None else f"{run.pixel_um:g} micrometres, as told"
    run = replace(run, recipe=recipe, reasons=(*run.reasons, format_words, reason, f"Pixel size: {pixel}."))
    write_text(path, json.dumps({"recipe": recipe_to_json(recipe), "reasons": list(run.reasons)}, indent=1))
    return run


def _why_format(machine: Machine) -> str:
    return "the device computes in it" if machine.bfloat16 else "the device has no instructions for bfloat16"


def _fitted(run: InstanceRun, step_seconds: float, left: float, budget: float) -> tuple[Recipe, str]:
    """Return the recipe for the time that is left, and why."""
    recipe = run.recipe
    pixels = float(sum(_pixels(run)))
    per_pixel = FORWARD_SHARE * step_seconds / (recipe.batch_size * recipe.patch_size[0] * recipe.patch_size[1])
    groups = 2 * len(run.datasets)
    passes = 1 if run.start is None else 2  # what the training starts from is scored too
    searched = MOST_SETTINGS * min(pixels, groups * float(MOST_PIXELS))
    scoring = passes * pixels * (per_pixel + 2 * DECODING_SECONDS) + searched * DECODING_SECONDS
    learning = LEARNING_SECONDS + SHARE * left  # which candidates are objects
    reserve = min(REPORT_SECONDS + learning + min(scoring, 4 * pixels * per_pixel + 30), MOST_RESERVE * budget)
    seconds = max(1.0, left - reserve)
    steps = max(LEAST_STEPS, round(seconds / step_seconds))
    reason = (
        f"A step takes {step_seconds:.2f} s here, so {seconds:.0f} s are enough for about {steps} steps; "
        f"{reserve:.0f} s are kept free for scoring."
    )
    return replace(recipe, iterations=min(steps, STANDARD_STEPS), budget_seconds=seconds), reason


def _pixels(run: InstanceRun) -> list[int]:
    """Return the pixels of every held-out picture as the network sees them."""
    sizes = []
    for dataset, names, zoom in zip(run.datasets, run.held_out, run.zooms, strict=True):
        chosen = set(names)
        for files in (case for case in dataset.cases if case.case_id in chosen):
            rows, columns = dataset.load(files).instances.shape
            sizes.append(round(rows * columns * zoom**2))
    return sizes


def _require_free(target: Path) -> None:
    if target.exists() and not is_instance_package(target):
        raise UsageError(f"{target} stands where the model is to be written, and is none; move it away.")


def _remove_model(target: Path) -> None:
    """Remove a model that an earlier conclusion of the same run left."""
    _require_free(target)
    if target.exists():
        for name in (DOCUMENT, WEIGHTS, CARD):
            (target / name).unlink(missing_ok=True)
        target.rmdir()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Circumstances:
    """What the page tells besides data and scores."""

    settings: InstanceSettings
    machine: Machine
    watch: _Stopwatch
    odd: tuple[str, ...]
    """What was odd with the data."""


def _report(
    run: InstanceRun, trained: TrainedFold, conclusion: InstanceConclusion, circumstances: _Circumstances
) -> None:
    package, machine = conclusion.package, circumstances.machine
    findings = InstanceFindings(
        title=package.name,
        groups=conclusion.groups,
        types=conclusion.types,
        type_means=(_number(package.facts["mPQ+"]), _number(package.facts["mPQ (PanNuke)"])),
        pictures=conclusion.pictures,
        drawings=tuple(_drawings(conclusion)),
        decisions=(*run.reasons, _decoding_words(conclusion), *map(_before_words, conclusion.before)),
        curve=_curve(run.folder / TRAINING / METRICS_FILE),
        facts=(
            Fact(label="Command", value=circumstances.settings.command),
            Fact(label="Data", value="; ".join(f"{d.name}: {len(d.cases)} pictures" for d in run.datasets)),
            Fact(label="Training", value=f"{trained.steps} steps in {trained.seconds / 60:.1f} min"),
            Fact(label="Machine", value=f"{machine.device}, {machine.cores} cores, {platform.machine()}"),
            Fact(label="Time used", value=f"{circumstances.watch.elapsed / 60:.1f} min in this session"),
            Fact(label="Software", value=f"delineate {__version__}"),
            Fact(label="Date", value=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"),
        ),
        warnings=(*_warnings(run, conclusion, trained), *_shortened(circumstances.odd)),
    )
    render_instances(findings, run.folder / REPORT)


def _drawings(conclusion: InstanceConclusion) -> list[Drawing]:
    by_id = {(one.group, one.files.case_id): one for one in conclusion.held}
    drawings = []
    for role, scored in chosen_pictures(conclusion.pictures):
        held = by_id[scored.group, scored.case_id]
        picture = held.dataset.load(held.files).picture
        shown = Zoom.by((picture.shape[0], picture.shape[1]), held.zoom).picture(picture)
        found = held.found(conclusion.package.decoding)
        drawings.append(draw_instances(role, scored, shown, found, held.instances))
    return drawings


def _decoding_words(conclusion: InstanceConclusion) -> str:
    decoding, choice = conclusion.package.decoding, conclusion.choice
    learnt = (
        ""
        if decoding.scorer is None
        else f"; which of these are objects, alone or joined, was learnt; each is worth over {decoding.scorer.least:g}"
    )
    return (
        f"Objects are decoded with foreground {decoding.foreground:g}, prominence {decoding.prominence:g}, smoothing "
        f"{decoding.smooth:g} pixels{learnt}: the best of {len(choice.tried)} settings on "
        f"{choice.n_pictures} held-out {'picture' if choice.n_pictures == 1 else 'pictures'}."
    )


def _before_words(group: InstanceScores) -> str:
    return (
        f"{group.group}: before this training the model that it started from reached an AP@0.5 of {group.ap50:.3f} and "
        f"a PQ of {group.pq:.3f} on the same held-out pictures."
    )


def _warnings(run: InstanceRun, conclusion: InstanceConclusion, trained: TrainedFold) -> tuple[str, ...]:
    found = list(trained.notices)
    if not conclusion.held:
        found.append("No picture was held out: all look alike or belong to one group. Add pictures of another field.")
    elif len(conclusion.held) < 10:
        found.append(f"Held-out pictures: only {len(conclusion.held)}; the scores are rough.")
    if len(set(run.zooms)) > 1:
        found.append(
            "The data sets have objects of different size; give --diameter when pictures are segmented with this model."
        )
    if run.start is not None and (seen := run.start.seen(run.held_out_of)):
        found.append(
            f"The model that this one started from was trained on data of the name {', '.join(seen)}; it may have seen "
            "the held-out pictures, and the scores may be too good."
        )
    if trained.steps < 2000 and run.start is None:
        found.append(f"The training had {trained.steps} steps only; a longer one will find more.")
    return tuple(found)


def _shortened(warnings: Sequence[str]) -> tuple[str, ...]:
    more = len(warnings) - MOST_WARNINGS
    return (*warnings[:MOST_WARNINGS], *([f"And {more} more remarks on the data."] if more > 0 else []))


def _curve(path: Path) -> tuple[tuple[float, float, float], ...]:
    if not path.is_file():
        return ()
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    scored = [record for record in records if {"PQ", "AP50"} <= set(record.get("dice") or ())]
    return tuple((r["seconds"] / 60, float(r["dice"]["PQ"]), float(r["dice"]["AP50"])) for r in scored)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
