"""The page of an evaluation: all parts, hostile names, emptiness, many structures, odd numbers."""

import math
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from evaluation_examples import METRICS, cohort, full_evaluation, many_structures, plain_evaluation
from report_examples import draw
from test_pages import HOSTILE, LOADING, Page

from delineate.metrics.cohort import summarise_rows
from delineate.metrics.evaluation.definitions import TEXTS
from delineate.metrics.evaluation.evaluation import Evaluation
from delineate.metrics.evaluation.volume_agreement import agree_on_volumes
from delineate.metrics.table import METRICS as ALL_METRICS
from delineate.reports import render_evaluation
from delineate.reports.evaluation_page import evaluation_html
from delineate.reports.evaluation_parts.trust import ideal_risk
from delineate.reports.metric_words import direction_of, telling, units_of, worse
from delineate.reports.report_data import Fact

PARTS = {
    "thresholds": "Thresholds",
    "volumes": "Volumes",
    "subgroups": "Subgroups",
    "shifts": "Unseen sites",
    "comparison": "Other models",
    "raters": "Observers",
    "trust": "Does it know when it is wrong?",
}


@pytest.fixture(scope="module")
def full():
    return full_evaluation()


@pytest.fixture(scope="module")
def page(full):
    facts = (Fact(label="Command", value="delineate evaluate a b"),)
    return evaluation_html(full, overlays=(draw("case_003", role="worst"),), facts=facts, created="2026-11-26")


def words(text):
    return " ".join("".join(Page(text).words).split())


def test_the_page_loads_nothing_and_closes_its_tags(page):
    parsed = Page(page)
    assert parsed.open == []
    assert all(v.startswith("data:image/png;base64,") for n, v in parsed.attributes if n in LOADING)
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\(|javascript:|\bon\w+=", page)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in parsed.attributes
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids)) == 2


def test_every_part_is_there(page):
    for title in (*PARTS.values(), "Results by structure", "Pictures", "All cases", "How it was made"):
        assert f"<h2>{title}</h2>" in page


def test_the_headline_tells_how_good_on_how_many_and_failures(full, page):
    means = [np.nanmean([row.values["dice"] for row in case.rows]) for case in full.cases]
    assert f"Mean Dice {np.mean(means):.3f} (95 % interval " in page
    rest = np.mean(means[:3] + means[4:])
    expected = f"1 prediction failed and counted as worst; without them it is {rest:.3f} over 35 cases."
    assert f"over 36 cases of 32 patients. {expected}" in page


def test_what_must_be_known_first(page):
    for sentence in (
        "lung_nodule: in 4 training cases only.",
        "Prediction case_003 failed: the file is truncated",
        "1 prediction lay on another grid and was resampled",
        "1 prediction without a reference: extra; not counted.",
    ):
        assert sentence in page


def test_numbers_of_the_table_are_on_the_page(full, page):
    liver = full.table[0].metrics["dice"]
    row = f'<td class="strong">{liver.mean:.3f}</td><td>{liver.interval.low:.3f} to {liver.interval.high:.3f}</td>'
    assert row in page
    worst = min(full.cases, key=lambda case: case.rows[0].values["dice"])
    assert f'<td>{liver.minimum:.3f}</td><td class="word">{worst.case_id}</td>' in page
    assert "(tolerance 1 mm); higher is better" in page


def test_verdicts_are_words_and_not_only_colours(page):
    assert '<td class="word good">pass</td>' in page
    assert '<td class="word bad">fail</td>' in page
    assert "commonly cited clinical threshold" in page


def test_groups_that_are_too_small_are_called_insufficient(page):
    assert "insufficient (fewer than 16 cases)" in page
    assert "too few (&lt; 16)" in page


def test_patients_are_never_named(page):
    assert "Jane" not in page


def test_equal_data_give_an_equal_page(full):
    assert evaluation_html(full) == evaluation_html(full)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_says_nothing_is_left_out(full, part):
    empty = replace(full, **{part: () if isinstance(getattr(full, part), tuple) else None})
    text = evaluation_html(empty)
    assert f"<h2>{PARTS[part]}</h2>" not in text
    assert Page(text).open == []


def test_a_plain_evaluation_shows_only_what_it_has():
    text = evaluation_html(plain_evaluation(20))
    titles = re.findall("<h2>(.*?)</h2>", text)
    assert titles == ["Results by structure", "What the numbers mean", "All cases", "How it was made"]
    assert "No prediction failed." in text


def test_one_structure_has_a_row_per_metric():
    cases = tuple(replace(case, rows=case.rows[:1]) for case in cohort(4))
    text = evaluation_html(Evaluation(name="one", cases=cases, table=summarise_rows(cases), metrics=METRICS))
    rows = re.findall(r'<tr><td class="word">([^<]*)</td><td class="strong">', text)
    assert rows[:5] == ["Dice", "HD95, mm", "Surface Dice", "Size error, ml", "Relative size error, %"]


def test_an_evaluation_of_nothing_says_so():
    text = evaluation_html(Evaluation(name="Nothing", cases=(), table=(), metrics=METRICS))
    assert "No case was evaluated." in text
    assert Page(text).open == []


