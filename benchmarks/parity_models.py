"""The kinds of models and data of the parity table: small plans, phantoms, and real images where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from delineate.case.labels import LabelScheme, Structure
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, NetworkKind, Plan

LABELS = LabelScheme.simple("dim", "bright")
REGIONS = LabelScheme(
    structures=(
        Structure(name="whole", values=(1, 2, 3)),
        Structure(name="core", values=(2, 3)),
        Structure(name="hot", values=(3,)),
    ),
    region_order=(1, 2, 3),
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of model and the images it is tried on."""

    name: str
    data: str
    images: Mapping[str, Sequence[Path]]
    plan: Plan
    configuration: str = "3d_fullres"
    scheme: LabelScheme = LABELS
    folds: tuple[int, ...] = (0,)
    old_form: bool = False
    mirroring: bool = False

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return len(self.plan.intensities)


def kinds(folder: Path) -> list[Kind]:
    """Return the rows of the table, small enough for a processor."""
    iso = phantoms(folder / "isotropic", spacing=(1.0, 1.0, 1.0), shape=(48, 56, 52))
    thick = phantoms(folder / "thick", spacing=(5.0, 0.8, 0.8), shape=(14, 72, 64))
    two = phantoms(folder / "two", spacing=(1.1, 0.9, 1.0), shape=(44, 48, 52), channels=2)
    rows = [
        Kind(name="plain U-Net 3-D", data="phantom", images=iso, plan=plan()),
        Kind(name="plain U-Net 2-D", data="phantom, thick", images=thick, plan=plan(dims=2), configuration="2d"),
        Kind(name="ResEnc U-Net 3-D", data="phantom", images=iso, plan=plan(kind="residual_unet")),
        Kind(
            name="ResEnc U-Net 2-D",
            data="phantom, thick",
            images=thick,
            plan=plan(kind="residual_unet", dims=2),
            configuration="2d",
        ),
        Kind(name="regions, 2 channels", data="phantom", images=two, plan=plan(channels=2), scheme=REGIONS),
        Kind(name="old-form plans", data="phantom", images=iso, plan=plan(), old_form=True),
        Kind(name="3 folds averaged", data="phantom", images=iso, plan=plan(), folds=(0, 1, 2)),
        Kind(
            name="separate z, anisotropic kernels",
            data="phantom, thick",
            images=thick,
            plan=plan(spacing=(4.0, 1.0, 1.0), patch=(8, 32, 32), flat=True),
        ),
        Kind(
            name="3d_lowres, resampled",
            data="phantom",
            images=iso,
            plan=changed(plan(spacing=(1.7, 1.6, 1.7), patch=(24, 24, 24)), name="3d_lowres"),
            configuration="3d_lowres",
        ),
        Kind(name="transposed axes", data="phantom", images=iso, plan=plan(axes=(2, 0, 1), spacing=(1.3, 1.0, 1.1))),
    ]
    mirrored = Kind(name="plain U-Net 3-D, mirrored", data="phantom", images=iso, plan=plan(), mirroring=True)
    return [*rows, *real_rows(), mirrored]


def real_rows() -> list[Kind]:
    """Return the rows on real data, if there are any."""
    data = os.environ.get("DELINEATE_DATA")
    rows = []
    hippocampus = sorted(Path(data or "nowhere").glob("hippocampus/imagesTr/hippocampus*.nii.gz"))[:3]
    if hippocampus:
        images = {file.name.removesuffix(".nii.gz"): [file] for file in hippocampus}
        rows.append(
            Kind(name="plain U-Net 3-D, 2 folds", data="Hippocampus MR", images=images, plan=plan(), folds=(0, 1))
        )
    ct = Path(data or "nowhere") / "totalseg_reference" / "example_ct_sm.nii.gz"
    if ct.exists():
        of = changed(plan(spacing=(3.0, 3.0, 3.0)), normalization=("ct",))
        rows.append(Kind(name="plain U-Net 3-D, resampled", data="trunk CT", images={"ct": [ct]}, plan=of))
    return rows


