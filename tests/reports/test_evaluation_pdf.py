"""The PDF of an evaluation: it opens, says what the page says, and takes no orders from names."""

import io
import json
import sys

import pytest
from evaluation_examples import full_evaluation, many_structures, plain_evaluation
from report_examples import draw

from delineate.errors import ResourceError
from delineate.reports import render_evaluation_pdf
from delineate.reports.evaluation_document import evaluation_document
from delineate.reports.evaluation_pdf import breakable, document_json
from delineate.reports.report_data import Fact

pytest.importorskip("typst", reason="the PDF is an extra: pip install delineate[report]")
pypdf = pytest.importorskip("pypdf", reason="reads the PDF in this test")

HOSTILE = "#panic(1) $x$ *b* _e_ `r` @ref <l> [c] \\ // \"'&</style>]]> #sys.inputs"


def pdf_of(evaluation, path, **more):
    render_evaluation_pdf(evaluation, path, **more)
    return pypdf.PdfReader(io.BytesIO(path.read_bytes()))


def text_of(reader):
    return " ".join(" ".join(page.extract_text() for page in reader.pages).replace("\u200b", "").split())


@pytest.fixture(scope="module")
def full_pdf(tmp_path_factory):
    path = tmp_path_factory.mktemp("pdf") / "report.pdf"
    facts = (Fact(label="Command", value="delineate evaluate a b"),)
    return pdf_of(full_evaluation(), path, overlays=(draw("case_003"),), facts=facts, created="26 November 2026")


def test_a4_pages_with_numbers(full_pdf):
    pages = full_pdf.pages
    assert 8 <= len(pages) <= 20
    assert all((round(p.mediabox.width), round(p.mediabox.height)) == (595, 842) for p in pages)
    assert f"2 / {len(pages)}" in pages[1].extract_text()


def test_it_says_what_the_page_says(full_pdf):
    text = text_of(full_pdf)
    document = evaluation_document(full_evaluation())
    for section in document.sections:
        assert section.title in text
    assert "failed and counted as worst;" in text
    assert "commonly cited clinical threshold" in text
    assert "insufficient (fewer than 16 cases)" in text
    assert "delineate evaluate a b" in text
    assert full_pdf.metadata.title == "Abdomen CT"
    assert "Jane" not in text


def test_pictures_are_inside(full_pdf):
    assert any(len(page.images) for page in full_pdf.pages)


def test_equal_data_give_equal_bytes(tmp_path):
    for name in ("a.pdf", "b.pdf"):
        render_evaluation_pdf(plain_evaluation(5), tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_hostile_names_stay_text(tmp_path):
    reader = pdf_of(full_evaluation(HOSTILE), tmp_path / "hostile.pdf", overlays=(draw(HOSTILE),))
    text = text_of(reader)
    assert "#panic(1) $x$ *b* _e_ `r`" in text
    assert "#sys.inputs" in text


def test_names_that_are_no_text_do_not_cost_the_pdf(tmp_path):
    odd = full_evaluation("case \udcff \x00\x0b \ufffe 肝臓")
    assert len(pdf_of(odd, tmp_path / "odd.pdf", overlays=(draw("a\x01"),)).pages) > 5


def test_tables_of_many_structures_break_across_pages(tmp_path):
    reader = pdf_of(many_structures(45), tmp_path / "many.pdf")
    assert len(reader.pages) > 8
    heads = [page.extract_text().count("Middle half") for page in reader.pages]
    assert sum(heads) > 5 + 1  # five tables; at least one of them has its head on two pages


@pytest.mark.slow
def test_118_structures(tmp_path):
    assert len(pdf_of(many_structures(), tmp_path / "many.pdf").pages) > 15


def test_long_words_can_break_and_stay_what_they_are():
    assert breakable("a_short_name") == "a_short_name"
    assert breakable("x sub-0001_ses-02_acq-axial.nii.gz").replace("\u200b", "") == "x sub-0001_ses-02_acq-axial.nii.gz"
    assert "sub-\u200b0001_\u200bses" in breakable("sub-0001_ses-02_acq-axial.nii.gz")


def test_the_data_are_plain_json_and_figures_carry_no_variables():
    data = json.loads(document_json(evaluation_document(full_evaluation())))
    drawings = [b for s in data["sections"] for b in s["blocks"] if b["kind"] == "drawing"]
    assert len(drawings) > 10
    assert all("var(" not in d["svg"] and d["svg"].startswith("<svg ") and d["alt"] for d in drawings)


def test_without_typst_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(ResourceError, match=r"install delineate\[report\]"):
        render_evaluation_pdf(plain_evaluation(3), tmp_path / "none.pdf")
    assert list(tmp_path.iterdir()) == []
