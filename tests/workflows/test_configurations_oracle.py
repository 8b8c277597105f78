"""Post-processing, ensembles and cascades against nnU-Net's own functions, in its own interpreter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from delineate.case import Image, LabelMap, LabelScheme, Structure
from delineate.formats.datasets import CaseFiles
from delineate.formats.images import read_labels, write_image, write_labels
from delineate.formats.model_package import ModelPackage
from delineate.formats.nnunet.dataset_json import dataset_json
from delineate.formats.nnunet.plans_json import plan_to_json
from delineate.formats.nnunet.postprocessing_json import read_postprocessing
from delineate.geometry.grid import Grid
from delineate.masks import postprocess
from delineate.metrics import choose_postprocessing
from delineate.metrics.scores import evaluate_case
from delineate.networks import build_network, to_nnunet
from delineate.planning.plan import Plan
from delineate.planning.recipe import Recipe
from delineate.preprocessing import prepare, restore_to_next_stage
from delineate.training.machine import find_machine
from delineate.workflows.ensemble_predictions import ensemble_folders
from delineate.workflows.model import Model, assemble
from delineate.workflows.score_cases import structures_of
from delineate.workflows.segment_folder import segment_files
from preprocessing.preparation_cases import EXAMPLES, REGIONS, THREE, Example, ask_nnunet

REGIONS_WITH_IGNORE = LabelScheme(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    ignore=3,
    region_order=(1, 2),
)
SCHEMES = {"labels": THREE, "regions": REGIONS, "ignore": REGIONS_WITH_IGNORE, "one": LabelScheme.simple("organ")}
CASES = 4
CASCADES = {
    "isotropic": EXAMPLES["isotropic"],
    "anisotropic": EXAMPLES["anisotropic"],
    "transposed": EXAMPLES["transposed"],
    "masked": EXAMPLES["masked"],
    "regions": EXAMPLES["regions"],
    "scribbles": EXAMPLES["ignore"],
}


# --- what is asked


def blobs(scheme: LabelScheme, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A reference of some balls, and a prediction with false islands; which labels have islands depends on the case."""
    rng = np.random.default_rng(seed)
    shape, top = (16, 20, 18), len(scheme.values)
    reference, predicted = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    index = np.indices(shape)
    for value in range(1, top + 1):
        centre = np.array([8, 4 + 5 * (value - 1), 6 + seed % 3]).reshape(3, 1, 1, 1)
        distance = np.sqrt(((index - centre) ** 2).sum(0))
        reference[distance < 3.5] = value
        predicted[distance < 3.2 + rng.random() * 0.6] = value
    for value in range(1, top + 1):
        corner = tuple(int(c) for c in rng.integers(0, 3, 3))
        # true islands for the second label, false ones for the others
        predicted[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2, 14 + corner[2]] = value
        if value == 2:
            reference[corner[0] : corner[0] + 2, corner[1] : corner[1] + 2, 14 + corner[2]] = value
    if scheme.ignore is not None:
        reference[12:] = scheme.ignore
    return predicted, reference


def plan_of(example: Example) -> Plan:
    full = replace(example.configuration, name="3d_fullres")
    low = replace(full, name="3d_lowres", spacing_mm=tuple(2 * s for s in full.spacing_mm))
    cascade = replace(full, name="3d_cascade_fullres", previous_stage="3d_lowres", inherits_from="3d_fullres")
    return replace(example.plan, configurations=(replace(low, next_stage="3d_cascade_fullres"), full, cascade))


def declared(scheme: LabelScheme, channels: int = 1) -> dict[str, Any]:
    names = tuple(f"channel {i}" for i in range(channels))
    return dataset_json(channel_names=names, scheme=scheme, training_cases=5, file_ending=".nii.gz")


def cascade_model(example: Example) -> Model:
    plan = plan_of(example)
    configuration = plan.configuration("3d_cascade_fullres")
    package = ModelPackage(
        name="cascade",
        software="test",
        plan=plan,
        configuration=configuration,
        recipe=Recipe(iterations=1, batch_size=2, patch_size=configuration.patch_size),
        scheme=example.scheme,
        channel_names=tuple(f"channel {i}" for i in range(len(example.normalization))),
        file_ending=".nii.gz",
        weights={},
    )
    network = build_network(
        configuration.architecture, in_channels=package.input_channels, heads=example.scheme.head_count, seed=3
    )
    # a head with room between its answers, so that rounding decides few voxels
    weights = {
        name: 5 * tensor if name.endswith("seg_layers.0.weight") else tensor
        for name, tensor in network.state_dict().items()
    }
    return assemble(replace(package, weights={"0": weights}), find_machine("cpu"), precision="float32")


