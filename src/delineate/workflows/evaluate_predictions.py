"""A folder of predictions against a folder of references: scores, nnU-Net's summary and a report."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from delineate.errors import SomeCasesFailed
from delineate.execution import Cancellation, Progress
from delineate.formats.datasets import CaseFiles, Dataset, open_dataset
from delineate.metrics.summary import Summary, summarise
from delineate.workflows.score_cases import prediction_path, score_cases
from delineate.workflows.write_report import Findings, software_facts, write_report


def evaluate_predictions(
    predictions: Path,
    dataset: Dataset,
    out: Path,
    *,
    command: str = "delineate evaluate",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Summary:
    """Score the predictions of a dataset's cases; write ``summary.json`` and ``report.html``.

    Every case of the dataset that has a prediction of its name is scored, test cases with references included.

    Raises
    ------
    SomeCasesFailed
        If no prediction fits, or some cannot be scored; what could be scored is written.
    """
    known = [case for case in (*dataset.training, *dataset.testing) if case.labels is not None]
    prediction_of = partial(_prediction_in, predictions, dataset)
    present = tuple(case for case in known if prediction_of(case).exists())
    if not present:
        example = prediction_of(known[0]).name if known else "{id}" + dataset.file_ending
        raise SomeCasesFailed(
            f"{predictions}: expected predictions named like the dataset's cases, such as {example}; found none."
        )
    scored = score_cases(present, dataset, prediction_of, out, progress=progress, cancellation=cancellation)
    findings = Findings(
        evaluation="test",
        scores=scored.scores,
        failed=scored.failed,
        prediction_of=prediction_of,
        cases=present,
        caveats=("Whether these cases were part of the model's training is not known to this evaluation.",),
    )
    write_report(findings, dataset, out / "report.html", provenance=software_facts(command, 0))
    if scored.failed:
        raise SomeCasesFailed(
            f"{len(scored.failed)} of {len(present)} cases could not be scored; the others are in {out}.",
            [f"{failure.case_id}: {failure.reason}" for failure in scored.failed],
        )
    return summarise(scored.scores)


def evaluate_folder(
    predictions: Path,
    source: Path,
    out: Path,
    *,
    repairs: frozenset[str] = frozenset(),
    command: str = "delineate evaluate",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> Summary:
    """Open a dataset and score the predictions of its cases; see :func:`evaluate_predictions`.

    Raises
    ------
    DatasetError
        If the dataset's folder is not understood.
    SomeCasesFailed
        If no prediction fits, or some cannot be scored.
    """
    dataset = open_dataset(source, repairs=repairs)
    return evaluate_predictions(
        predictions, dataset, out, command=command, progress=progress, cancellation=cancellation
    )


def _prediction_in(folder: Path, dataset: Dataset, case: CaseFiles) -> Path:
    return prediction_path(folder, case.case_id, dataset)
