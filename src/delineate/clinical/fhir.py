"""A result as a FHIR transaction: what hospital records take of a segmentation, as plain JSON values of our own.

R4B by default, R5 on request. Drafts are preliminary; approved results final, or amended where they replace others;
what was withdrawn is entered in error. Everything carries the label that an algorithm asserted it (AIAST), and its
provenance. Patients and orders are referred to by identifier only; a conclusion is never written.

References
----------
HL7 FHIR R4B and R5; HL7 *AI Transparency on FHIR* (label AIAST); HL7 *DICOM SR to FHIR Resource Mapping*.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.errors import InvalidDicomError

from delineate import __version__
from delineate.clinical.attributes import MANUFACTURER, MODEL
from delineate.clinical.coding import SNOMED, Code, CodedStructure
from delineate.clinical.measurements import StructureMeasures
from delineate.clinical.release import sha256_of
from delineate.clinical.results import Approval, ApprovedResult, DraftResult
from delineate.errors import ImageReadError
from delineate.execution import write_text

Version = Literal["R4B", "R5"]
Outcome = Literal["final", "amended", "entered-in-error"]
Resource = dict[str, Any]

SYSTEMS: Mapping[str, str] = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
}
DICOM_UID = "urn:dicom:uid"
OWN = "https://delineate.invalid/fhir"
"""Prefix of identifiers that have no official system; ``.invalid`` never resolves (RFC 2606)."""
_VOLUME = Code(value="118565006", scheme=SNOMED, meaning="Volume")
_DIAMETER = Code(value="81827009", scheme=SNOMED, meaning="Diameter")
_LONG_AXIS = Code(value="103339001", scheme=SNOMED, meaning="Long axis")
_REPORT = ("http://loinc.org", "18748-4", "Diagnostic imaging study")
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_AI_LABEL = {
    "system": f"{_TERMINOLOGY}/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_UPDATED = ("Observation", "DiagnosticReport", "DocumentReference")
"""Written by conditional update: what was preliminary becomes final in place, and a repeated transaction makes nothing
twice. Study and device may be known already; they are created only if they are not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DicomFile:
    """A DICOM object that was written of a result."""

    name: str
    """File name."""
    modality: str
    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FhirSettings:
    """How a bundle is written."""

    version: Version = "R4B"
    outcome: Outcome = "final"
    """Of an approved result: ``amended`` if it replaces a released one. Of any: ``entered-in-error`` if it was rejected
    or recalled. A draft is preliminary otherwise."""
    previous: str = ""
    """Content hash of the version that this one replaces, for amended ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    draft: DraftResult
    approval: Approval | None
    settings: FhirSettings
    when: str

    @property
    def r5(self) -> bool:
        return self.settings.version == "R5"

    @property
    def status(self) -> str:
        withdrawn = self.settings.outcome == "entered-in-error"
        return "preliminary" if self.approval is None and not withdrawn else self.settings.outcome

    def reference(self, name: str) -> dict[str, str]:
        return {"reference": self.url(name)}

    def url(self, name: str) -> str:
        """Return the place of a resource in the bundle; the same for the same content."""
        seed = f"{self.draft.source.series_uid} {self.draft.content_sha256} {self.status} {name}"
        return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, seed)}"


def approved_bundle(
    approved: ApprovedResult,
    measures: Sequence[StructureMeasures],
    files: Sequence[DicomFile],
    settings: FhirSettings | None = None,
) -> Resource:
    """Return the transaction of an approved result.

    Raises
    ------
    ReviewError
        If the content changed after the approval.
    """
    approved.require_unchanged()
    return _bundle(approved.draft, approved.approval, measures, files, settings or FhirSettings())


def draft_bundle(
    draft: DraftResult,
    measures: Sequence[StructureMeasures],
    files: Sequence[DicomFile],
    settings: FhirSettings | None = None,
) -> Resource:
    """Return the transaction of a draft; everything in it is preliminary."""
    return _bundle(draft, None, measures, files, settings or FhirSettings())


def describe_file(path: Path, *, name: str = "") -> DicomFile:
    """Return what a bundle says of a DICOM file.

    Raises
    ------
    ImageReadError
        If the file is no DICOM object.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return DicomFile(
            name=name or path.name,
            modality=str(header.Modality),
            sop_class_uid=str(header.SOPClassUID),
            sop_instance_uid=str(header.SOPInstanceUID),
            series_uid=str(header.SeriesInstanceUID),
            sha256=sha256_of(path),
            size=path.stat().st_size,
        )
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError) as error:
        raise ImageReadError(f"{path}: expected a DICOM object; the file cannot be read ({error}).") from error


