"""FHIR transactions against fhir.resources, the npm validator and this project's own tables."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drafts import draft_of, structure
from releases import approve_at_once

from delineate.clinical.dicom_seg import write_draft_seg
from delineate.clinical.fhir import (
    DicomFile,
    FhirSettings,
    Outcome,
    Version,
    approved_bundle,
    describe_file,
    draft_bundle,
    write_bundle,
)
from delineate.clinical.fhir_check import check_bundle
from delineate.clinical.measurements import measure_structures
from delineate.clinical.release import sha256_of
from delineate.clinical.results import DraftResult

VERSIONS: tuple[Version, ...] = ("R4B", "R5")
VALIDATOR = """
const { Fhir } = require('fhir');
const bundle = JSON.parse(require('fs').readFileSync(process.argv[1]));
const found = new Fhir().validate(bundle, { errorOnUnexpected: true });
console.log(JSON.stringify(found.messages.filter((m) => m.severity === 'error' || m.severity === 'fatal')));
"""


@pytest.fixture
def draft() -> DraftResult:
    labels = np.zeros((4, 6, 6), dtype=np.uint8)
    labels[1:3, 2:5, 1:4] = 1
    labels[0, 0, 0] = 2
    return draft_of(labels, structures=(structure("liver", 1), structure("odd name / [%]", 2)))


@pytest.fixture
def file(draft: DraftResult, tmp_path: Path) -> DicomFile:
    write_draft_seg(tmp_path / "seg.dcm", draft)
    return describe_file(tmp_path / "seg.dcm")


def bundles(draft: DraftResult, file: DicomFile, folder: Path, version: Version) -> Iterator[dict[str, Any]]:
    measures = measure_structures(draft)
    yield draft_bundle(draft, measures, [file], FhirSettings(version=version))
    approved = approve_at_once(draft, folder)
    outcomes: tuple[Outcome, ...] = ("final", "amended", "entered-in-error")
    for outcome in outcomes:
        settings = FhirSettings(version=version, outcome=outcome, previous="abc" if outcome == "amended" else "")
        yield approved_bundle(approved, measures, [file], settings)


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("version", VERSIONS)
def test_bundles_are_valid(version: Version, draft: DraftResult, file: DicomFile, tmp_path: Path) -> None:
    pytest.importorskip("fhir.resources", reason="fhir.resources is not installed (dev extra)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if version == "R5":
            from fhir.resources.bundle import Bundle
        else:
            from fhir.resources.R4B.bundle import Bundle
    for bundle in bundles(draft, file, tmp_path, version):
        assert check_bundle(bundle, version=version) == ()
        Bundle.model_validate(copy.deepcopy(bundle))


def test_the_npm_validator_finds_no_error(draft: DraftResult, file: DicomFile, tmp_path: Path) -> None:
    """The validator knows required bindings offline; install it with ``npm install fhir`` and name its folder."""
    node, modules = shutil.which("node"), os.environ.get("DELINEATE_NODE_MODULES", "")
    if node is None or not (Path(modules) / "fhir").is_dir():
        pytest.skip("needs node, and DELINEATE_NODE_MODULES: a node_modules folder with the package `fhir`")
    for number, bundle in enumerate(bundles(draft, file, tmp_path, "R4B")):
        write_bundle(tmp_path / "bundle.json", bundle)
        command = [node, "-e", VALIDATOR, str(tmp_path / "bundle.json")]
        done = subprocess.run(command, env={**os.environ, "NODE_PATH": modules}, capture_output=True, check=True)
        assert json.loads(done.stdout) == [], number


@pytest.mark.parametrize("version", VERSIONS)
def test_status_follows_the_review(version: Version, draft: DraftResult, file: DicomFile, tmp_path: Path) -> None:
    found = list(bundles(draft, file, tmp_path, version))
    expected = ["preliminary", "final", "amended", "entered-in-error"]
    for bundle, status in zip(found, expected, strict=True):
        assert {o["status"] for o in resources(bundle, "Observation")} == {status}
        assert resources(bundle, "DiagnosticReport")[0]["status"] == status
        assert resources(bundle, "DocumentReference")[0]["docStatus"] == status
    roles = [len(resources(bundle, "Provenance")[0]["agent"]) for bundle in found]
    assert roles == [1, 2, 2, 2]
    urls = [[e["request"]["url"] for e in b["entry"] if e["request"]["method"] == "PUT"] for b in found]
    assert urls[0] == urls[1] == urls[2]  # what was preliminary becomes final in place
    assert "revision" in {e["role"] for e in resources(found[2], "Provenance")[0]["entity"]}


def test_a_rejected_draft_is_entered_in_error(draft: DraftResult, file: DicomFile) -> None:
    settings = FhirSettings(outcome="entered-in-error")
    bundle = draft_bundle(draft, measure_structures(draft), [file], settings)
    assert resources(bundle, "DiagnosticReport")[0]["status"] == "entered-in-error"
    assert check_bundle(bundle) == ()


def test_what_a_bundle_says(draft: DraftResult, file: DicomFile, tmp_path: Path) -> None:
    bundle = draft_bundle(draft, measure_structures(draft), [file])
    volume = resources(bundle, "Observation")[0]
    assert volume["valueQuantity"] == {
        "value": round(2 * 9 * 2.5 * 0.81 / 1000, 3),
        "unit": "mL",
        "system": "http://unitsofmeasure.org",
        "code": "mL",
    }
    assert "effectiveDateTime" not in volume  # the images have no date
    draft.source.header.StudyDate = "20260102"
    dated = draft_bundle(draft, measure_structures(draft), [file])
    assert resources(dated, "Observation")[0]["effectiveDateTime"] == "2026-01-02"
    assert volume["meta"]["security"][0]["code"] == "AIAST"
    assert volume["subject"]["identifier"]["value"] == "P1"
    document = resources(bundle, "DocumentReference")[0]
    assert document["identifier"][1]["value"] == sha256_of(tmp_path / "seg.dcm")
    study = resources(bundle, "ImagingStudy")[0]
    assert study["identifier"][0]["value"] == f"urn:oid:{draft.source.study_uid}"
    assert file.series_uid in {s["uid"] for s in study["series"]}
    assert "conclusion" not in resources(bundle, "DiagnosticReport")[0]
    targets = {t["reference"] for t in resources(bundle, "Provenance")[0]["target"]}
    assert len(targets) == len(bundle["entry"]) - 2  # all but the device and itself
    for entry in bundle["entry"]:
        assert re.fullmatch(r"[A-Za-z]+(\?identifier=[\w./:|-]+)?", entry["request"]["url"])


def test_a_patient_without_identifier_is_not_invented(draft: DraftResult, file: DicomFile) -> None:
    draft.source.header.PatientID = ""
    bundle = draft_bundle(draft, measure_structures(draft), [file])
    assert "identifier" not in resources(bundle, "Observation")[0]["subject"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: resources(b, "Observation")[0].update(status="nonsense"), "nonsense"),
        (lambda b: resources(b, "Observation")[0]["valueQuantity"].update(code="furlong"), "furlong"),
        (lambda b: resources(b, "Observation")[0].update(device={"reference": "urn:uuid:none"}), "leads to nothing"),
        (lambda b: resources(b, "Provenance")[0]["entity"][0].update(role="guess"), "guess"),
        (lambda b: b["entry"][1].update(fullUrl=b["entry"][0]["fullUrl"]), "there twice"),
        (lambda b: b["entry"][0]["request"].update(url="Patient"), "not the type"),
        (lambda b: b.update(type="parcel"), "parcel"),
    ],
)
def test_the_check_finds_what_is_wrong(change: Any, words: str, draft: DraftResult, file: DicomFile) -> None:
    bundle = draft_bundle(draft, measure_structures(draft), [file])
    assert check_bundle(bundle) == ()
    change(bundle)
    assert any(words in fault for fault in check_bundle(bundle))
