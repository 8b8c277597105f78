"""The same metrics of the same masks by surface-distance and MONAI; runs in the oracle's interpreter. Prints JSON.

Arguments: npz with prediction, reference, spacing, tolerance; library; number of structures. The clock
starts after loading and after one structure of warming up, and stops after the last structure's numbers.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")


def main() -> None:
    with np.load(sys.argv[1]) as asked:
        prediction, reference = asked["prediction"], asked["reference"]
        spacing, tolerance = tuple(asked["spacing"].tolist()), float(asked["tolerance"])
    measure = {"surface-distance": by_surface_distance(), "monai": by_monai()}[sys.argv[2]]
    cube = np.zeros((8, 8, 8), bool)
    cube[2:6, 2:6, 2:6] = True
    measure(cube, cube, spacing, tolerance)
    began = time.perf_counter()
    rows = []
    for label in range(1, int(sys.argv[3]) + 1):
        rows.append(measure(prediction == label, reference == label, spacing, tolerance))
    print(json.dumps({"seconds": time.perf_counter() - began, "rows": rows}))


def by_surface_distance():
    vars(np)["Inf"] = np.inf  # surface-distance 0.1 is older than numpy 2
    import surface_distance as dm

    def measure(prediction, reference, spacing, tolerance):
        found = dm.compute_surface_distances(reference, prediction, spacing)
        to_prediction, to_reference = dm.compute_average_surface_distance(found)
        sizes = found["surfel_areas_pred"].sum(), found["surfel_areas_gt"].sum()
        return {
            "dice": float(dm.compute_dice_coefficient(reference, prediction)),
            "hd95_area_weighted": float(dm.compute_robust_hausdorff(found, 95)),
            "assd_area_weighted": float((to_reference * sizes[0] + to_prediction * sizes[1]) / sum(sizes)),
            "nsd": float(dm.compute_surface_dice_at_tolerance(found, tolerance)),
        }

    return measure


def by_monai():
    import torch
    from monai.metrics import (
        compute_average_surface_distance,
        compute_dice,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    def measure(prediction, reference, spacing, tolerance):
        first, second = (torch.from_numpy(m)[None, None] for m in (prediction, reference))
        given = {"include_background": True, "spacing": list(spacing)}
        return {
            "dice": float(compute_dice(first, second, include_background=True)),
            "hd95": float(compute_hausdorff_distance(first, second, percentile=95, **given)),
            "assd": float(compute_average_surface_distance(first, second, symmetric=True, **given)),
            "nsd_voxels": float(compute_surface_dice(first, second, [tolerance], **given)),
        }

    return measure


if __name__ == "__main__":
    main()
