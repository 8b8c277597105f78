"""Make the models of nuclei that come with the program: ``nuclei`` and ``nuclei-typed``.

    python examples/nuclei_models.py data DSB2018 CONSEP DATA
    cd DATA/all
    delineate run dsb2018_nuclei --also consep_nuclei --budget 80min --licence Apache-2.0 -o first
    delineate run dsb2018_nuclei --also consep_nuclei --from first --budget 17min --licence Apache-2.0 -o second
    cd ../stained
    delineate run consep_nuclei --also dsb2018_nuclei --from ../all/first --budget 35min --mpp 0.25 \\
        --licence Apache-2.0 -o typed
    python examples/nuclei_models.py ship DATA/all/second DATA/stained/typed src/delineate/models

``nuclei`` is the second run without its maps of types: these were learnt on stained tissue only and mean nothing in
fluorescence. ``nuclei-typed`` saw only stained tissue since the first run. 0.25 micrometres is the pixel of CoNSeP; the
pictures of DSB 2018 do not tell theirs.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

from delineate.formats.instance_card import write_card
from delineate.formats.instance_package import InstancePackage, read_instance_package, write_instance_package
from delineate.networks.instance_unet import FOLD, MAPS

TYPES = {"1": "other", "2": "inflammatory", "3": "epithelial", "4": "spindle-shaped"}
"""Of CoNSeP; the names follow the order of the public evaluation of HoVer-Net."""
PIXEL_UM = 0.25
HEAD = "head."


def link_data(nuclei: Path, tissue: Path, out: Path) -> None:
    """Make folders with the data sets' own names that point to the pictures, and name the types of CoNSeP."""
    with (nuclei / "index.csv").open(newline="") as stream:
        stained = {row["short"] for row in csv.DictReader(stream) if row["kind"] != "grey-fluo"}
    for place in ("all", "stained"):
        _link(tissue, out / place / "consep_nuclei", None)
        _link(nuclei, out / place / "dsb2018_nuclei", stained if place == "stained" else None)
        (out / place / "consep_nuclei" / "types.json").write_text(json.dumps(TYPES))


def _link(source: Path, target: Path, chosen: set[str] | None) -> None:
    for file in sorted(source.glob("*/*.*")):
        if chosen is None or file.stem in chosen:
            (target / file.parent.name).mkdir(parents=True, exist_ok=True)
            (target / file.parent.name / file.name).symlink_to(file.resolve())


def without_types(package: InstancePackage) -> InstancePackage:
    """Return the model without its maps of types; its objects are the same."""
    kept = MAPS * FOLD**2
    weights = {
        name: tensor[:kept].contiguous() if name.startswith(HEAD) else tensor
        for name, tensor in package.weights.items()
    }
    facts = {name: value for name, value in package.facts.items() if name not in ("types", "mPQ+", "mPQ (PanNuke)")}
    facts["parameters"] = sum(tensor.numel() for tensor in weights.values())
    return replace(package, type_names=(), weights=weights, facts=facts)


def ship(untyped: Path, typed: Path, models: Path) -> None:
    """Write both packages with their cards."""
    for name, run in (("nuclei", untyped), ("nuclei-typed", typed)):
        trained = read_instance_package(run / "model")
        package = without_types(trained) if name == "nuclei" else trained
        command = re.sub(r"(?<= )/\S*/(?=\S)", "", str(package.facts["command"]))  # folders of one machine help nobody
        package = replace(package, facts={**package.facts, "command": command})
        written = write_instance_package(models / name, replace(package, name=name, pixel_um=PIXEL_UM))
        write_card(models / name / "card.md", written)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data", nuclei, tissue, out]:
            link_data(Path(nuclei), Path(tissue), Path(out))
        case ["ship", untyped, typed, models]:
            ship(Path(untyped), Path(typed), Path(models))
        case _:
            sys.exit(__doc__)
