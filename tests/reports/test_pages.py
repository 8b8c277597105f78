"""The page: complete in itself, safe against names from outside, the same every time."""

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from report_examples import full_report, score

from delineate.errors import ResourceError
from delineate.reports.pages import render_report, report_html
from delineate.reports.report_data import ReportData

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}<img src=x onerror=y>"
VOID = {"meta", "input", "br"}
LOADING = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}


class Page(HTMLParser):
    """Collects what a browser would act on, and checks that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.words = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page():
    return report_html(full_report())


def test_the_page_loads_nothing(page):
    parsed = Page(page)
    loaded = [value for name, value in parsed.attributes if name in LOADING]
    assert loaded
    assert all(value.startswith("data:image/png;base64,") for value in loaded)
    assert not {"script", "link", "iframe", "object", "embed", "form"} & set(parsed.tags)
    assert not re.search(r"https?://|@import|url\(|javascript:|\bon\w+=", page)


def test_the_page_forbids_loading(page):
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in Page(page).attributes


def test_tags_close_and_ids_are_unique(page):
    parsed = Page(page)
    assert parsed.open == []
    ids = [value for name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_all_parts_are_there(page):
    for title in (
        "Before you rely on this",
        "Results by structure",
        "Pictures",
        "Sizes",
        "Cross-validation",
        "What the numbers mean",
        "Learning",
        "How it was made",
        "All cases",
        "Cases without scores",
        "Provenance",
    ):
        assert f">{title}<" in page


def test_hostile_names_stay_text():
    parsed = Page(report_html(full_report(HOSTILE)))
    assert not {"script", "img"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "{{ 7*7 }}" in "".join(parsed.words)


def test_patients_are_never_named(page):
    assert "Jane" not in page


def test_equal_data_give_an_equal_page(page):
    assert report_html(full_report()) == page


def test_names_that_are_no_text_do_not_cost_the_report(tmp_path):
    render_report(ReportData(title="t", scores=(score("case_\udcff"),)), tmp_path / "report.html")
    assert "case_?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_without_cases_says_so():
    text = report_html(ReportData(title="Nothing yet"))
    assert "No case was scored." in text
    assert Page(text).open == []


def test_structures_in_no_case_are_dashes():
    tiny = score("tiny", lesion=False)
    text = report_html(ReportData(title="t", scores=(tiny,)))
    assert "in no case" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().replace("governance", "")
    assert math.isnan(tiny.structure("lesion").dice)


def test_worst_cases_come_first():
    text = report_html(ReportData(title="t", scores=tuple(score(f"shift_{i}", i) for i in range(4))))
    order = re.findall(r'<td class="case">(\w+)</td>', text)
    assert order == ["shift_3", "shift_2", "shift_1", "shift_0"]


def test_long_tables_are_folded_away():
    few, many = (tuple(score(f"c{i}") for i in range(n)) for n in (2, 61))
    assert "<details open>" in report_html(ReportData(title="t", scores=few))
    assert "<details>" in report_html(ReportData(title="t", scores=many))


def test_many_structures_do_not_make_wide_tables():
    structures = score().per_structure
    many = tuple(replace(structures[i % 2], name=f"organ {i}") for i in range(13))
    text = report_html(ReportData(title="t", scores=(replace(score(), per_structure=many),)))
    assert "Lowest structure" in text
    assert "size, ml<br>(reference)" not in text


def test_the_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "out" / "report.html"
    render_report(full_report(), target)
    before = target.read_bytes()

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(ResourceError, match="disk is full"):
        render_report(replace(full_report(), title="other"), target)
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_sizes_follow_the_unit():
    scores = (score(),)
    assert "size, ml" in report_html(ReportData(title="t", scores=scores))
    assert "size, px" in report_html(ReportData(title="t", scores=scores, size_unit="px"))
