"""Masks of axons (BIDS microscopy) become a data set of instances: every connected axon is one object.

    python examples/axons_to_instances.py axon_sem axons
    delineate run axons --budget 15min -o axons-run

Masks are grey and may hold edges that were smoothed; half of the largest value is the rim. Pictures may carry an alpha
channel, which is left out. Pictures of one animal are one group, so that no animal is on both sides of the split.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

LEAST_PIXELS = 20
"""Smaller parts are specks of the drawing."""


def convert(source: Path, out: Path) -> int:
    """Write the data set and return how many axons it has."""
    for part in ("images", "instances"):
        (out / part).mkdir(parents=True)
    total, groups = 0, []
    for mask in sorted((source / "derivatives/labels").glob("sub-*/micr/*_seg-axon-manual.png")):
        name, animal = mask.name.removesuffix("_seg-axon-manual.png"), mask.parts[-3]
        picture = Image.open(source / animal / "micr" / f"{name}.png").convert("L")
        axons = np.asarray(Image.open(mask).convert("L")) > 127
        numbered, count = ndimage.label(axons)
        sizes = np.bincount(numbered.ravel())
        kept = np.flatnonzero(sizes >= LEAST_PIXELS)[1:]  # the first one is the background
        renumbered = np.zeros(count + 1, dtype=np.uint16)
        renumbered[kept] = np.arange(1, len(kept) + 1)
        picture.save(out / "images" / f"{name}.png")
        Image.fromarray(renumbered[numbered]).save(out / "instances" / f"{name}.png")
        groups.append((name, animal))
        total += len(kept)
    with (out / "groups.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("case", "group"), *groups])
    return total


if __name__ == "__main__":
    print(f"{convert(Path(sys.argv[1]), Path(sys.argv[2]))} axons in {sys.argv[2]}")
