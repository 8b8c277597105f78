"""The card of a model of instances: what it is for, what it was trained on, how well it does, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delineate.execution.atomic import write_text
from delineate.formats.instance_package import InstancePackage


def write_card(path: Path, package: InstancePackage) -> None:
    """Write the card of a model.

    Raises
    ------
    ResourceError
        If the file cannot be written.
    """
    write_text(path, card_text(package))


def card_text(package: InstancePackage) -> str:
    """Return the card as Markdown; what the package does not tell is said to be unknown."""
    facts = package.facts
    parts = [
        f"# {package.name}",
        f"Finds objects of microscope pictures one by one. {_types_words(package)}",
        "Not a medical device. It was not tested on other scanners, stains or magnifications than those below.",
        "## Use",
        f"    delineate nuclei PICTURES -o OUT --model {'MODEL'}{_pixel_option(package)}",
        _size_words(package),
        "## Licence",
        package.licence or "Not stated. It follows from the licences of the training data; see below.",
        "## Data",
        *_data_lines(facts),
        *_origin_lines(facts),
        "## Training",
        f"- Command: `{facts.get('command', 'unknown')}`",
        f"- {facts.get('steps', 'unknown')} steps in {float(facts.get('training_seconds', 0)) / 60:.0f} min; "
        f"{facts.get('parameters', 'unknown')} values in the weights; widths {list(package.widths)}",
        f"- {package.software}",
        *(f"- {line}" for line in facts.get("decisions", ())),
        "## Scores",
        f"Scored on {facts.get('scored_on', 'nothing')}.",
        *_tables(facts),
        "## Held-out pictures",
        *_held_out_lines(facts),
    ]
    return "\n\n".join(_joined_lists(parts)) + "\n"


def _types_words(package: InstancePackage) -> str:
    if not package.type_names:
        return "It tells no types."
    return f"Types: {', '.join(package.type_names)}."


def _pixel_option(package: InstancePackage) -> str:
    return f" --mpp {package.pixel_um:g}" if package.pixel_um else ""


def _size_words(package: InstancePackage) -> str:
    pixel = f"{package.pixel_um:g} micrometres per pixel" if package.pixel_um else "pixels of unknown size"
    return (
        f"The network expects objects of about {package.typical_pixels:.0f} pixels in diameter; it was trained at "
        f"{pixel}. Pictures with other objects need --mpp or --diameter."
    )


def _data_lines(facts: Mapping[str, Any]) -> list[str]:
    sources: Mapping[str, str] = facts.get("sources", {})
    return [f"- {name}{': ' + sources[name] if name in sources else ''}" for name in facts.get("data", ("unknown",))]


def _origin_lines(facts: Mapping[str, Any]) -> list[str]:
    origin: Mapping[str, Any] = facts.get("origin", {})
    if not origin:
        return []
    licence = origin.get("licence") or "not stated"
    lines = [
        f"The training started from the model {origin.get('name')} ({origin.get('identity')}), licence: {licence}."
    ]
    sources: Mapping[str, str] = origin.get("sources", {})
    return lines + [
        f"- {name}, through that model{': ' + sources[name] if name in sources else ''}" for name in origin["data"]
    ]


def _held_out_lines(facts: Mapping[str, Any]) -> list[str]:
    held: Mapping[str, Sequence[str]] = facts.get("held_out", {})
    return [f"- {name} ({len(ids)}): {', '.join(ids)}" for name, ids in held.items()] or ["- none"]


def _tables(facts: Mapping[str, Any]) -> list[str]:
    groups, types = facts.get("scores", ()), facts.get("types", ())
    found = []
    if groups:
        columns = ("group", "n_pictures", "n_instances", "n_found", "ap50", "ap50_pooled", "ap_mean", "pq", "aji_plus")
        found.append(_table(columns, groups))
    if types:
        found.append(_table(("name", "n_instances", "n_found", "pq", "f1", "r2"), types))
        found.append(f"mPQ+ {_cell(facts.get('mPQ+'))}, mPQ as PanNuke counts it {_cell(facts.get('mPQ (PanNuke)'))}.")
    return found


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _joined_lists(parts: Sequence[str]) -> list[str]:
    """Put items of one list on lines that follow each other."""
    joined: list[str] = []
    for part in parts:
        if part.startswith("- ") and joined and joined[-1].startswith("- "):
            joined[-1] += "\n" + part
        else:
            joined.append(part)
    return joined
