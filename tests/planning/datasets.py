"""Made-up datasets, as fingerprints and declarations, on which the planner is checked against nnU-Net."""

from dataclasses import dataclass, field

import numpy as np

from delineate.formats.nnunet import fingerprint_from_json
from delineate.planning.planner import DatasetFacts

NUMBERS = {"mean": 98.5, "median": 97.0, "std": 41.25, "min": -3.0, "max": 812.5}
NUMBERS |= {"percentile_99_5": 211.0, "percentile_00_5": 4.5}
NUMBERS = dict(sorted(NUMBERS.items()))


@dataclass(frozen=True)
class Made:
    """A dataset that exists on paper only."""

    spacings: list
    shapes: list
    channels: tuple = ("CT",)
    labels: dict = field(default_factory=lambda: {"background": 0, "organ": 1})
    training: int = 40
    ending: str = ".nii.gz"
    reader: str = "SimpleITKIO"
    relative_size: float = 1.0
    extra: dict = field(default_factory=dict)

    def fingerprint_json(self):
        return {
            "spacings": self.spacings,
            "shapes_after_crop": self.shapes,
            "foreground_intensity_properties_per_channel": {str(i): NUMBERS for i in range(len(self.channels))},
            "median_relative_size_after_cropping": self.relative_size,
        }

    def declaration(self):
        return {
            "channel_names": {str(i): c for i, c in enumerate(self.channels)},
            "labels": self.labels,
            "numTraining": self.training,
            "file_ending": self.ending,
            **self.extra,
        }

    def fingerprint(self):
        return fingerprint_from_json(self.fingerprint_json())

    def facts(self, name="Dataset001_Case0"):
        return DatasetFacts(
            name=name,
            channel_names=self.channels,
            label_count=len(self.labels),
            training_cases=self.training,
            reader_name=self.reader,
        )


def _around(spacing, shape, seed, cases=9, jitter=0.15):
    """Return cases whose spacing and shape scatter around the given ones (axes z, y, x)."""
    rng = np.random.default_rng(seed)
    spacings = [[round(float(s), 4) for s in np.array(spacing) * rng.uniform(1, 1 + jitter, 3)] for _ in range(cases)]
    shapes = [[max(1, int(n)) for n in np.array(shape) * rng.uniform(1 - jitter, 1 + jitter, 3)] for _ in range(cases)]
    return spacings, shapes


def _hippocampus(training):
    spacings, shapes = [[1.0, 1.0, 1.0]] * 5, [[36, 50, 35]] * 5
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    return Made(spacings, shapes, ("MRI",), labels, training)


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}

DATASETS = {
    "hippocampus_260": _hippocampus(260),
    "hippocampus_208": _hippocampus(208),
    "isotropic": Made(*_around((1.0, 1.0, 1.0), (130, 160, 140), 1)),
    "anisotropic": Made(*_around((5.0, 0.7, 0.7), (20, 320, 320), 2), ("MRI",)),
    "cine": Made(
        *_around((9.5, 1.4, 1.4), (9, 216, 256), 3, cases=10), ("cine",), {"background": 0, "a": 1, "b": 2}, 200
    ),
    "coarse_axis_in_the_middle": Made(*_around((0.8, 4.0, 0.8), (300, 40, 280), 4), ("CT", "nonorm")),
    "planes": Made(
        [[999.0, 1.0, 1.0]] * 4,
        [[1, 512, 640], [1, 480, 640], [1, 512, 600], [1, 300, 280]],
        ("r", "g", "b"),
        {"background": 0, "cell": 1},
        120,
        ".png",
        "NaturalImage2DIO",
    ),
    "lowres": Made(*_around((1.0, 0.78, 0.78), (420, 512, 512), 5, cases=11), training=131),
    "lowres_dropped": Made([[1.0, 1.0, 1.0]] * 3, [[210, 230, 215]] * 3),
    "huge_anisotropic": Made(*_around((3.0, 0.45, 0.45), (150, 1024, 1024), 6), training=300),
    "masked": Made(
        *_around((1.0, 1.0, 1.0), (150, 180, 150), 7), ("T1", "ct", "Zscore", "rescale_to_0_1"), relative_size=0.4
    ),
    "regions_ignore": Made(
        *_around((1.0, 1.0, 1.0), (138, 170, 140), 8),
        ("FLAIR", "T1", "T1ce", "T2"),
        REGIONS,
        484,
        relative_size=0.6,
        extra={"regions_class_order": [1, 2, 3]},
    ),
    "many_classes": Made(
        *_around((1.5, 1.5, 1.5), (250, 230, 230), 9),
        labels={"background": 0, **{f"s{i}": i for i in range(1, 118)}},
        training=1100,
    ),
    "tiny": Made([[1.0, 1.0, 1.0]] * 4, [[9, 12, 8], [10, 9, 9], [8, 8, 8], [12, 9, 10]], training=4),
    "thin": Made([[3.0, 0.5, 0.5]] * 3, [[5, 60, 70], [6, 64, 66], [4, 50, 64]], training=3),
    "natural_png_rgb": Made(
        [[999.0, 1.0, 1.0]] * 3,
        [[1, 96, 120], [1, 90, 100], [1, 200, 64]],
        ("rgb_to_0_1", "rgb_to_0_1", "rgb_to_0_1"),
        training=30,
        ending=".png",
        reader="NaturalImage2DIO",
    ),
}


def gist(plan_json):
    """Return the decisions of a plan, per configuration: what changes when a rule changes."""
    return {name: _gist(c) for name, c in plan_json["configurations"].items() if "inherits_from" not in c}


def _gist(configuration):
    kwargs = configuration["architecture"]["arch_kwargs"]
    return {
        "patch": configuration["patch_size"],
        "batch": configuration["batch_size"],
        "spacing": [round(s, 6) for s in configuration["spacing"]],
        "median": configuration["median_image_size_in_voxels"],
        "strides": " ".join("".join(map(str, s)) for s in kwargs["strides"]),
        "kernels": " ".join("".join(map(str, k)) for k in kwargs["kernel_sizes"]),
        "features": kwargs["features_per_stage"],
        "batch_dice": configuration["batch_dice"],
        "masks": configuration["use_mask_for_norm"],
    }


GOLDEN_RESIDUAL = ("isotropic", "cine", "lowres")
"""Datasets whose ResEnc L plans are kept as golden facts too."""


def plan_request(made, preset, target=None):
    """Return the request to the oracle for one plan."""
    return {
        "kind": "plan",
        "dataset": made.declaration(),
        "fingerprint": made.fingerprint_json(),
        "planner": preset.planner_name,
        "target_spacing": target,
    }
