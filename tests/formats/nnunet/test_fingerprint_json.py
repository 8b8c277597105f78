from dataclasses import replace

import pytest

from delineate.errors import PlanError
from delineate.formats.nnunet import (
    fingerprint_from_json,
    fingerprint_to_json,
    read_fingerprint,
    write_fingerprint,
)
from delineate.planning.fingerprint import StructureFacts
from planning.datasets import DATASETS

FACTS = StructureFacts(value=1, name="organ", cases=3, median_volume_mm3=12.5, smallest_volume_mm3=3.0)


def test_fingerprint_round_trip(tmp_path):
    fingerprint = replace(DATASETS["masked"].fingerprint(), structures=(FACTS,))
    write_fingerprint(tmp_path / "dataset_fingerprint.json", fingerprint)
    assert read_fingerprint(tmp_path / "dataset_fingerprint.json") == fingerprint
    nnunets = fingerprint_to_json(fingerprint, own_facts=False)
    assert nnunets == DATASETS["masked"].fingerprint_json()
    assert fingerprint_from_json(nnunets) == replace(fingerprint, structures=())


def test_fingerprint_faults_are_named():
    data = DATASETS["masked"].fingerprint_json()
    with pytest.raises(PlanError, match=r"f.json at 'spacings\[0\]\[1\]': expected a finite number, found None"):
        fingerprint_from_json({**data, "spacings": [[1.0, None, 1.0]]}, source="f.json")
    with pytest.raises(PlanError, match="9 spacings and 1 shapes"):
        fingerprint_from_json({**data, "shapes_after_crop": [[4, 4, 4]]})
    with pytest.raises(PlanError, match="'shapes_after_crop' is missing"):
        fingerprint_from_json({k: v for k, v in data.items() if k != "shapes_after_crop"})
