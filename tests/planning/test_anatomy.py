from __future__ import annotations

import json
import os
import subprocess
from collections import Counter

import pytest

from delineate.errors import UsageError
from delineate.metrics.plausibility import Pair
from delineate.planning import anatomy
from delineate.planning.anatomy import (
    expectations,
    facts_of,
    models_needed,
    rough_crop,
    structure_facts,
    task_named,
    tasks,
)

SUBMODULES = {"structures"}
"""Those whose name is not also that of a function."""
ASK = """
import importlib.util, json, sys
def load(name):
    spec = importlib.util.spec_from_file_location(name, f"{sys.argv[1]}/totalsegmentator/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
classes, tasks = load("map_to_binary"), load("map_tasks_config")
print(json.dumps({
    "classes": classes.class_map,
    "weights": {k: v for k, v in tasks.TASK_ID_WEIGHTS_CONFIGS.items()},
    "tasks": tasks.TASK_CONFIGS,
}))
"""


def test_total_is_put_together_of_five_models() -> None:
    total = task_named("total")
    models = total.variant("normal").models
    assert len(total.classes) == 117
    assert [(m.dataset_id, len(m.classes)) for m in models] == [(291, 24), (292, 26), (293, 18), (294, 23), (295, 26)]
    assert tuple(name for model in models for name in model.classes) == total.classes
    offsets = [total.value_of(model.classes[0]) - 1 for model in models]
    assert offsets == [0, 24, 50, 68, 91]
    assert {v: (s.models[0].dataset_id, s.spacing_mm) for v, s in total.variants.items() if v != "normal"} == {
        "fast": (297, (3.0, 3.0, 3.0)),
        "fastest": (298, (6.0, 6.0, 6.0)),
    }
    assert models[0].model_folder == "nnUNetTrainerNoMirroring__nnUNetPlans__3d_fullres"


def test_mr_has_fifty_structures_in_two_models() -> None:
    total = task_named("total_mr")
    assert len(total.classes) == 50
    assert [(m.dataset_id, len(m.classes)) for m in total.variant("normal").models] == [(850, 29), (851, 21)]


@pytest.mark.parametrize("name", list(tasks()))
def test_every_task_is_coherent(name: str) -> None:
    task = task_named(name)
    assert len(set(task.classes)) == len(task.classes)
    for variant in task.variants.values():
        assert variant.models
        assert set(task.classes) <= {c for model in variant.models for c in model.classes}
        for model in variant.models:
            assert model.folder.startswith(f"Dataset{model.dataset_id:03d}_")
            assert bool(model.release) == (task.licence.kind != "key")
    for rough in (task.crop, task.roi):
        if rough is not None:
            other = task_named(rough.task)
            other.variant(rough.variant)
            assert set(rough.structures) <= set(other.classes)
            assert other.licence.kind == "open"
    for structure in task.classes:
        assert structure in structure_facts()


def test_only_the_models_that_are_needed() -> None:
    total = task_named("total")
    assert [m.dataset_id for m in models_needed(total, "normal")] == [291, 292, 293, 294, 295]
    assert [m.dataset_id for m in models_needed(total, "normal", ("liver", "sternum"))] == [298, 291, 295]
    assert [m.dataset_id for m in models_needed(total, "fastest", ("liver",))] == [298]
    assert [m.dataset_id for m in models_needed(task_named("total_mr"), "normal", ("brain",))] == [852, 851]
    assert [m.dataset_id for m in models_needed(task_named("lung_vessels"), "normal")] == [297, 117]
    assert [m.dataset_id for m in models_needed(task_named("abdominal_muscles"), "normal")] == [300, 952]
    assert [m.dataset_id for m in models_needed(task_named("teeth"), "normal")] == [298, 115, 113]


def test_a_structure_that_the_rough_model_lacks_is_looked_for_everywhere() -> None:
    assert rough_crop(task_named("total_v3"), ("vertebrae_L6",)) is None
    crop = rough_crop(task_named("total_v3"), ("liver",))
    assert crop is not None
    assert (crop.structures, crop.margin_mm) == (("liver",), 20)


def test_wrong_choices_are_named() -> None:
    with pytest.raises(UsageError, match="no anatomy task 'totl'"):
        task_named("totl")
    with pytest.raises(UsageError, match="has no structure 'livre'"):
        models_needed(task_named("total"), "normal", ("livre",))
    with pytest.raises(UsageError, match="has no fast variant; it has: normal"):
        models_needed(task_named("breasts"), "fast")
    with pytest.raises(UsageError, match="total, total_v3, total_mr; not by 'body'"):
        models_needed(task_named("body"), "normal", ("body_trunc",))