@dataclass(frozen=True)
class Question:
    folder: Path
    models: Mapping[str, Model]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Question:
    """Write all inputs, and let nnU-Net answer once."""
    folder = tmp_path_factory.mktemp("oracle")
    plans = json.loads(json.dumps(plan_to_json(plan_of(EXAMPLES["isotropic"]))))
    questions: list[tuple[str, dict[str, Any]]] = []
    for name, scheme in SCHEMES.items():
        questions.append(("postprocessing", _postprocessing(folder / "post" / name, scheme, plans)))
        questions.append(("ensemble", _ensemble(folder / "ensemble" / name, scheme, plans)))
    models = {name: cascade_model(example) for name, example in CASCADES.items()}
    for name, example in CASCADES.items():
        questions.append(("cascade", _cascade(folder / "cascade" / name, example, models[name])))
        questions.append(("next_stage", _next_stage(folder / "stage" / name, example)))
    ask_nnunet(questions, folder, script=str(Path(__file__).with_name("configurations_oracle_script.py")))
    return Question(folder=folder, models=models)


def _postprocessing(folder: Path, scheme: LabelScheme, plans: dict[str, Any]) -> dict[str, Any]:
    grid = Grid.regular((16, 20, 18))
    for number in range(CASES):
        predicted, reference = blobs(scheme, number)
        write_labels(folder / "predictions" / f"case_{number}.nii.gz", LabelMap(array=predicted, grid=grid))
        write_labels(folder / "references" / f"case_{number}.nii.gz", LabelMap(array=reference, grid=grid))
    return {
        "predictions": str(folder / "predictions"),
        "references": str(folder / "references"),
        "plans": plans,
        "dataset": declared(scheme),
    }


def _ensemble(folder: Path, scheme: LabelScheme, plans: dict[str, Any]) -> dict[str, Any]:
    members, shape = [folder / "a", folder / "b", folder / "c"], (7, 9, 8)
    for seed, member in enumerate(members):
        member.mkdir(parents=True)
        (member / "dataset.json").write_text(json.dumps(declared(scheme)))
        for number in range(2):
            rng = np.random.default_rng([seed, number])
            values = rng.random((scheme.head_count, *shape))
            values = values if scheme.has_regions else values / values.sum(0)
            kind = np.float16 if seed else np.float32
            np.savez_compressed(member / f"case_{number}.npz", probabilities=values.astype(kind))
            grid = Grid.regular(shape, (2.0, 1.0, 0.5))
            write_labels(member / f"case_{number}.nii.gz", LabelMap(array=np.zeros(shape, np.uint8), grid=grid))
    return {
        "folders": [str(member) for member in members],
        "out": str(folder / "nnunet"),
        "dataset": declared(scheme),
        "plans": plans,
    }


def previous_of(example: Example) -> LabelMap:
    labels = example.labels()
    array = labels.array.copy()
    array[array > len(example.scheme.values)] = 0  # no stage predicts the ignore label
    return replace(labels, array=array)


def _cascade(folder: Path, example: Example, model: Model) -> dict[str, Any]:
    image = example.image()
    for channel in range(image.channels):
        one = Image(array=image.array[channel : channel + 1], grid=image.grid)
        write_image(folder / "images" / f"case_{channel:04d}.nii.gz", one)
    write_labels(folder / "previous" / "case.nii.gz", previous_of(example))
    trained = folder / "nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"
    (trained / "fold_0").mkdir(parents=True)
    (trained / "plans.json").write_text(json.dumps(plan_to_json(model.package.plan)))
    (trained / "dataset.json").write_text(json.dumps(declared(example.scheme, image.channels)))
    checkpoint = {
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_cascade_fullres"},
        "network_weights": to_nnunet(dict(model.package.weights["0"])),
    }
    torch.save(checkpoint, trained / "fold_0" / "checkpoint_final.pth")
    return {
        "model": str(trained),
        "images": str(folder / "images"),
        "previous": str(folder / "previous"),
        "out": str(folder / "nnunet"),
    }


