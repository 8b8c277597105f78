"""Masks of axons (BIDS microscopy) become a data set of instances: every connected axon is one object.

    python examples/axons_to_instances.py axon_sem axons
    delineate run axons --budget 15min --mpp 0.1 -o axons-run

Masks are grey and may hold edges that were smoothed; half of the largest value is the rim. Pictures may carry an alpha
channel, which is left out. Their pixels measure from 0.07 to 0.18 micrometres, as the JSON beside them (or one for all
of an animal) says; all are brought to 0.1, so that axons of one size look alike and lengths come out in micrometres.
Pictures of one animal are one group, so that no animal is on both sides of the split.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

PIXEL_UM = 0.1
"""Micrometres per pixel of what is written."""
LEAST_UM2 = 0.2
"""Smaller parts are specks of the drawing: less than half a micrometre across."""


def convert(source: Path, out: Path) -> int:
    """Write the data set and return how many axons it has."""
    for part in ("images", "instances"):
        (out / part).mkdir(parents=True)
    total, groups = 0, []
    for mask in sorted((source / "derivatives/labels").glob("sub-*/micr/*_seg-axon-manual.png")):
        name, animal = mask.name.removesuffix("_seg-axon-manual.png"), mask.parts[-3]
        picture = source / animal / "micr" / f"{name}.png"
        zoom = pixel_um(picture) / PIXEL_UM
        axons = np.asarray(resized(mask, zoom)) > 127
        instances, count = numbered(axons)
        resized(picture, zoom).save(out / "images" / f"{name}.png")
        Image.fromarray(instances).save(out / "instances" / f"{name}.png")
        groups.append((name, animal))
        total += count
    with (out / "groups.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "group"), *groups])
    return total


def pixel_um(picture: Path) -> float:
    """Return the micrometres per pixel that the JSON of a picture, or of all pictures of its animal, tells."""
    own, shared = picture.with_suffix(".json"), picture.parent / f"{picture.parts[-3]}_SEM.json"
    told = json.loads((own if own.is_file() else shared).read_text())
    if told["PixelSizeUnits"] != "um":
        raise ValueError(f"{picture}: expected a pixel size in um; found {told['PixelSizeUnits']}.")
    return float(told["PixelSize"][0])


def resized(path: Path, zoom: float) -> Image.Image:
    """Return a picture in grey, so many times larger."""
    grey = Image.open(path).convert("L")
    return grey.resize((round(grey.width * zoom), round(grey.height * zoom)), Image.Resampling.BICUBIC)


def numbered(axons: NDArray[np.bool_]) -> tuple[NDArray[np.uint16], int]:
    """Return the connected axons (y, x) by number from 1 on, without specks, and how many they are."""
    parts, count = ndimage.label(axons)
    large = np.bincount(parts.ravel()) >= LEAST_UM2 / PIXEL_UM**2
    large[0] = False
    numbers = np.zeros(count + 1, dtype=np.uint16)
    numbers[large] = np.arange(1, large.sum() + 1)
    return numbers[parts], int(large.sum())


if __name__ == "__main__":
    print(f"{convert(Path(sys.argv[1]), Path(sys.argv[2]))} axons in {sys.argv[2]}")