def test_every_structure_of_total_is_coded() -> None:
    coded = [facts_of(name) for name in task_named("total").classes]
    assert all(facts.kind is not None for facts in coded)
    assert sum(facts.tg263 is not None for facts in coded) == 97
    liver, kidney = facts_of("liver"), facts_of("kidney_left")
    assert (liver.kind.value, liver.side, liver.tg263) == ("10200004", "", "Liver")
    assert (kidney.kind.value, kidney.modifier.value, kidney.tg263) == ("64033007", "7771000", "Kidney_L")
    assert facts_of("vertebrae_T7").tg263 == "VB_T07"
    assert facts_of("rib_right_3").tg263 == "Rib03_R"
    cyst = facts_of("kidney_cyst_right")
    assert (cyst.region.value, cyst.region_modifier.value, cyst.tg263) == ("64033007", "24028007", None)


def test_facts_keep_their_rules() -> None:
    """SNOMED CT codes end in a check digit (Verhoeff); TG-263 names have at most 16 characters; sides agree."""
    for facts in structure_facts().values():
        for code in (facts.category, facts.kind, facts.region):
            assert code is None or verhoeff(code.value) == 0, code
        assert facts.tg263 is None or len(facts.tg263) <= 16
        if facts.modifier is not None:
            assert facts.modifier.meaning.lower() == facts.side
        if facts.tg263 is not None and facts.side and "Lung_" not in facts.tg263:
            assert facts.tg263.endswith({"left": "_L", "right": "_R"}[facts.side])
    names = Counter(f.tg263 for n in task_named("total").classes if (f := facts_of(n)).tg263)
    assert max(names.values()) == 1


def verhoeff(number: str) -> int:
    """Return 0 for numbers with the right last digit; the dihedral group's table is made here."""
    check, permuted = 0, list(range(10))
    step = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    for digit in reversed(number):
        check = _dihedral(check, permuted[int(digit)])
        permuted = [step[p] for p in permuted]
    return check


def _dihedral(a: int, b: int) -> int:
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b - 5) % 5
    return 5 + (a - 5 - b) % 5 if b < 5 else (a - b) % 5


def test_unknown_structures_are_grey() -> None:
    assert facts_of("something else").colour == (128, 128, 128)


def test_expectations_name_pairs_and_chains() -> None:
    expected = expectations(task_named("total").classes)
    assert Pair(left="kidney_left", right="kidney_right") in expected.pairs
    assert Pair(left="spleen", right="liver") in expected.pairs
    assert not any("lobe" in pair.left and "middle" in pair.right for pair in expected.pairs)
    spine, left, right = expected.chains
    assert spine.structures[:3] == ("sacrum", "vertebrae_S1", "vertebrae_L5")
    assert spine.structures[-1] == "vertebrae_C1"
    assert left.structures[0] == "rib_left_12"
    assert right.structures[-1] == "rib_right_1"
    assert expectations(("breast",)).pairs == ()


def test_the_room_lists_its_names() -> None:
    assert set(anatomy.__all__) == {name for name in vars(anatomy) if not name.startswith("_")} - SUBMODULES


@pytest.mark.oracle
def test_the_tables_are_totalsegmentators() -> None:
    interpreter, package = os.environ.get("DELINEATE_ORACLE_PYTHON"), os.environ.get("DELINEATE_TOTALSEGMENTATOR")
    if not interpreter or not package:
        pytest.skip("DELINEATE_ORACLE_PYTHON or DELINEATE_TOTALSEGMENTATOR is not set")
    done = subprocess.run([interpreter, "-c", ASK, package], check=True, capture_output=True, text=True)
    theirs = json.loads(done.stdout)
    for name, task in tasks().items():
        assert {str(v): c for v, c in enumerate(task.classes, start=1)} == theirs["classes"][name]
        raw = theirs["tasks"][name]
        modes = raw.get("sub_modes", {"default": raw})
        assert raw.get("commercial", False) == (task.licence.kind == "key")
        for mode, entry in modes.items():
            variant = task.variant("normal" if mode == "default" else mode)
            ids = entry["task_id"] if isinstance(entry["task_id"], list) else [entry["task_id"]]
            assert [model.dataset_id for model in variant.models] == ids
            assert {model.trainer for model in variant.models} == {entry["trainer"]}
            assert {model.configuration for model in variant.models} == {entry.get("model", "3d_fullres")}
            spacing = entry.get("resample")
            expected = None if spacing is None else [spacing] * 3 if isinstance(spacing, float) else spacing[::-1]
            assert variant.spacing_mm == (None if expected is None else tuple(expected))
            for model in variant.models:
                weights = theirs["weights"][str(model.dataset_id)]
                assert (model.folder, model.release) == (weights["foldername"], weights.get("version", ""))
        if task.crop is not None:
            assert list(task.crop.structures) == raw["crop"]
