"""Make the models of nuclei that come with the program: ``nuclei`` and ``nuclei-typed``.

    python examples/nuclei_models.py data DSB2018 CONSEP DATA
    cd DATA/all
    delineate run dsb2018_nuclei --also consep_nuclei --budget 8min --licence Apache-2.0 -o nuclei
    cd ../stained
    delineate run consep_nuclei --also dsb2018_nuclei --budget 8min --mpp 0.25 --licence Apache-2.0 -o typed
    python examples/nuclei_models.py ship DATA/all/nuclei DATA/stained/typed src/delineate/models

``nuclei`` is the first run without its maps of types: these were learnt on stained tissue only and mean nothing in
fluorescence. ``nuclei-typed`` saw only stained tissue. 0.25 micrometres is the pixel of CoNSeP; the pictures of DSB
2018 do not tell theirs. Both runs need a GPU; for the models that ship it was an H100, which trained both at the same
time for 440 seconds each through the functions that the command calls, and the scores were made on two cores.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from delineate.formats.instance_card import write_card
from delineate.formats.instance_package import InstancePackage, read_instance_package, write_instance_package
from delineate.networks.answered_part import FOLD
from delineate.networks.instance_unet import MAPS

TYPES = {"1": "other", "2": "inflammatory", "3": "epithelial", "4": "spindle-shaped"}
"""Of CoNSeP; the names follow the order of the public evaluation of HoVer-Net."""
PIXEL_UM = 0.25
PATCH, TILE = 256, 1000
"""Pixels per side."""
HEAD = "head."


def prepare_data(nuclei: Path, tissue: Path, out: Path) -> None:
    """Make folders with the data sets' own names: links to DSB 2018, and the whole tiles of CoNSeP with their types."""
    with (nuclei / "index.csv").open(newline="") as stream:
        stained = {row["short"] for row in csv.DictReader(stream) if row["kind"] != "grey-fluo"}
    for place in ("all", "stained"):
        write_tiles(tissue, out / place / "consep_nuclei")
        _link(nuclei, out / place / "dsb2018_nuclei", stained if place == "stained" else None)


def write_tiles(patches: Path, out: Path) -> None:
    """Put the tiles of CoNSeP together from their patches; numbers of nuclei are those of the tile already.

    Raises
    ------
    ValueError
        If a patch is missing, or patches differ where they overlap: they then lie elsewhere.
    """
    tiles = sorted({file.stem.rsplit("_", 1)[0] for file in (patches / "images").iterdir()})
    for part in ("images", "instances", "types"):
        (out / part).mkdir(parents=True, exist_ok=True)
        for tile in tiles:
            files = sorted((patches / part).glob(f"{tile}_*"))
            whole = put_together([np.asarray(Image.open(file)) for file in files], exact=part != "images")
            Image.fromarray(whole).save(out / part / f"{tile}.png")
    (out / "types.json").write_text(json.dumps(TYPES))
    lines = ["case,group", *(f"{tile},{tile}" for tile in tiles)]
    (out / "groups.csv").write_text("\n".join(lines) + "\n")


def put_together(patches: list[NDArray[Any]], *, exact: bool) -> NDArray[Any]:
    """Return a tile: nine patches side by side, three along the lower edge, three along the right one, one corner."""
    if len(patches) != 16:
        raise ValueError(f"A tile of CoNSeP has 16 patches; found {len(patches)}.")
    inner, last = range(0, 3 * PATCH, PATCH), TILE - PATCH
    places = [(y, x) for y in inner for x in inner]
    places += [(last, x) for x in inner] + [(y, last) for y in inner] + [(last, last)]
    whole = np.zeros((TILE, TILE, *patches[0].shape[2:]), dtype=patches[0].dtype)
    written = np.zeros((TILE, TILE), dtype=bool)
    for patch, (y, x) in zip(patches, places, strict=True):
        here = (slice(y, y + PATCH), slice(x, x + PATCH))
        difference = np.abs(whole[here][written[here]].astype(int) - patch[written[here]].astype(int))
        if difference.size and difference.mean() > (0 if exact else 8):
            raise ValueError(f"Patches do not fit together at {y}, {x}: they differ by {difference.mean():.1f}.")
        whole[here], written[here] = patch, True
    return whole


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


def halved(package: InstancePackage) -> InstancePackage:
    """Return the model with convolutions in float16, half the size: maps change by less than a byte."""
    weights = {name: tensor.half() if tensor.ndim == 4 else tensor for name, tensor in package.weights.items()}
    return replace(package, weights=weights)


def ship(untyped: Path, typed: Path, models: Path) -> None:
    """Write both packages with their cards."""
    for name, run in (("nuclei", untyped), ("nuclei-typed", typed)):
        trained = read_instance_package(run / "model")
        package = without_types(trained) if name == "nuclei" else trained
        command = re.sub(r"(?<= )/\S*/(?=\S)", "", str(package.facts["command"]))  # folders of one machine help nobody
        package = halved(replace(package, facts={**package.facts, "command": command}))
        written = write_instance_package(models / name, replace(package, name=name, pixel_um=PIXEL_UM))
        write_card(models / name / "card.md", written)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["data", nuclei, tissue, out]:
            prepare_data(Path(nuclei), Path(tissue), Path(out))
        case ["ship", untyped, typed, models]:
            ship(Path(untyped), Path(typed), Path(models))
        case _:
            sys.exit(__doc__)
