"""What surface-distance, MONAI and SimpleITK say; runs in the oracle's interpreter.

Arguments: npz with name/prediction, name/reference, name/spacing; npz to write, with name/library/metric.
"""

import sys
import warnings

import numpy as np

warnings.simplefilter("ignore")
vars(np)["Inf"] = np.inf  # surface-distance 0.1 is older than numpy 2

import SimpleITK as sitk  # noqa: E402
import surface_distance as dm  # noqa: E402
import torch  # noqa: E402
from monai.metrics import (  # noqa: E402
    calibration_binning,
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
    get_confusion_matrix,
)
from monai.metrics.panoptic_quality import compute_panoptic_quality  # noqa: E402
from surface_distance import lookup_tables  # noqa: E402

TOLERANCES = (0.5, 1.0, 2.1)


def of_surface_distance(prediction, reference, spacing):
    found = dm.compute_surface_distances(reference, prediction, spacing)
    to_prediction, to_reference = dm.compute_average_surface_distance(found)
    return {
        "hd100": dm.compute_robust_hausdorff(found, 100),
        "hd95": dm.compute_robust_hausdorff(found, 95),
        "hd80": dm.compute_robust_hausdorff(found, 80),
        "to_prediction": to_prediction,
        "to_reference": to_reference,
        "area_prediction": found["surfel_areas_pred"].sum(),
        "area_reference": found["surfel_areas_gt"].sum(),
        "nsd": [dm.compute_surface_dice_at_tolerance(found, t) for t in TOLERANCES],
        "dice": dm.compute_dice_coefficient(reference, prediction),
    }


def of_monai(prediction, reference, spacing):
    first, second = (torch.from_numpy(m.astype(np.float32))[None, None] for m in (prediction, reference))
    space = list(spacing)
    given = {"include_background": True, "spacing": space}
    ways = (first, second), (second, first)
    counts = get_confusion_matrix(first, second)
    return {
        "dice": float(compute_dice(first, second)),
        "iou": float(compute_iou(first, second)),
        **{m: float(compute_confusion_matrix_metric(m, counts)) for m in ("precision", "sensitivity", "specificity")},
        "directed_hd95": [
            float(compute_hausdorff_distance(*way, percentile=95, directed=True, **given)) for way in ways
        ],
        "directed_means": [float(compute_average_surface_distance(*way, **given)) for way in ways],
        "hd": float(compute_hausdorff_distance(first, second, include_background=True, spacing=space)),
        "hd95": float(compute_hausdorff_distance(first, second, include_background=True, spacing=space, percentile=95)),
        "assd": float(
            compute_average_surface_distance(first, second, include_background=True, symmetric=True, spacing=space)
        ),
        "nsd": [
            float(compute_surface_dice(first, second, [t], include_background=True, spacing=space)) for t in TOLERANCES
        ],
        "nsd_area": [
            float(compute_surface_dice(first, second, [t], include_background=True, spacing=space, use_subvoxels=True))
            for t in TOLERANCES
        ],
    }


def of_simpleitk(prediction, reference, spacing):
    images = [sitk.GetImageFromArray(m.astype(np.uint8)) for m in (prediction, reference)]
    for image in images:
        image.SetSpacing([float(s) for s in spacing[::-1]])
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    return {
        "dice": overlap.GetDiceCoefficient(),
        "jaccard": overlap.GetJaccardCoefficient(),
        "missed": overlap.GetFalseNegativeError(),
        "invented": overlap.GetFalseDiscoveryRate(),
        # of the volumes' sum, signed: half of it is one minus the similarity
        "volume_difference": overlap.GetVolumeSimilarity(),
        **lesions_of_simpleitk(prediction, reference),
        # of all foreground voxels, not of the surfaces: an own number, compared with an own computation
        "hausdorff_of_voxels": hausdorff.GetHausdorffDistance(),
    }


def lesions_of_simpleitk(prediction, reference):
    counted = {}
    for name, mask, other in (("reference", reference, prediction), ("prediction", prediction, reference)):
        numbered = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True))
        # by faces, with the outside as one of them
        around = sitk.GetImageFromArray(np.pad(~mask, 1, constant_values=True).astype(np.uint8))
        outside = sitk.GetArrayFromImage(sitk.ConnectedComponent(around, False))
        counted[f"lesions_{name}"] = numbered.max()
        counted[f"touched_{name}"] = len(np.unique(numbered[mask & other]))
        counted[f"cavities_{name}"] = outside.max() - 1
    return counted


def of_calibration():
    rng = np.random.default_rng(0)
    stated = rng.random((1, 1, 2000)).astype(np.float32)
    correct = rng.random(stated.shape) < stated**2
    found = calibration_binning(torch.from_numpy(stated), torch.from_numpy(correct.astype(np.float32)), num_bins=15)
    confidence, accuracy, counts = (f.numpy()[0, 0].astype(float) for f in found)
    return {"stated": stated, "correct": correct, "error": np.sum(counts * abs(confidence - accuracy)) / counts.sum()}


def of_staple():
    rng = np.random.default_rng(0)
    truth = np.zeros((12, 20, 20), bool)
    truth[3:9, 5:15, 5:15] = True
    masks = [np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) >= 0.97) for p in (0.95, 0.8, 0.7)]
    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1)
    staple.SetMaximumIterations(2000)
    image = staple.Execute([sitk.GetImageFromArray(m.astype(np.uint16)) for m in masks])
    return {
        "masks": np.stack(masks),
        "probability": sitk.GetArrayFromImage(image),
        "sensitivity": staple.GetSensitivity(),
        "specificity": staple.GetSpecificity(),
    }


def of_panoptic(prediction, reference):
    arrays = [torch.from_numpy(a.astype(np.int64)) for a in (prediction, reference)]
    return {m: float(compute_panoptic_quality(*arrays, metric_name=m)) for m in ("pq", "sq", "rq")}


def main():
    answers = {}
    with np.load(sys.argv[1]) as asked:
        for name in sorted({key.rsplit("/", 1)[0] for key in asked}):
            prediction, reference = asked[f"{name}/prediction"], asked[f"{name}/reference"]
            spacing = tuple(asked[f"{name}/spacing"].tolist())
            if name == "instances":
                answers |= {f"panoptic/{k}": v for k, v in of_panoptic(prediction, reference).items()}
                continue
            libraries = (of_surface_distance, of_monai, of_simpleitk)
            # SimpleITK measures nothing where a mask is empty
            for library in libraries[:2] if name.startswith("empty") else libraries:
                found = library(prediction, reference, spacing)
                answers |= {f"{name}/{library.__name__[3:]}/{metric}": value for metric, value in found.items()}
    answers |= {f"staple/{key}": value for key, value in of_staple().items()}
    answers |= {f"calibration/{key}": value for key, value in of_calibration().items()}
    for index, spacing in enumerate([(1.0, 1.0, 1.0), (3.0, 0.8, 1.3)]):
        answers[f"areas/{index}"] = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
        answers[f"lengths/{index}"] = lookup_tables.create_table_neighbour_code_to_contour_length(spacing[:2])
    np.savez(sys.argv[2], **answers)


if __name__ == "__main__":
    main()
