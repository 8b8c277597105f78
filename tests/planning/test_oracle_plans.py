"""The planner against nnunetv2 itself: plans equal key for key and digit for digit."""

import json

import numpy as np
import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import fingerprint_to_json, plan_from_json, plan_to_json
from delineate.planning.fingerprint import measure_case, pool, samples_per_case
from delineate.planning.planner import plan_dataset
from delineate.planning.presets import DEFAULT, RESENC_L, RESENC_M, RESENC_XL
from delineate.planning.splits import make_splits
from planning.datasets import DATASETS, Made, plan_request
from planning.oracle import ask

PRESETS = (DEFAULT, RESENC_M, RESENC_L, RESENC_XL)


def _ours(made, preset, index, target=None):
    facts = made.facts(f"Dataset{index % 900 + 1:03d}_Case{index}")
    plan = plan_dataset(made.fingerprint(), facts, preset, target_spacing_mm=target)
    assert plan_from_json(plan_to_json(plan)) == plan
    return plan_to_json(plan)


@pytest.mark.oracle
def test_plans_equal_nnunet_for_every_dataset_and_preset(tmp_path):
    pairs = [(made, preset) for name, made in DATASETS.items() for preset in PRESETS if _worth_it(name, preset)]
    answers = ask([plan_request(made, preset) for made, preset in pairs], tmp_path)
    for index, ((made, preset), answer) in enumerate(zip(pairs, answers, strict=True)):
        ours = _ours(made, preset, index)
        assert ours == answer
        # the same text too: order of keys, int or float
        assert json.dumps(ours) == json.dumps(answer)


def _worth_it(name, preset):
    return preset is DEFAULT or name in {"isotropic", "anisotropic", "planes", "lowres", "regions_ignore", "tiny"}


@pytest.mark.oracle
def test_target_spacing_that_the_user_gives(tmp_path):
    targets = [[2.0, 1.0, 1.0], [0.5, 0.5, 3.0]]
    made = DATASETS["isotropic"]
    answers = ask([plan_request(made, DEFAULT, t) for t in targets], tmp_path)
    assert [_ours(made, DEFAULT, i, t) for i, t in enumerate(targets)] == answers


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(6))
def test_random_datasets(tmp_path, seed):
    rng = np.random.default_rng(seed)
    pairs = [(_random(rng), PRESETS[int(rng.integers(4))]) for _ in range(60)]
    answers = ask([plan_request(made, preset) for made, preset in pairs], tmp_path)
    failed = 0
    for index, ((made, preset), answer) in enumerate(zip(pairs, answers, strict=True)):
        if "error" in answer:
            failed += 1
            continue
        assert _ours(made, preset, index) == answer, (made, preset.plans_name)
    assert failed < len(pairs) // 10


def _random(rng):
    cases = int(rng.integers(1, 8))
    spacing = np.exp(rng.uniform(np.log(0.2), np.log(3), 3))
    spacing[rng.integers(3)] *= rng.choice([1, 1, 3, 8])
    shape = np.exp(rng.uniform(np.log(8), np.log(700), 3))
    if rng.random() < 0.15:
        shape[0], spacing[0] = 1, spacing.max() * 4
    plane = shape[0] == 1
    spacings = (spacing * rng.uniform(0.8, 1.3, (cases, 3))).tolist()
    shapes = np.maximum(shape * rng.uniform(0.7, 1.4, (cases, 3)), 1 if plane else 4).astype(int)
    if plane:
        shapes[:, 0] = 1
    labels = {"background": 0, **{f"s{i}": i for i in range(1, int(rng.choice([2, 3, 6, 40])))}}
    channels = tuple(rng.choice(["CT", "MRI", "noNorm", "rescale_to_0_1"], size=int(rng.integers(1, 4))).tolist())
    training = int(np.exp(rng.uniform(0, 7)))
    return Made(spacings, shapes.tolist(), channels, labels, training, relative_size=float(rng.uniform(0.3, 1)))


@pytest.mark.oracle
def test_fingerprint_equals_nnunet(tmp_path):
    rng = np.random.default_rng(5)
    files, arrays = {}, {}
    for name, shape, fill in (("a", (9, 14, 12), 0.4), ("b", (11, 8, 13), 0.02), ("c", (5, 6, 7), 0.3)):
        image = rng.normal(100, 60, (2, *shape))
        image[:, :2] = 0
        image[:, :, -3:] = 0
        labels = (rng.random(shape) < fill) * rng.integers(1, 3, shape)
        arrays[name] = (image, labels, rng.uniform(0.5, 3, 3))
        files[name] = str(tmp_path / f"{name}.npz")
        np.savez(files[name], image=image, labels=labels, spacing=arrays[name][2])
    empty = arrays["c"][0], np.zeros_like(arrays["c"][1]), arrays["c"][2]
    files["empty"] = str(tmp_path / "empty.npz")
    np.savez(files["empty"], image=empty[0], labels=empty[1], spacing=empty[2])
    sets = [("a", "b", "c"), ("a", "b", "empty")]
    requests = [
        {"kind": "fingerprint", "channels": 2, "total": total, "cases": {n: files[n] for n in names}}
        for names in sets
        for total in (900, 30_000)
    ]
    answers = iter(ask(requests, tmp_path))
    for names in sets:
        for total in (900, 30_000):
            samples = samples_per_case(len(names), total)
            cases = [arrays.get(n, empty) for n in names]
            measured = [measure_case(i, m, s, samples=samples) for i, m, s in cases]
            pooled = pool(measured, samples=samples)
            assert fingerprint_to_json(pooled, own_facts=False) == next(answers)


@pytest.mark.oracle
def test_folds_equal_nnunet(tmp_path):
    sizes = [5, 6, 7, 9, 11, 208, 260]
    ids = {n: [f"case_{i:03d}" for i in range(n)][::-1] for n in sizes}
    answers = ask([{"kind": "folds", "ids": ids[n], "n": 5} for n in sizes], tmp_path)
    for n, answer in zip(sizes, answers, strict=True):
        assert [{"train": list(s.train), "val": list(s.validation)} for s in make_splits(ids[n])] == answer


def test_a_memory_target_that_nothing_fits_is_refused():
    with pytest.raises(PlanError, match="larger memory target"):
        plan_dataset(DATASETS["isotropic"].fingerprint(), DATASETS["isotropic"].facts(), DEFAULT.with_memory(1e-6))
