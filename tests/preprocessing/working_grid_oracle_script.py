"""Run by an interpreter that has nibabel, joblib and TotalSegmentator's package: its crop, turn, resampling, cleanup.

Usage: ``python working_grid_oracle_script.py FOLDER``; reads scan.nii.gz, mask.nii.gz and request.json there, writes
working.npy, back.npy, largest.npy, small.npy and skin.npy with axes (z, y, x).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
from totalsegmentator import postprocessing
from totalsegmentator.alignment import as_closest_canonical, undo_canonical
from totalsegmentator.cropping import crop_to_mask, undo_crop
from totalsegmentator.resampling import change_spacing


def main(folder: Path) -> None:
    request = json.loads((folder / "request.json").read_text())
    original = nibabel.load(folder / "scan.nii.gz")
    mask = nibabel.load(folder / "mask.nii.gz")
    image = nibabel.Nifti1Image(original.get_fdata(), original.affine)
    if request["margin_mm"] is not None:
        image, box = crop_to_mask(image, mask, addon=[request["margin_mm"]] * 3, dtype=np.int32)
    canonical = as_closest_canonical(image)
    spacing = request["spacing_xyz"]
    working = change_spacing(canonical, spacing, order=1, dtype=np.int32, nr_cpus=1)
    np.save(folder / "working.npy", np.asarray(working.dataobj).T)
    found = (np.abs(np.asarray(working.dataobj)) // 7 % request["labels"]).astype(np.uint8)
    labels = nibabel.Nifti1Image(found, working.affine)
    back = change_spacing(
        labels, spacing, canonical.shape, order=0, dtype=np.uint8, nr_cpus=1, force_affine=canonical.affine
    )
    back = undo_canonical(back, original)
    if request["margin_mm"] is not None:
        back = undo_crop(back, original, box)
    np.save(folder / "back.npy", back.get_fdata().astype(np.uint8).T)
    names = {value: str(value) for value in range(1, request["labels"])}
    largest = postprocessing.keep_largest_blob_multilabel(found.copy(), names, ["1"], quiet=True)
    small = postprocessing.remove_small_blobs_multilabel(
        found.copy(), names, ["2"], interval=[request["small"], 1e10], quiet=True
    )
    np.save(folder / "largest.npy", largest.T)
    np.save(folder / "small.npy", small.T)
    np.save(folder / "skin.npy", postprocessing.extract_skin(original, mask).get_fdata().T)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
