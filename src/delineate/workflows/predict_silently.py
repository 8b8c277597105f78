"""The silent arm of a study: predictions that nobody sees until the person's own contours are recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Unpack

from delineate.clinical.study import Study
from delineate.errors import DelineateError, Interrupted, ProtocolError, SomeCasesFailed
from delineate.execution import Watched
from delineate.formats.images import label_ending, read_image, read_labels, write_labels
from delineate.workflows.conduct_study import hidden_file, sha256_of
from delineate.workflows.model import load_model
from delineate.workflows.segment_case import segment_case
from delineate.workflows.segment_folder import find_images


def predict_silently(
    study: Study, model_path: Path, images: Path, *, device: str = "auto", **watched: Unpack[Watched]
) -> int:
    """Predict the enrolled cases of a silent arm into the study's hidden store; return how many were new.

    Files lie in a folder that only the owner may open, never beside the images; the ledger holds their SHA-256, the
    image's, and how they were made.

    Raises
    ------
    ProtocolError
        If the protocol is not locked or has no silent arm.
    ModelError
        If the model is missing or damaged.
    SomeCasesFailed
        If cases could not be predicted; the others are stored.
    Interrupted
        If a stop was requested; stored cases stay.
    """
    protocol, state = study.protocol(), study.state()
    if "silent" not in protocol.arms:
        raise ProtocolError(f"{study.root}: the protocol has no silent arm.")
    model = load_model(model_path, device=device)
    cases = find_images(images, len(model.package.channel_names))
    wanted = {c for c, e in state.enrolled.items() if "silent" in e.arms and c not in state.predicted}
    study.hidden.mkdir(mode=0o700, parents=True, exist_ok=True)
    new, failures = 0, []
    watched["progress"].start("silent predictions", len(cases))
    for case in cases:
        watched["cancellation"].check()
        if case.case_id in wanted:
            try:
                image = read_image(case.images)
                result = segment_case(image, model, case_id=case.case_id, cancellation=watched["cancellation"])
                target = study.hidden / f"{case.case_id}{label_ending(model.package.file_ending)}"
                write_labels(target, result.labels)
                target.chmod(0o600)
                payload = {
                    "file": target.name,
                    "sha256": sha256_of(target),
                    "images_sha256": [sha256_of(path) for path in case.images if path.is_file()],
                    "provenance": dataclasses.asdict(result.provenance),
                }
                study.record_prediction(case.case_id, payload, actor="delineate")
                new += 1
            except Interrupted:
                raise
            except DelineateError as error:
                failures.append(f"{case.case_id}: {error}")
        watched["progress"].advance(note="")
    watched["progress"].finish()
    if failures:
        raise SomeCasesFailed(f"{len(failures)} cases could not be predicted.", failures)
    return new


def reveal(study: Study, case_id: str, out: Path, *, actor: str) -> Path:
    """Copy a hidden prediction to where people see it, if it may be shown; the ledger says who did.

    Raises
    ------
    ProtocolError
        If it may not be shown yet, or was altered.
    UsageError
        If there is none.
    """
    path = hidden_file(study, study.require_revealable(case_id))
    target = out / path.name
    write_labels(target, read_labels(path))
    study.note_revealed(case_id, actor=actor)
    return target
