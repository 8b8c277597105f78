"""``postprocessing.json``: round trip, nnU-Net's spellings, and what is refused."""

import json

import pytest

from delineate.case.labels import LabelScheme
from delineate.errors import LabelError, PlanError
from delineate.formats.nnunet.postprocessing_json import KEEP_LARGEST, read_postprocessing, write_postprocessing
from delineate.masks import PostprocessingStep

SCORES = {"foreground_mean": {"Dice": 0.5}, "mean": {"1": {"Dice": 0.5}}, "metric_per_case": []}


def written(path, kwargs, names=None):
    names = [KEEP_LARGEST] * len(kwargs) if names is None else names
    path.write_text(json.dumps({"postprocessing_fns": names, "postprocessing_kwargs": kwargs}))
    return path


def test_what_is_written_is_read(tmp_path):
    steps = (PostprocessingStep(values=(1, 2, 3)), PostprocessingStep(values=(2,)))
    write_postprocessing(tmp_path / "pp.json", steps, SCORES, SCORES)
    assert read_postprocessing(tmp_path / "pp.json") == steps
    record = json.loads((tmp_path / "pp.json").read_text())
    assert record["postprocessing_kwargs"] == [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": 2}]
    assert record["input_folder"] == {"foreground_mean": {"Dice": 0.5}, "mean": {"1": {"Dice": 0.5}}}


def test_labels_regions_and_lists_of_both_are_understood(tmp_path):
    path = written(tmp_path / "pp.json", [{"labels_or_regions": 3}, {"labels_or_regions": [[1, 2], 3]}])
    assert [step.values for step in read_postprocessing(path)] == [(3,), (1, 2, 3)]


@pytest.mark.parametrize(
    ("kwargs", "names", "told"),
    [
        ([{"labels_or_regions": 1}], ["os.system"], "only"),
        ([{"labels_or_regions": 1}], [], "0 functions, but 1"),
        ([{"labels": 1}], None, "labels_or_regions"),
        ([{"labels_or_regions": []}], None, "positive"),
        ([{"labels_or_regions": "liver"}], None, "whole number"),
    ],
)
def test_other_functions_and_damaged_files_are_refused(tmp_path, kwargs, names, told):
    with pytest.raises(PlanError, match=told):
        read_postprocessing(written(tmp_path / "pp.json", kwargs, names))


def test_steps_for_other_labels_are_refused(tmp_path):
    path = written(tmp_path / "pp.json", [{"labels_or_regions": [1, 7]}])
    with pytest.raises(LabelError, match="7"):
        read_postprocessing(path, LabelScheme.simple("a", "b"))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(PlanError, match="does not exist"):
        read_postprocessing(tmp_path / "pp.json")
