"""Runs in an environment with dcmrtstruct2nii, rt-utils and platipy: reads structure sets of one ROI with each.

Usage: python structure_oracle_script.py IMAGES OUT.npz RT [RT ...]
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import SimpleITK as sitk

warnings.simplefilter("ignore")


def by_dcmrtstruct2nii(images, rt):
    from dcmrtstruct2nii import dcmrtstruct2nii

    with tempfile.TemporaryDirectory() as out:
        dcmrtstruct2nii(str(rt), str(images), out, convert_original_dicom=False, gzip=False, mask_foreground_value=1)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(next(Path(out).glob("mask_*.nii"))))) > 0


def by_rt_utils(images, rt):
    from rt_utils import RTStructBuilder

    builder = RTStructBuilder.create_from(dicom_series_path=str(images), rt_struct_path=str(rt))
    mask = builder.get_roi_mask_by_name(builder.get_roi_names()[0])
    return np.moveaxis(mask, -1, 0)


def by_platipy(images, rt):
    from platipy.dicom.io.rtstruct_to_nifti import (
        read_dicom_image,
        read_dicom_struct_file,
        transform_point_set_from_dicom_struct,
    )

    image = read_dicom_image(images)
    masks, _ = transform_point_set_from_dicom_struct(image, read_dicom_struct_file(rt))
    return sitk.GetArrayFromImage(masks[0]) > 0


READERS = {"dcmrtstruct2nii": by_dcmrtstruct2nii, "rt-utils": by_rt_utils, "platipy": by_platipy}


def main(images, out, *files):
    found = {}
    for number, rt in enumerate(files):
        for name, read in READERS.items():
            try:
                found[f"{number}:{name}"] = read(Path(images), Path(rt))
            except Exception as error:  # noqa: BLE001
                sys.stderr.write(f"{name} cannot read {Path(rt).name}: {type(error).__name__}: {error}\n")
    np.savez_compressed(out, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