def plan(
    *,
    kind: NetworkKind = "plain_unet",
    dims: int = 3,
    channels: int = 1,
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0),
    patch: tuple[int, ...] = (32, 32, 32),
    flat: bool = False,
    axes: tuple[int, ...] = (0, 1, 2),
) -> Plan:
    """Return a plan of one small configuration."""
    first = (1, 3, 3) if flat else (3,) * dims
    step = (1, 2, 2) if flat else (2,) * dims
    architecture = Architecture(
        kind=kind,
        dims=dims,
        features=(8, 16, 32),
        kernel_sizes=(first, (3,) * dims, (3,) * dims),
        strides=((1,) * dims, step, (2,) * dims),
        encoder_blocks=(1, 1, 2),
        decoder_convs=(1, 1),
    )
    configuration = Configuration(
        name="2d" if dims == 2 else "3d_fullres",
        data_identifier="parity",
        spacing_mm=spacing[-dims:],
        patch_size=patch[-dims:],
        batch_size=2,
        median_shape=(50.0,) * dims,
        normalization=("zscore",) * channels,
        use_mask_for_norm=(False,) * channels,
        architecture=architecture,
        batch_dice=False,
    )
    statistics = IntensityStatistics(
        mean=20.0, median=20.0, std=150.0, min=-1000.0, max=1000.0, percentile_99_5=600.0, percentile_00_5=-900.0
    )
    backward = tuple(axes.index(i) for i in range(3))
    return Plan(
        dataset_name="Dataset001_Parity",
        plans_name="nnUNetPlans",
        planner_name="ExperimentPlanner",
        image_reader="SimpleITKIO",
        transpose_forward=axes,
        transpose_backward=backward,
        original_median_spacing_mm=spacing,
        original_median_shape=(50, 50, 50),
        intensities=(statistics,) * channels,
        configurations=(configuration,),
    )


def changed(of: Plan, **changes: Any) -> Plan:
    """Return the plan with its configuration changed."""
    return replace(of, configurations=(replace(of.configurations[0], **changes),))


def phantoms(
    folder: Path, *, spacing: tuple[float, ...], shape: tuple[int, ...], channels: int = 1, cases: int = 1
) -> dict[str, list[Path]]:
    """Write images of smooth blobs of a few brightness levels, noisy as scans are; (z, y, x) spacing in mm."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(7)
    found: dict[str, list[Path]] = {}
    for case in range(cases):
        found[f"case{case}"] = []
        for channel in range(channels):
            coarse = generator.normal(size=tuple(max(3, n // 8) for n in shape)).astype(np.float32)
            image = SimpleITK.GetImageFromArray(coarse)
            image.SetSpacing(
                [(n - 1) / (c - 1) * s for n, c, s in zip(shape, coarse.shape, spacing, strict=True)][::-1]
            )
            grid = SimpleITK.Image(shape[::-1], SimpleITK.sitkFloat32)
            grid.SetSpacing(spacing[::-1])
            fine = SimpleITK.Resample(image, grid, SimpleITK.Transform(), SimpleITK.sitkBSpline)
            levels = np.digitize(SimpleITK.GetArrayViewFromImage(fine), (-0.6, 0.0, 0.6)).astype(np.float32)
            noisy = SimpleITK.GetImageFromArray(levels + generator.normal(scale=0.1, size=shape).astype(np.float32))
            noisy.SetSpacing(spacing[::-1])
            file = folder / f"case{case}_{channel:04d}.nii.gz"
            SimpleITK.WriteImage(noisy, str(file))
            found[f"case{case}"].append(file)
    return found


def old_form(plans: dict[str, Any]) -> dict[str, Any]:
    """Return the plans as nnU-Net wrote them before it knew ``architecture``."""
    for entry in plans["configurations"].values():
        kwargs = entry.pop("architecture")["arch_kwargs"]
        entry |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": kwargs["features_per_stage"][0],
            "unet_max_num_features": max(kwargs["features_per_stage"]),
            "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
            "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [len(kwargs["strides"]) - 1] * len(entry["patch_size"]),
            "pool_op_kernel_sizes": kwargs["strides"],
            "conv_kernel_sizes": kwargs["kernel_sizes"],
        }
    return plans