def _logits(example: Example) -> tuple[NDArray[np.float32], Any, tuple[int, ...]]:
    plan = plan_of(example)
    low = prepare(example.image(), None, plan, plan.configuration("3d_lowres"))
    full = prepare(example.image(), None, plan, plan.configuration("3d_fullres"))
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((example.scheme.head_count, *low.trace.prepared_shape))
    logits = np.stack([ndimage.gaussian_filter(head, 1) for head in noise]).astype(np.float32)
    return logits, low.trace, full.trace.prepared_shape


def _next_stage(folder: Path, example: Example) -> dict[str, Any]:
    folder.mkdir(parents=True)
    logits, trace, shape = _logits(example)
    np.save(folder / "logits.npy", logits)
    return {
        "logits": str(folder / "logits.npy"),
        "plans": json.loads(json.dumps(plan_to_json(plan_of(example)))),
        "configuration": "3d_lowres",
        "dataset": declared(example.scheme),
        "spacing": list(example.spacing),
        "cropped": list(trace.cropped_shape),
        "shape": list(shape),
        "out": str(folder / "nnunet"),
    }


# --- what is compared


@pytest.mark.oracle
@pytest.mark.parametrize("name", SCHEMES)
def test_the_same_post_processing_is_chosen_and_does_the_same(asked: Question, name: str) -> None:
    scheme, folder = SCHEMES[name], asked.folder / "post" / name
    pairs = [blobs(scheme, number) for number in range(CASES)]

    def rescore(candidates: Any) -> Any:
        return [
            [
                evaluate_case(
                    postprocess(predicted, steps),
                    reference,
                    structures_of(scheme),
                    voxel_volume_mm3=1.0,
                    case_id=f"case_{number}",
                    patient_id=str(number),
                    ignore=scheme.ignore,
                )
                for number, (predicted, reference) in enumerate(pairs)
            ]
            for steps in candidates
        ]

    choice = choose_postprocessing(rescore, structures_of(scheme))
    theirs = read_postprocessing(folder / "predictions" / "postprocessing.json", scheme)
    assert choice.steps == theirs
    for number, (predicted, _) in enumerate(pairs):
        after = read_labels(folder / "predictions" / "postprocessed" / f"case_{number}.nii.gz").array
        np.testing.assert_array_equal(postprocess(predicted, choice.steps), after)


@pytest.mark.oracle
def test_the_choices_are_not_all_alike(asked: Question) -> None:
    files = [asked.folder / "post" / name / "predictions" / "postprocessing.json" for name in SCHEMES]
    chosen = {tuple(step.values for step in read_postprocessing(file)) for file in files}
    assert len(chosen) >= 3
    assert any(chosen)


@pytest.mark.oracle
@pytest.mark.parametrize("name", SCHEMES)
def test_ensembles_of_folders_are_nnunets(asked: Question, name: str) -> None:
    folder = asked.folder / "ensemble" / name
    written = ensemble_folders([folder / "a", folder / "b", folder / "c"], folder / "ours")
    assert len(written) == 2
    for path in written:
        ours, theirs = read_labels(path), read_labels(folder / "nnunet" / path.name)
        np.testing.assert_array_equal(ours.array, theirs.array)
        assert ours.grid.matches(theirs.grid)
        assert len(np.unique(ours.array)) > 1


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASCADES)
def test_cascades_predict_what_nnunet_predicts(asked: Question, name: str) -> None:
    folder = asked.folder / "cascade" / name
    model = asked.models[name].with_previous_from(folder / "previous")
    images = tuple(sorted((folder / "images").glob("*.nii.gz")))
    (path,) = segment_files(model, [CaseFiles(case_id="case", patient_id="case", images=images)], folder / "ours")
    ours, theirs = read_labels(path).array, read_labels(folder / "nnunet" / "case.nii.gz").array
    assert len(np.unique(theirs)) > 1
    assert np.mean(ours == theirs) >= 0.9999


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASCADES)
def test_the_next_stage_gets_what_nnunet_gives_it(asked: Question, name: str) -> None:
    logits, trace, shape = _logits(CASCADES[name])
    ours = restore_to_next_stage(logits, trace, CASCADES[name].scheme, shape)
    theirs = np.load(asked.folder / "stage" / name / "nnunet.npy")
    assert ours.shape == theirs.shape
    assert np.mean(ours == theirs) >= 0.9999
