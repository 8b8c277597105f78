"""A cascade between Delineate and the real nnU-Net: theirs in two commands, ours alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import delineate
from delineate.case import Image, LabelScheme
from delineate.formats.images import read_labels, write_image
from delineate.formats.model_package import ModelPackage, write_package
from delineate.geometry.grid import Grid
from delineate.networks import build_network
from delineate.planning.plan import Plan
from delineate.planning.recipe import Recipe
from delineate.workflows.exchange_models import export_model
from formats.nnunet.trained_models import LABELS, REGIONS, architecture, configuration, plan
from workflows.nnunet_tools import needs_oracle, predict

pytestmark = [pytest.mark.oracle, pytest.mark.slow, needs_oracle]
FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"
AGREEMENT = 0.9999
"""Least share of equal voxels with nnU-Net's own rounding."""
EXACT_AGREEMENT = 0.999
"""Least share without it: random networks have many voxels of nearly equal heads, which half precision decides."""
CASES = ("a", "b")


def two_stages() -> Plan:
    full = configuration(patch_size=(16, 24, 16), architecture=architecture(features=(8, 16)), spacing_mm=(1.3, 1.0, 1))
    low = replace(full, name=FIRST, spacing_mm=(2.4, 1.9, 2.1), data_identifier=FIRST, next_stage=SECOND)
    return plan(low, full, replace(full, name=SECOND, inherits_from=full.name, previous_stage=FIRST))


def stage(of: Plan, name: str, scheme: LabelScheme, previous: ModelPackage | None = None) -> ModelPackage:
    """A model of two folds with random weights, whose heads have some room between them."""
    chosen = of.configuration(name)
    package = ModelPackage(
        name=of.dataset_name,
        software="test",
        plan=of,
        configuration=chosen,
        recipe=Recipe(iterations=1, batch_size=chosen.batch_size, patch_size=chosen.patch_size, mirror_axes=(0, 2)),
        scheme=scheme,
        channel_names=("MRI",),
        file_ending=".nii.gz",
        mirror_axes=(0, 2),
        weights={},
        previous=previous,
    )
    return replace(package, weights={fold: weights_of(package, seed) for seed, fold in enumerate(("0", "1"))})


def weights_of(package: ModelPackage, seed: int) -> dict[str, torch.Tensor]:
    network = build_network(
        package.configuration.architecture,
        in_channels=package.input_channels,
        heads=package.scheme.head_count,
        seed=seed + 10 * package.input_channels,
    )
    last = "seg_layers.0.weight"
    return {name: 20 * value if name.endswith(last) else value for name, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cascades") / "images"
    generator = np.random.default_rng(1)
    for case in CASES:
        coarse = np.kron(generator.normal(size=(6, 8, 7)), np.ones((5, 5, 5)))
        array = (coarse + 0.05 * generator.normal(size=coarse.shape)).astype(np.float32)
        grid = Grid.regular(array.shape, (1.2, 0.9, 1.5))
        write_image(folder / f"{case}_0000.nii.gz", Image(array=array[None], grid=grid))
    return folder


@pytest.mark.parametrize("scheme", [LABELS, REGIONS], ids=["labels", "regions"])
def test_ours_alone_says_what_nnunet_says_in_two_steps(scheme: LabelScheme, images: Path, tmp_path: Path) -> None:
    of = two_stages()
    package = stage(of, SECOND, scheme, previous=stage(of, FIRST, scheme))
    write_package(tmp_path / "package", package)
    second = export_model(tmp_path / "package", tmp_path / "results", "nnunet")
    first = second.with_name(second.name.replace(SECOND, FIRST))
    predict(images, first, tmp_path / "first", "-f", "0", "1")
    given = ("-prev_stage_predictions", str(tmp_path / "first"))
    predict(images, second, tmp_path / "second", "-f", "0", "1", *given)
    model = delineate.load_model(second, device="cpu", precision="float32")
    for which, least in ((model.rounded_as_nnunet(), AGREEMENT), (model, EXACT_AGREEMENT)):
        shares = [share(which, images, tmp_path / "second", case) for case in CASES]
        assert min(shares) >= least, (which.rounding, shares)


def share(model: delineate.Model, images: Path, theirs: Path, case: str) -> float:
    expected = read_labels(theirs / f"{case}.nii.gz").array
    assert min(np.mean(expected == value) for value in (1, 2)) > 0.01
    return float(np.mean(model.predict(images / f"{case}_0000.nii.gz").labels.array == expected))
