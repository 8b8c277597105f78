"""Make the models of nuclei that come with the program: ``nuclei`` and ``nuclei-typed``.

    python examples/nuclei_models.py data DSB2018 CONSEP DATA
    cd DATA && delineate run dsb2018_nuclei --also consep_nuclei --budget 80min --licence Apache-2.0 -o joint
    python examples/nuclei_models.py ship joint src/delineate/models

Both are the network of one run. ``nuclei-typed`` is the whole; ``nuclei`` is the same without its maps of types, as
types were learnt on stained tissue only and mean nothing in fluorescence. 0.25 micrometres is the pixel of CoNSeP; the
pictures of DSB 2018 do not tell theirs.
"""

from __future__ import annotations

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
    for source, name in ((nuclei, "dsb2018_nuclei"), (tissue, "consep_nuclei")):
        (out / name).mkdir(parents=True)
        for part in (path for path in source.iterdir() if path.is_dir()):
            (out / name / part.name).symlink_to(part.resolve())
    (out / "consep_nuclei" / "types.json").write_text(json.dumps(TYPES))


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


def ship(run: Path, models: Path) -> None:
    """Write both packages with their cards."""
    trained = read_instance_package(run / "model")
    command = re.sub(r"(-o|--out) \S+", "-o joint", str(trained.facts["command"]))
    trained = replace(trained, pixel_um=PIXEL_UM, facts={**trained.facts, "command": command})
    for name, package in (("nuclei", without_types(trained)), ("nuclei-typed", trained)):
        written = write_instance_package(models / name, replace(package, name=name))
        write_card(models / name / "card.md", written)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data", nuclei, tissue, out]:
            link_data(Path(nuclei), Path(tissue), Path(out))
        case ["ship", run, models]:
            ship(Path(run), Path(models))
        case _:
            sys.exit(__doc__)
