"""Bland-Altman plots, heat maps and reliability diagrams: what is drawn stands where it belongs."""

import math
import re

import numpy as np
import pytest

from delineate.metrics.calibration import reliability
from delineate.metrics.evaluation.volume_agreement import VolumeAgreement
from delineate.metrics.statistics import Interval, bootstrap
from delineate.reports.bland_altman import LEFT, PANEL_WIDTH, bland_altman
from delineate.reports.heat_map import heat_map
from delineate.reports.metric_words import Scale
from delineate.reports.reliability_diagram import reliability_diagram

NARROW = Interval(low=-1, high=1)
ML = Scale(unit="ml", decimals=None)


def agreement(differences, *, name="liver", interval=NARROW):
    n = len(differences)
    reference = tuple(10.0 + i for i in range(n))
    return VolumeAgreement(
        structure=name,
        case_ids=tuple(f"c{i}" for i in range(n)),
        predicted_ml=tuple(r + d for r, d in zip(reference, differences, strict=True)),
        reference_ml=reference,
        bias_ml=bootstrap(differences, [str(i) for i in range(n)], seed=0),
        limits_ml=(-4.0, 4.0) if n > 1 else (math.nan, math.nan),
        limits_intervals=(interval, interval),
        concordance=0.9,
        seed=0,
    )


def test_lines_of_bias_and_limits_and_a_dot_per_case():
    text = bland_altman([agreement((1.0, -1.0, 3.0))], ML)
    heights = {name: re.findall(rf'y1="([\d.]+)"[^>]*class="{name}-line"', text) for name in ("bias", "limit")}
    upper, lower = (float(y) for y in heights["limit"])
    assert upper < float(heights["bias"][0]) < lower  # pictures grow downwards
    assert text.count("<circle") == 3
    assert "c0: predicted 11.0, reference 10.0 ml" in text
    assert "+1.00" in text


def test_one_case_has_no_limits():
    text = bland_altman([agreement((1.0,), interval=Interval(low=math.nan, high=math.nan))], ML)
    assert text.count("limit-line") == text.count("limit-band") == 0
    assert text.count("<circle") == 1
    assert "nan" not in text


def test_panels_stand_beside_and_below_each_other():
    text = bland_altman([agreement((1.0, 2.0), name=f"s{i}") for i in range(3)], ML)
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)"[^>]*class="name">', text)]
    assert places == pytest.approx([LEFT, 2 * LEFT + PANEL_WIDTH + 46, LEFT])


def test_darker_cells_have_larger_values_and_unknown_ones_are_empty():
    values = np.array([[0.0, 0.5], [1.0, math.nan]])
    text = heat_map(values, [["0", "half"], ["one", ""]], (("a", "b"), ("c", "<d>")), (0.0, 1.0), caption="map")
    opacities = [float(v) for v in re.findall(r'fill-opacity="([\d.]+)"', text)]
    assert opacities[0] < opacities[1] < opacities[2]
    assert opacities[3] == 0
    assert text.count("on-dark") == 1
    assert "<d>" not in text


def test_equal_values_and_many_columns_fit():
    values = np.ones((1, 16))
    text = heat_map(values, [["1"] * 16], (("a",), [f"rater {i}" for i in range(16)]), (1.0, 1.0), caption="map")
    assert float(re.search(r'viewBox="0 0 ([\d.]+)', text)[1]) < 1100


def test_a_perfectly_calibrated_curve_lies_on_the_line():
    stated = np.repeat(np.array([0.25, 0.75]), 400)
    true = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    text = reliability_diagram([("As predicted", reliability(stated, true, bins=2))])
    assert "As predicted: ECE 0.000" in text
    (x1, y1), (x2, y2) = (tuple(map(float, p)) for p in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', text))
    assert y1 - y2 == pytest.approx(x2 - x1, abs=0.02)


def test_bins_without_samples_are_left_out():
    text = reliability_diagram([("a", reliability(np.array([0.95]), np.array([True])))])
    assert text.count('class="box"') == text.count("<circle") == 1
    assert "nan" not in text
