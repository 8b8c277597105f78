"""Small cases on odd grids, plans that fit them, and the question to nnU-Net about them."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from delineate.case import Image, LabelMap, LabelScheme, Structure
from delineate.geometry.grid import Grid
from delineate.planning.plan import Architecture, Configuration, IntensityStatistics, Plan

STATISTICS = IntensityStatistics(
    mean=60.0, median=58.0, std=41.5, min=-90.0, max=400.0, percentile_99_5=160.0, percentile_00_5=-20.0
)
THREE = LabelScheme.simple("liver", "kidney", "cyst")
REGIONS = LabelScheme(
    structures=(
        Structure(name="whole", values=(1, 2, 3)),
        Structure(name="core", values=(2, 3)),
        Structure(name="enhancing", values=(3,)),
    ),
    region_order=(1, 2, 3),
)
SCRIBBLES = LabelScheme(structures=THREE.structures[:2], ignore=3)


@dataclass(frozen=True)
class Example:
    """A case and how it is to be prepared."""

    shape: tuple
    spacing: tuple
    target: tuple
    normalization: tuple = ("zscore",)
    masked: bool = False
    transpose: tuple = (0, 1, 2)
    scheme: LabelScheme = THREE
    margin: int = 2
    """Voxels of zeros around the body."""

    def image(self):
        rng = np.random.default_rng(3)
        array = ndimage.gaussian_filter(rng.standard_normal((len(self.normalization), *self.shape)), 1) * 300 + 90
        if "rgb_to_0_1" in self.normalization:
            array = np.clip(array, 0, 255)
        array = np.round(array).astype(np.float32)
        body = np.zeros(self.shape, bool)
        body[
            tuple(
                slice(self.margin if size > 6 else 0, size - self.margin if size > 6 else size) for size in self.shape
            )
        ] = True
        array[:, ~body] = 0
        # a hole in every channel, which counts as body, and a dent, which does not
        array[(slice(None), *(slice(size // 2, size // 2 + 1) for size in self.shape))] = 0
        return Image(array=array, grid=Grid.regular(self.shape, self.spacing))

    def labels(self):
        rng = np.random.default_rng(4)
        fields = [ndimage.gaussian_filter(rng.standard_normal(self.shape), 2) for _ in range(4)]
        array = np.argmax(fields, axis=0).astype(np.uint8)
        edge = tuple(slice(3, -3) if size > 8 else slice(None) for size in self.shape)
        kept = np.zeros_like(array)
        kept[edge] = array[edge]
        return LabelMap(array=kept, grid=Grid.regular(self.shape, self.spacing), scheme=self.scheme)

    @property
    def configuration(self):
        dims = len(self.target)
        architecture = Architecture(
            kind="plain_unet",
            dims=dims,
            features=(8, 16),
            kernel_sizes=((3,) * dims,) * 2,
            strides=((1,) * dims, (2,) * dims),
            encoder_blocks=(2, 2),
            decoder_convs=(2,),
        )
        return Configuration(
            name="2d" if dims == 2 else "3d_fullres",
            data_identifier="nnUNetPlans_x",
            spacing_mm=self.target,
            patch_size=(16,) * dims,
            batch_size=2,
            median_shape=(30.0,) * dims,
            normalization=self.normalization,
            use_mask_for_norm=(self.masked,) * len(self.normalization),
            architecture=architecture,
            batch_dice=False,
        )

    @property
    def plan(self):
        return Plan(
            dataset_name="Dataset001_Example",
            plans_name="nnUNetPlans",
            planner_name="ExperimentPlanner",
            image_reader="SimpleITKIO",
            transpose_forward=self.transpose,
            transpose_backward=tuple(int(axis) for axis in np.argsort(self.transpose)),
            original_median_spacing_mm=(1.0, 1.0, 1.0),
            original_median_shape=(30.0, 30.0, 30.0),
            intensities=(STATISTICS,) * len(self.normalization),
            configurations=(self.configuration,),
        )


EXAMPLES = {
    "isotropic": Example((21, 24, 26), (1.0, 1.0, 1.0), (0.8, 0.9, 1.2)),
    "same grid": Example((21, 24, 26), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), normalization=("ct",)),
    "anisotropic": Example((12, 30, 28), (5.0, 0.9, 0.8), (3.0, 1.0, 1.0), normalization=("ct",)),
    "masked": Example((18, 25, 22), (1.0, 1.0, 1.3), (1.1, 1.1, 1.1), masked=True, margin=4),
    "channels": Example((14, 22, 20), (2.0, 1.0, 1.0), (1.5, 1.1, 0.9), ("zscore", "rescale_to_0_1", "none")),
    "transposed": Example((26, 24, 11), (0.8, 0.9, 4.0), (4.0, 1.0, 1.0), transpose=(2, 0, 1)),
    "slices": Example((13, 24, 28), (2.5, 0.7, 0.7), (1.0, 1.1)),
    "anisotropic slices": Example((9, 24, 28), (6.0, 0.7, 0.7), (1.0, 1.1), transpose=(0, 2, 1)),
    "plane": Example((40, 37), (1.0, 1.0), (0.9, 1.3), ("rgb_to_0_1",) * 3),
    "regions": Example((20, 22, 18), (1.0, 1.0, 1.0), (1.2, 0.9, 1.0), scheme=REGIONS),
    "ignore": Example((20, 22, 18), (1.0, 1.0, 1.0), (1.2, 0.9, 1.0), scheme=SCRIBBLES),
}


def ask_nnunet(question, folder, script="preparation_oracle_script.py"):
    """Run a script of this folder (or of an absolute path) with nnU-Net's interpreter.

    It reads question.json and writes into the folder.
    """
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    (folder / "question.json").write_text(json.dumps(question))
    command = [interpreter, str(Path(__file__).parent / script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
