"""What control charts see of a drift: 60 days of real cases, with a disturbance injected after day 40.

Drafts are predictions of a run on the Hippocampus data, each case by the model of the fold that never saw it (without
mirroring); references stand for what people approve. Three cases a day in a shuffled order; from day 41 on every image
(and, where geometry changes, its reference) is disturbed before it is segmented.

    python benchmarks/monitoring_drift.py --data DATASET --run RUN --out FOLDER

writes per scenario a ledger, the page of charts, and ``first_alarms.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from delineate.case import Image, LabelMap
from delineate.execution import Cancellation, Silent
from delineate.formats.images import read_image, read_labels, write_image, write_labels
from delineate.formats.monitoring_table import EditRow
from delineate.geometry.grid import Grid
from delineate.workflows.model import Model, load_model
from delineate.workflows.monitor_cases import (
    EditMeasure,
    chart_source,
    edit_thresholds,
    monitoring_plan,
    named_structures,
    record_edits,
)
from delineate.workflows.monitor_inputs import InputLog, log_cases
from delineate.workflows.segment_case import segment_case

DAYS, PER_DAY, DRIFT_AFTER, BASELINE = 60, 3, 40, 60
WATCHED = {"progress": Silent(), "cancellation": Cancellation()}


def thinned(image: Image) -> Image:
    """Every other slice is missing and the header does not know it."""
    array = image.array[:, ::2]
    grid = Grid(
        shape=array.shape[1:],
        spacing_mm=image.grid.spacing_mm,
        origin_mm=image.grid.origin_mm,
        direction=image.grid.direction,
    )
    return Image(array=array, grid=grid)


def mirrored(image: Image) -> Image:
    """Front and back are exchanged and the header does not know it."""
    return Image(array=image.array[:, :, ::-1].copy(), grid=image.grid)


def scaled(image: Image) -> Image:
    """Another scale of intensities and a compressed contrast, as after a change of the export."""
    array = image.array.astype(np.float32)
    low, high = np.percentile(array, [0.5, 99.5])
    return Image(array=1000 * np.clip((array - low) / (high - low), 0, 1) ** 0.4, grid=image.grid)


SCENARIOS: dict[str, tuple[Callable[[Image], Image], bool] | None] = {
    "no drift": None,
    "intensity": (scaled, False),
    "mirrored": (mirrored, True),
    "missing slices": (thinned, True),
}
"""Name -> what happens to an image, and whether its reference changes with it."""


def main() -> None:
    """Run all scenarios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenario", nargs="+", default=list(SCENARIOS), choices=SCENARIOS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folds = {
        p.name.removesuffix(".nii.gz"): fold
        for fold in "01234"
        for p in sorted((options.run / f"fold_{fold}" / "validation").glob("*.nii.gz"))
    }
    order = np.random.default_rng(options.seed).permutation(sorted(folds))[: DAYS * PER_DAY]
    models = {fold: load_model(options.run / "model", folds=[fold], mirroring=False) for fold in "01234"}
    for name in options.scenario:
        folder = options.out / name.replace(" ", "_")
        for number, case_id in enumerate(order):
            day = number // PER_DAY + 1
            prepare(
                options, str(case_id), folds[case_id], models, folder, SCENARIOS[name] if day > DRIFT_AFTER else None
            )
        result = watch(folder, [str(c) for c in order], options.run / "dataset.json", f"Drift: {name}")
        (folder / "first_alarms.json").write_text(json.dumps(result, indent=1))
        print(name, json.dumps(result, indent=1))


def prepare(
    options: argparse.Namespace,
    case_id: str,
    fold: str,
    models: dict[str, Model],
    folder: Path,
    disturbance: tuple[Callable[[Image], Image], bool] | None,
) -> None:
    """Write image, draft and approved label map of one case."""
    file = f"{case_id}.nii.gz"
    paths = {part: folder / part / file for part in ("images", "drafts", "approved")}
    if all(path.exists() for path in paths.values()):
        return
    image = read_image(options.data / "imagesTr" / file)
    reference = read_labels(options.data / "labelsTr" / file)
    ordinary = options.out / "ordinary" / file
    if disturbance is None:
        if not ordinary.exists():
            write_labels(ordinary, segment_case(image, models[fold]).labels)
        draft = read_labels(ordinary)
    else:
        change, geometry = disturbance
        image = change(image)
        if geometry:
            moved = change(Image(array=reference.array[None], grid=reference.grid))
            reference = LabelMap(array=moved.array[0], grid=moved.grid)
        draft = segment_case(image, models[fold]).labels
    write_image(paths["images"], image)
    write_labels(paths["approved"], reference)
    write_labels(paths["drafts"], draft)


def watch(folder: Path, order: list[str], declaration: Path, title: str) -> dict[str, object]:
    """Record everything in the order of the days and draw the charts."""
    ledger = folder / "ledger.jsonl"
    for leftover in folder.glob("ledger.jsonl*"):
        leftover.unlink()
    structures = named_structures([], declaration)
    days = {case_id: f"day {number // PER_DAY + 1:02d}" for number, case_id in enumerate(order)}
    for case_id in order:
        log = InputLog(
            images=folder / "images" / f"{case_id}.nii.gz",
            predictions=folder / "drafts",
            structures=structures,
            day=days[case_id],
        )
        log_cases(log, ledger, actor="delineate", **WATCHED)
    rows = [
        EditRow(
            draft=folder / "drafts" / f"{c}.nii.gz",
            approved=folder / "approved" / f"{c}.nii.gz",
            case_id=c,
            reader="reference",
            seconds=None,
            site="",
            day=days[c],
        )
        for c in order
    ]
    measure = EditMeasure(structures=structures, thresholds=edit_thresholds(0.75, None, 0.4))
    record_edits(rows, ledger, measure, **WATCHED)
    plan = monitoring_plan(BASELINE, run_length=200, group=10, window=20)
    found = chart_source(ledger, plan, folder / "report", title=title)
    first: dict[str, str] = {}
    for alarm in found.alarms:
        first.setdefault(f"{alarm.feature} / {alarm.chart}", f"{alarm.day}: {alarm.words}")
    early = sum(alarm.index < DRIFT_AFTER * PER_DAY for alarm in found.alarms)
    return {"first": first, "series": len(found.charts), "alarms_before_the_drift": early, "plan": asdict(plan)}


if __name__ == "__main__":
    main()
