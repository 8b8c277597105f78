"""How far our label maps agree with nnU-Net's: kinds of models x data, and by which cause they differ.

nnU-Net's own classes make the models (trained for some steps to tell brightness levels apart, so that logits have
margins; with untouched random weights every voxel is a near-tie), nnU-Net's predictor and ours segment the same files,
both on the processor in float32. nnU-Net runs three times, so that causes can be told apart:

as it is            half-precision Gaussian weights, sums and stored logits
without half sums   float32 sums and logits:                     the difference is due to half-precision sums and logits
exact               float32 Gaussian too:                        the difference is due to the half-precision Gaussian

What is left between the exact run and ours is float32 arithmetic in another order; near-ties (two heads closer than
1e-5 of the largest logit) are counted among it. ``nnunet-like`` is our own answer with nnU-Net's
roundings (``inference.half_sums``).

Needs DELINEATE_ORACLE_PYTHON; with DELINEATE_DATA (its folder ``hippocampus``, ``totalseg_reference``) also real data.
Usage: ``python benchmarks/parity_table.py [--rows N ...] [--model TRAINED_MODEL --images FOLDER]``; a trained model
may be anything that ``delineate predict`` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delineate.case.labels import LabelScheme
from delineate.formats.images import read_image, read_labels
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.inference import predict_logits
from delineate.inference.half_sums import predict_logits_in_half
from delineate.preprocessing import prepare, restore_labels
from delineate.preprocessing.restore import restore_probabilities
from delineate.workflows.exchange_models import export_for_nnunet, read_model
from delineate.workflows.model import load_model
from delineate.workflows.segment_folder import find_images
from parity_models import Kind, kinds, old_form

HEADINGS = ("model", "data", "voxels", "foreground", "equal", "differ", "half sums", "half Gaussian", "other")
HEADINGS += ("of it ties", "nnunet-like differs")
REQUIRED = 0.9999
STEPS = 120
TIE = 1e-5
PEER = Path(__file__).with_name("parity_peer.py")
COLUMNS = ("voxels", "foreground", "all", "sums", "gaussian", "other", "ties", "like")
RUNS = {"as it is": (True, True), "without half sums": (False, True), "exact": (False, False)}
"""Run of nnU-Net -> half-precision sums, half-precision Gaussian."""


def making(kind: Kind, folder: Path, steps: int) -> dict[str, Any]:
    """Return the step in which nnU-Net makes the model."""
    plans = json.loads(json.dumps(plan_to_json(kind.plan)))
    dims = kind.plan.configurations[0].dims
    return {
        "do": "make",
        "folder": str(folder),
        "plans": old_form(plans) if kind.old_form else plans,
        "dataset": dataset_json(
            channel_names=[f"c{i}" for i in range(kind.channels)],
            scheme=kind.scheme,
            training_cases=len(kind.images),
            file_ending=".nii.gz",
        ),
        "configuration": kind.configuration,
        "folds": list(kind.folds),
        "seed": 1,
        "steps": steps,
        "images": [[str(file) for file in files] for files in kind.images.values()],
        "mirror_axes": list(range(dims)) if kind.mirroring else None,
        "trainer": "nnUNetTrainer",
    }


def predicting(
    folder: Path, folds: Sequence[int | str], images: Mapping[str, Sequence[Path]], out: Path, mirroring: bool
) -> list[dict[str, Any]]:
    """Return the three steps in which nnU-Net predicts."""
    return [
        {
            "do": "predict",
            "folder": str(folder),
            "folds": list(folds),
            "images": {case: [str(file) for file in files] for case, files in images.items()},
            "out": str(out / name),
            "mirroring": mirroring,
            "half_sums": half_sums,
            "half_gaussian": half_gaussian,
        }
        for name, (half_sums, half_gaussian) in RUNS.items()
    ]


def ask(steps: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Let nnU-Net do the steps."""
    question = folder / "question.json"
    question.write_text(json.dumps(steps))
    command = [os.environ["DELINEATE_ORACLE_PYTHON"], "-W", "ignore", str(PEER), str(question)]
    settings = {**os.environ, "nnUNet_def_n_proc": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    if done.returncode:
        sys.exit(done.stderr[-3000:])


def compare(
    model_path: Path, images: Mapping[str, Sequence[Path]], theirs: Path, *, mirroring: bool
) -> dict[str, float]:
    """Return shares of voxels, over all images: disagreement with nnU-Net, in all and by cause."""
    model = load_model(model_path, device="cpu", precision="float32", mirroring=mirroring)
    counts: Counter[str] = Counter()
    for case, files in images.items():
        prepared = prepare(read_image(list(files)), None, model.package.plan, model.package.configuration)
        logits = predict_logits(model.ensemble, prepared.array, model.tiling)
        file = f"{case}{model.package.file_ending}"
        stock, no_half_sums, exact = (read_labels(theirs / name / file).array for name in RUNS)
        scheme = model.package.scheme
        ours = restore_labels(logits, prepared.trace, scheme).array
        halves = predict_logits_in_half(model.ensemble, prepared.array, model.tiling)
        like = restore_labels(halves, prepared.trace, scheme, mode="nnunet").array
        tied = near_tie(restore_probabilities(logits, prepared.trace, scheme), scheme)
        counts.update(
            voxels=ours.size,
            foreground=int((ours > 0).sum()),
            all=int((ours != stock).sum()),
            sums=int((stock != no_half_sums).sum()),
            gaussian=int((no_half_sums != exact).sum()),
            other=int((ours != exact).sum()),
            ties=int(((ours != exact) & tied).sum()),
            like=int((like != stock).sum()),
        )
    return {name: counts[name] / (1 if name == "voxels" else counts["voxels"]) for name in COLUMNS}


def near_tie(probabilities: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Say where two heads, or a region and one half, are as close as float32 arithmetic can tell."""
    if scheme.has_regions:
        return (np.abs(probabilities - 0.5) < TIE).any(0)
    highest = np.sort(probabilities, axis=0)[-2:]
    return highest[1] - highest[0] < TIE


def table(
    rows: Sequence[int] | None, trained: Path | None, images: Path | None, steps: int
) -> list[tuple[str, str, dict[str, float]]]:
    """Return one result per row."""
    results = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for number, kind in enumerate(kinds(root / "images")):
            if rows is not None and number not in rows:
                continue
            folder, out = root / f"{number}", root / f"{number}-theirs"
            ask([making(kind, folder, steps), *predicting(folder, kind.folds, kind.images, out, kind.mirroring)], root)
            results.append((kind.name, kind.data, compare(folder, kind.images, out, mirroring=kind.mirroring)))
            show(*results[-1])
        if trained is not None and images is not None:
            results.append(("trained: " + trained.name, images.name, trained_row(trained, images, root)))
            show(*results[-1])
    return results


def trained_row(trained: Path, images: Path, root: Path) -> dict[str, float]:
    """Return the result of a trained model, written for nnU-Net and read by it."""
    package = read_model(trained)
    folder = export_for_nnunet(package, root / "trained")
    found = {case.case_id: list(case.images) for case in find_images(images, len(package.channel_names))}
    some = dict(list(found.items())[:4])
    mirroring = bool(package.mirror_axes)
    folds = [int(fold) if fold.isdigit() else fold for fold in package.weights]
    ask(predicting(folder, folds, some, root / "trained-theirs", mirroring), root)
    return compare(trained, some, root / "trained-theirs", mirroring=mirroring)


def show(kind: str, data: str, shares: Mapping[str, float]) -> None:
    """Print one row."""
    words = [f"{shares[name]:.1e}" for name in ("all", "sums", "gaussian", "other", "ties", "like")]
    agree = 100 * (1 - shares["all"])
    print(
        f"| {kind} | {data} | {shares['voxels']:.0f} | {100 * shares['foreground']:.0f} % | {agree:.4f} % | "
        f"{' | '.join(words)} |",
        flush=True,
    )


def main() -> None:
    """Print the table; fail where less than the required share agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", help="only the rows of these numbers, counted from 0")
    parser.add_argument("--model", type=Path, help="a trained model, for one more row")
    parser.add_argument("--images", type=Path, help="images for the trained model")
    parser.add_argument("--steps", type=int, default=STEPS, help="training steps of each network; default %(default)s")
    options = parser.parse_args()
    if not os.environ.get("DELINEATE_ORACLE_PYTHON"):
        sys.exit("set DELINEATE_ORACLE_PYTHON to an interpreter that has nnunetv2")
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    results = table(options.rows, options.model, options.images, options.steps)
    _judge(results)


def _judge(results: Sequence[tuple[str, str, dict[str, float]]]) -> None:
    """Say which rows are below the required share, and fail where nnU-Net's rounding does not explain it."""
    stock = [kind for kind, _, shares in results if shares["all"] > 1 - REQUIRED]
    unexplained = [kind for kind, _, shares in results if max(shares["other"], shares["like"]) > 1 - REQUIRED]
    print(f"below {100 * REQUIRED} % of nnU-Net as it is: {', '.join(stock) or 'none'}")
    print(f"below it in nnU-Net's exact arithmetic, or with its rounding: {', '.join(unexplained) or 'none'}")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
