"""Required bindings of FHIR that bundles of this program touch, and the units they use; own tables, for checking.

References
----------
HL7 FHIR R4B (4.3.0) and R5 (5.0.0), value sets with binding strength *required*; UCUM for units.
"""

from __future__ import annotations

from collections.abc import Mapping

OBSERVATION_STATUS = frozenset(
    {"registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"}
)
REPORT_STATUS = frozenset(
    {
        "registered",
        "partial",
        "preliminary",
        "final",
        "amended",
        "corrected",
        "appended",
        "cancelled",
        "entered-in-error",
        "unknown",
    }
)
BINDINGS: Mapping[str, frozenset[str]] = {
    "Bundle.type": frozenset({"document", "message", "transaction", "batch", "collection"}),
    "Bundle.entry.request.method": frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"}),
    "ImagingStudy.status": frozenset({"registered", "available", "cancelled", "entered-in-error", "unknown"}),
    "Device.status": frozenset({"active", "inactive", "entered-in-error", "unknown"}),
    "Observation.status": OBSERVATION_STATUS,
    "DiagnosticReport.status": REPORT_STATUS,
    "DocumentReference.status": frozenset({"current", "superseded", "entered-in-error"}),
    "DocumentReference.docStatus": frozenset({"preliminary", "final", "amended", "entered-in-error"}),
    "Provenance.entity.role": frozenset({"derivation", "revision", "quotation", "source", "removal"}),
}
"""By path of the element; codes that both R4B and R5 know (R5 adds some that are not used)."""
ONLY_R5: Mapping[str, frozenset[str]] = {
    "ImagingSelection.status": frozenset({"available", "entered-in-error", "inactive", "unknown"}),
    "Provenance.entity.role": frozenset({"revision", "quotation", "source", "instantiates", "removal"}),
}
DEVICE_NAME_TYPES: Mapping[str, frozenset[str]] = {
    "R4B": frozenset(
        {
            "udi-label-name",
            "user-friendly-name",
            "patient-reported-name",
            "manufacturer-name",
            "model-name",
            "other",
        }
    ),
    "R5": frozenset({"registered-name", "user-friendly-name", "patient-reported-name"}),
}
UCUM_UNITS = frozenset({"mL", "mm", "cm3", "mm3", "1"})
"""Codes of units that observations carry."""
