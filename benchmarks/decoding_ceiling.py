"""Decoders of instances on perfect maps: how many of the annotated objects come back, and whether tiles change them.

    python benchmarks/decoding_ceiling.py DATASET [--every 7]

DATASET is a folder of pictures with instances. The objects of every so many-th picture become the maps that a perfect
network would give; decoders get them whole, and once more in halves that overlap by ``--margin`` pixels. Printed are AP
at an IoU of 0.5 and PQ, counts of all pictures added, and the share of the objects of the halves' middles that differ
from those of the whole. The corrected decoding of HoVer-Net is told the median diameter of the data set.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from delineate.formats.datasets.instance_dataset import open_instance_dataset
from delineate.masks.hover_decoding import HoverDecoding, corrected, decode_hover, hover_targets
from delineate.masks.instance_decoding import Decoding, decode_instances
from delineate.masks.instance_targets import instance_targets
from delineate.metrics import average_precision, instance_overlap, panoptic_quality
from delineate.metrics.panoptic import PanopticQuality
from delineate.planning.instance_size import diameters_of, median_diameter

Decode = Callable[[NDArray[np.float32]], NDArray[np.int32]]
"""Maps (map, y, x) of a picture or of a part of it to instances (y, x)."""


def hover(decoding: HoverDecoding) -> Decode:
    return lambda maps: decode_hover(maps[3], maps[4], maps[5], decoding)


def maps_of(instances: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return (6, y, x): ours, then HoVer-Net's."""
    return np.concatenate([instance_targets(instances).stacked(), [instances > 0], hover_targets(instances)])


def changed(decode: Decode, maps: NDArray[np.float32], whole: NDArray[np.int32], margin: int) -> tuple[int, int]:
    """Return how many objects of the whole lie well inside a half, and how many of these the half gives otherwise."""
    width = whole.shape[1]
    total = different = 0
    for part, inside in (
        (slice(0, width // 2 + margin), slice(0, width // 2)),
        (slice(width // 2 - margin, width), slice(width // 2, width)),
    ):
        found = decode(maps[:, :, part])
        core = np.zeros(whole.shape, dtype=bool)
        core[:, inside] = True
        for number in np.unique(whole[core & (whole > 0)]):
            mine = whole == number
            if (mine & ~core).any():
                continue
            there = np.unique(found[mine[:, part]])
            total += 1
            different += not (len(there) == 1 and there[0] > 0 and (found == there[0]).sum() == mine.sum())
    return total, different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--every", type=int, default=7)
    parser.add_argument("--margin", type=int, default=64, help="pixels that the halves overlap beyond the middle")
    options = parser.parse_args()
    dataset = open_instance_dataset(options.dataset)
    pictures = [dataset.load(case).instances for case in dataset.cases[:: options.every]]
    diameter = median_diameter([diameters_of(instances) for instances in pictures])
    decoders: dict[str, Decode] = {
        "ours": lambda maps: decode_instances(maps[:3], Decoding()),
        "HoVer-Net, corrected": hover(corrected(diameter)),
        "HoVer-Net, published": hover(HoverDecoding()),
    }
    overlaps = {name: [] for name in decoders}
    moved = {name: np.zeros(2, dtype=int) for name in decoders}
    for instances in pictures:
        maps = maps_of(instances)
        for name, decode in decoders.items():
            found = decode(maps)
            overlaps[name].append(instance_overlap(found, instances))
            moved[name] += changed(decode, maps, found, options.margin)
    nothing = PanopticQuality(true_positive=0, false_positive=0, false_negative=0, iou_sum=0.0)
    told = {"pictures": len(pictures), "median diameter": round(diameter, 1)}
    for name, pairs in overlaps.items():
        quality = sum((panoptic_quality(pair) for pair in pairs), nothing)
        told[name] = {
            "AP@0.5": round(float(average_precision(pairs, thresholds=(0.5,), pooled=True)[0]), 4),
            "PQ": round(quality.quality, 4),
            "changed by a tile": f"{moved[name][1]} of {moved[name][0]}",
        }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