def test_hostile_names_stay_text():
    hostile = full_evaluation(HOSTILE)
    facts = (Fact(label=HOSTILE, value=HOSTILE),)
    parsed = Page(evaluation_html(hostile, overlays=(draw(HOSTILE),), facts=facts, created=HOSTILE))
    assert not {"script", "img"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert parsed.open == []
    assert "{{ 7*7 }}" in "".join(parsed.words)


def test_names_that_are_no_text_do_not_cost_the_page(tmp_path):
    render_evaluation(replace(plain_evaluation(4), notices=("case_\udcff",)), tmp_path / "page.html")
    assert "case_?" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_118_structures_stay_readable():
    text = evaluation_html(many_structures())
    assert "Drawn are 16 of 118 structures, those with the worst means" in text
    assert "Drawn are 8 of 117 structures, those of lowest concordance" in text
    assert "Worst structure" in text
    assert text.count("<details>") >= 7
    assert text.count("<svg") == 4
    assert text.index('class="mean"') < text.index("Middle half")  # the picture first
    assert "vertebra_or_organ_with_a_long_name_117: in no reference" in text
    assert len(text) < 600_000


def with_value(cases, value):
    rows = cases[0].rows
    odd = replace(rows[0], values={**rows[0].values, "hd95": value}, predicted_ml=rows[0].predicted_ml)
    return (replace(cases[0], rows=(odd, *rows[1:])), *cases[1:])


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize(("value", "shown"), [(math.inf, "∞"), (math.nan, "–")])
def test_values_that_are_no_numbers_are_signs(value, shown):
    cases = with_value(cohort(6), value)
    text = evaluation_html(Evaluation(name="odd", cases=cases, table=summarise_rows(cases), metrics=METRICS))
    line = next(row for row in re.findall('<tr><td class="word">case_000.*?</tr>', text))
    assert f"<td>{shown}</td>" in line
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*|<style>.*?</style>", "", text, flags=re.S).lower())
    assert Page(text).open == []


def test_one_patient_has_no_intervals():
    cases = tuple(replace(case, patient_id="one") for case in cohort(3))
    evaluation = Evaluation(
        name="one",
        cases=cases,
        table=summarise_rows(cases),
        metrics=METRICS,
        volumes=agree_on_volumes(cases, seed=0),
    )
    text = evaluation_html(evaluation)
    assert re.search(r"Mean Dice 0\.\d+ over 3 cases of 1 patient\.", text)
    assert "The numbers rest on 1 patient only" in text


def test_planes_have_areas_and_pixels():
    cases = cohort(4)
    units = units_of(cases, planar=True, calibrated=False)
    assert (units.scale("hd95").unit, units.scale("volume_error").unit) == ("px", "px²")
    evaluation = replace(plain_evaluation(4), planar=True, volumes=agree_on_volumes(cases, seed=0))
    text = evaluation_html(evaluation)
    assert "<h2>Areas</h2>" in text
    assert "Size error, mm²" in text
    assert "size of a pixel is not known" in evaluation_html(replace(evaluation, calibrated=False))


def test_errors_with_a_sign_are_written_with_it():
    units = units_of(cohort(2), planar=False, calibrated=True)
    assert units.scale("relative_volume_error").text(0.1) == "+10.0"
    assert units.scale("volume_error").text(-0.1) == "−0.100"
    assert units.scale("absolute_volume_error").text(0.1) == "0.100"
    assert units_of(cohort(2), planar=False, calibrated=False).scale("volume_error").unit == "voxels"


def test_long_case_tables_are_folded_away():
    assert "<summary>41 cases" in evaluation_html(plain_evaluation(41))
    assert "<h3>12 cases" in evaluation_html(plain_evaluation(12))


def test_failed_cases_are_marked_and_the_worst_comes_first(full, page):
    table = page[page.index("<h2>All cases</h2>") :]
    order = re.findall(r'<tr><td class="word">(case_\d+)( \(failed\))?</td><td class="strong">([\d.]+)', table)
    values = [float(value) for _, _, value in order]
    assert len(order) == 36
    assert values == sorted(values)
    assert [case for case, mark, _ in order if mark] == ["case_003"]


def test_every_metric_has_words():
    assert set(TEXTS) == set(ALL_METRICS)
    assert all(getattr(text, field.name).strip() for text in TEXTS.values() for field in fields(text))
    assert (direction_of("dice"), direction_of("hd95"), direction_of("volume_error")) == (
        "higher is better",
        "lower is better",
        "best is 0",
    )
    assert (worse("dice", [0.5, math.nan, 0.2]), worse("hd", [1, 9]), worse("volume_error", [1, -3])) == (2, 1, 1)


def test_pictures_show_different_things():
    assert telling(("iou", "dice", "hd", "hd95_pooled", "nsd_voxels")) == ("dice", "hd95_pooled", "nsd_voxels")
    assert telling(("dice", "hd95", "nsd"), 2) == ("dice", "hd95")
    assert telling(("iou", "hd")) == ("iou", "hd")


def test_the_ideal_order_of_risks():
    risk = np.array([0.4, 0.1, 0.3, 0.0])
    n = np.arange(1, 5)
    found = ideal_risk(n / 4, np.cumsum(risk) / n)
    assert found == pytest.approx(np.cumsum(np.sort(risk)) / n)