def write_bundle(path: Path, bundle: Resource) -> None:
    """Write a bundle as JSON.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    write_text(path, json.dumps(bundle, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _bundle(
    draft: DraftResult,
    approval: Approval | None,
    measures: Sequence[StructureMeasures],
    files: Sequence[DicomFile],
    settings: FhirSettings,
) -> Resource:
    when = (approval.time_utc if approval else datetime.now(UTC)).isoformat(timespec="seconds")
    context = _Context(draft=draft, approval=approval, settings=settings, when=when)
    observations = list(_observations(context, measures))
    resources = [
        ("device", _device(context)),
        ("study", _imaging_study(context, files)),
        *observations,
        *((f"file {file.name}", _document(context, file)) for file in files),
        ("report", _report(context, [name for name, _ in observations])),
    ]
    resources.append(("provenance", _provenance(context, [name for name, _ in resources if name != "device"])))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "timestamp": when,
        "entry": [_entry(context, name, resource) for name, resource in resources],
    }


def _entry(context: _Context, name: str, resource: Resource) -> Resource:
    kind = str(resource["resourceType"])
    request = {"method": "POST", "url": kind}
    if "identifier" in resource:
        one = resource["identifier"][0]
        query = f"identifier={one['system']}|{one['value']}"
        if kind in _UPDATED:
            request = {"method": "PUT", "url": f"{kind}?{query}"}
        else:
            request["ifNoneExist"] = query
    return {"fullUrl": context.url(name), "resource": resource, "request": request}


def _device(context: _Context) -> Resource:
    name_type = "user-friendly-name"
    name: Resource = {"value" if context.r5 else "name": MODEL, "type": name_type}
    software = {"text": "Segmentation software"}
    return {
        "resourceType": "Device",
        "identifier": [_own_identifier("device", _device_key(context))],
        "status": "active",
        "manufacturer": MANUFACTURER,
        "name" if context.r5 else "deviceName": [name],
        "version": [
            {"value": __version__},
            {"type": {"text": "model"}, "value": context.draft.result.provenance.model},
        ],
        "type": [software] if context.r5 else software,
    }


def _imaging_study(context: _Context, files: Sequence[DicomFile]) -> Resource:
    source = context.draft.source
    series = [
        {
            "uid": source.series_uid,
            "modality": _modality(context, source.modality),
            "numberOfInstances": len({one.sop_instance_uid for one in source.slices}),
        }
    ]
    for file in files:
        series.append(
            {
                "uid": file.series_uid,
                "modality": _modality(context, file.modality),
                "numberOfInstances": 1,
                "instance": [
                    {
                        "uid": file.sop_instance_uid,
                        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{file.sop_class_uid}"},
                    }
                ],
            }
        )
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": DICOM_UID, "value": f"urn:oid:{source.study_uid}"}],
        "status": "available",
        "subject": _subject(context),
        "numberOfSeries": len(series),
        "numberOfInstances": sum(int(str(one["numberOfInstances"])) for one in series),
        "series": series,
    }


def _observations(context: _Context, measures: Sequence[StructureMeasures]) -> Iterator[tuple[str, Resource]]:
    for structure, found in zip(context.draft.structures, measures, strict=True):
        for code, value, unit in (
            (_VOLUME, found.volume_ml, "mL"),
            (_DIAMETER, found.diameter_mm, "mm"),
            (_LONG_AXIS, found.diameter_in_plane_mm, "mm"),
        ):
            yield f"{structure.name} {code.value}", _observation(context, structure, code, value, unit)


def _observation(context: _Context, structure: CodedStructure, code: Code, value: float, unit: str) -> Resource:
    resource: Resource = {
        "resourceType": "Observation",
        "meta": _labelled(),
        "identifier": [_own_identifier("measurement", f"{structure.tracking_uid}/{code.value}")],
        "status": context.status,
        "category": [_concept(f"{_TERMINOLOGY}/observation-category", "imaging", "Imaging")],
        "code": {**_coded(code), "text": f"{code.meaning} of {structure.name}"},
        "subject": _subject(context),
        **_effective(context),
        "bodySite": _body_site(structure),
        "method": {"text": f"Segmentation by {context.draft.result.provenance.model}"},
        "device": context.reference("device"),
        "derivedFrom": [context.reference("study")],
        "valueQuantity": {"value": round(value, 3), "unit": unit, "system": SYSTEMS["UCUM"], "code": unit},
    }
    if context.approval is not None:
        resource["performer"] = [_person(context.approval)]
    return resource


def _body_site(structure: CodedStructure) -> Resource:
    """Return where a structure is, with its side in words: R4 has one code for both."""
    side = f"{structure.laterality.meaning} " if structure.laterality else ""
    if structure.site is None:
        return {"text": f"{side}{structure.type.meaning} ({structure.name})"}
    return {**_coded(structure.site), "text": f"{side}{structure.site.meaning} ({structure.name})"}


def _report(context: _Context, observations: Sequence[str]) -> Resource:
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "meta": _labelled(),
        "identifier": [_own_identifier("report", context.draft.source.series_uid)],
        "status": context.status,
        "category": [_concept(f"{_TERMINOLOGY}/v2-0074", "RAD", "Radiology")],
        "code": _concept(*_REPORT),
        "subject": _subject(context),
        **_effective(context),
        "issued": context.when,
        "result": [context.reference(name) for name in observations],
        "study" if context.r5 else "imagingStudy": [context.reference("study")],
    }
    if context.approval is not None:
        resource["resultsInterpreter"] = [_person(context.approval)]
    return resource


def _document(context: _Context, file: DicomFile) -> Resource:
    attachment: Resource = {
        "contentType": "application/dicom",
        "url": f"urn:oid:{file.sop_instance_uid}",
        "size": str(file.size) if context.r5 else file.size,
        "title": file.name,
    }
    document_status = context.status
    resource: Resource = {
        "resourceType": "DocumentReference",
        "meta": _labelled(),
        "identifier": [
            {"system": DICOM_UID, "value": f"urn:oid:{file.sop_instance_uid}"},
            {"system": f"{OWN}/sha-256", "value": file.sha256},
        ],
        "status": "entered-in-error" if context.status == "entered-in-error" else "current",
        "docStatus": document_status,
        "type": _concept(SYSTEMS["DCM"], file.modality, file.modality),
        "subject": _subject(context),
        "date": context.when,
        "description": "Segmentation result, not reviewed" if context.approval is None else "Segmentation result",
        "content": [{"attachment": attachment}],
    }
    return resource


def _provenance(context: _Context, targets: Sequence[str]) -> Resource:
    agents: list[Resource] = [
        {
            "type": _concept(f"{_TERMINOLOGY}/provenance-participant-type", "assembler", "Assembler"),
            "who": context.reference("device"),
        }
    ]
    if context.approval is not None:
        agents.append(
            {
                "type": _concept(f"{_TERMINOLOGY}/provenance-participant-type", "verifier", "Verifier"),
                "who": _person(context.approval),
            }
        )
    entities: list[Resource] = [{"role": "source", "what": context.reference("study")}]
    if context.settings.previous:
        entities.append(
            {"role": "revision", "what": {"identifier": _own_identifier("content", context.settings.previous)}}
        )
    resource: Resource = {
        "resourceType": "Provenance",
        "meta": _labelled(),
        "target": [context.reference(name) for name in targets],
        "occurredDateTime": context.when,
        "recorded": context.when,
        "activity": {"text": _activity(context)},
        "agent": agents,
        "entity": entities,
    }
    return resource


def _activity(context: _Context) -> str:
    if context.approval is None:
        return "segmentation by an algorithm, not reviewed"
    return (
        f"segmentation by an algorithm; {context.approval.meaning}; ledger row "
        f"{context.approval.ledger_sequence}:{context.approval.ledger_sha256}"
    )


def _subject(context: _Context) -> Resource:
    """Return the patient by identifier, as the images name the patient."""
    header = context.draft.source.header
    patient = str(header.get("PatientID", "") or "")
    if not patient:
        return {"type": "Patient", "display": "not identified in the images"}
    identifier: Resource = {"value": patient}
    issuer = str(header.get("IssuerOfPatientID", "") or "")
    if issuer:
        identifier["assigner"] = {"display": issuer}
    return {"type": "Patient", "identifier": identifier}


def _person(approval: Approval) -> Resource:
    return {
        "type": "Practitioner",
        "identifier": _own_identifier("practitioner", approval.reviewer_id),
        "display": approval.reviewer_name.replace("^", " ").strip(),
    }


def _effective(context: _Context) -> Resource:
    """Return the day of the images, to which measurements belong; images say of no time zone."""
    header = context.draft.source.header
    for keyword in ("AcquisitionDate", "ContentDate", "SeriesDate", "StudyDate"):
        day = str(header.get(keyword, "") or "")
        if len(day) == 8 and day.isdigit():
            return {"effectiveDateTime": f"{day[:4]}-{day[4:6]}-{day[6:]}"}
    return {}


def _device_key(context: _Context) -> str:
    """Return what names this program with this model; free of characters that a query would have to escape."""
    return f"{__version__}-{hashlib.sha256(context.draft.result.provenance.model.encode()).hexdigest()[:16]}"


def _own_identifier(kind: str, value: str) -> Resource:
    return {"system": f"{OWN}/{kind}", "value": value}


def _labelled() -> Resource:
    return {"security": [dict(_AI_LABEL)]}


def _modality(context: _Context, modality: str) -> Resource:
    if context.r5:
        return _concept(SYSTEMS["DCM"], modality, modality)
    return {"system": SYSTEMS["DCM"], "code": modality}


def _coded(code: Code) -> Resource:
    return _concept(SYSTEMS[code.scheme], code.value, code.meaning)


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}
