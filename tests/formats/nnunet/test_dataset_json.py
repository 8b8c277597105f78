import json
from dataclasses import replace

import pytest

from delineate.case.labels import LabelScheme, Structure
from delineate.errors import LabelError, PlanError
from delineate.formats.nnunet import (
    dataset_json,
    scheme_from_json,
)

SCHEMES = [
    LabelScheme.simple("liver", "tumour"),
    replace(LabelScheme.simple("liver", "tumour"), ignore=3),
    LabelScheme(
        structures=(Structure(name="whole", values=(1, 2, 3)), Structure(name="core", values=(3,))),
        region_order=(1, 3),
        ignore=4,
    ),
]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_dataset_json_round_trip(scheme):
    data = dataset_json(
        channel_names=("CT", "PET"),
        scheme=scheme,
        training_cases=7,
        file_ending=".nrrd",
        name="X",
        reader_name="Tiff3DIO",
    )
    assert scheme_from_json(json.loads(json.dumps(data))) == scheme
    assert data["channel_names"] == {"0": "CT", "1": "PET"}
    assert data["labels"]["background"] == 0
    assert (data["numTraining"], data["file_ending"]) == (7, ".nrrd")
    assert data["overwrite_image_reader_writer"] == "Tiff3DIO"


def test_dataset_json_faults():
    with pytest.raises(PlanError, match="'labels' is missing"):
        scheme_from_json({})
    with pytest.raises(PlanError, match=r"d.json at 'labels.a': expected a whole number, found 'one'"):
        scheme_from_json({"labels": {"background": 0, "a": "one"}}, source="d.json")
    with pytest.raises(LabelError, match="consecutive"):
        scheme_from_json({"labels": {"background": 0, "a": 2}})
