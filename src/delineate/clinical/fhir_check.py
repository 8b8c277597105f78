"""What a bundle must satisfy that data-class libraries do not look at: bindings, units, references, transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from delineate.clinical.fhir_tables import BINDINGS, DEVICE_NAME_TYPES, ONLY_R5, UCUM_UNITS


def check_bundle(bundle: Mapping[str, Any], *, version: str = "R4B") -> tuple[str, ...]:
    """Return every fault of a transaction bundle; empty if there is none.

    Codes of required bindings are looked up in own tables; units must be UCUM codes that this program uses; every
    reference within the bundle must resolve, every full URL be unique.
    """
    faults = [*_code_faults(bundle, "Bundle", version), *_unit_faults(bundle)]
    urls = [str(entry.get("fullUrl", "")) for entry in bundle.get("entry", [])]
    faults += [f"fullUrl {url} is there twice" for url in sorted({url for url in urls if urls.count(url) > 1})]
    for reference in _values_of(bundle, "reference"):
        if reference not in urls:
            faults.append(f"reference {reference} leads to nothing in the bundle")
    for entry in bundle.get("entry", []):
        if str(entry.get("request", {}).get("url")).partition("?")[0] != entry.get("resource", {}).get("resourceType"):
            faults.append(f"{entry.get('fullUrl')}: the request's url is not the type of the resource")
    return tuple(faults)


def _code_faults(value: Any, path: str, version: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _code_faults(item, path, version)
    elif isinstance(value, dict):
        here = str(value["resourceType"]) if "resourceType" in value else path
        for key, item in value.items():
            yield from _fault_of(f"{here}.{key}", item, version)
            yield from _code_faults(item, f"{here}.{key}", version)


def _fault_of(path: str, value: Any, version: str) -> Iterator[str]:
    allowed = _allowed(path, version)
    if allowed is not None and value not in allowed:
        yield f"{path}: '{value}' is none of {sorted(allowed)}"


def _allowed(path: str, version: str) -> frozenset[str] | None:
    if path in ("Device.deviceName.type", "Device.name.type"):
        return DEVICE_NAME_TYPES[version]
    if version == "R5" and path in ONLY_R5:
        return ONLY_R5[path]
    return BINDINGS.get(path)


def _unit_faults(bundle: Mapping[str, Any]) -> Iterator[str]:
    for quantity in _values_of(bundle, "valueQuantity"):
        if quantity.get("system") != "http://unitsofmeasure.org" or quantity.get("code") not in UCUM_UNITS:
            yield f"valueQuantity {quantity}: its unit is no UCUM code that this program uses"


def _values_of(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _values_of(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == key:
                yield item
            yield from _values_of(item, key)
