"""Volume agreement."""

from xml.etree import ElementTree

import pytest
from report_examples import score

from delineate.metrics.overlap import Overlap
from delineate.metrics.scores import CaseScores, StructureScores
from delineate.reports.agreement import MAX_PANELS, size_unit, volume_agreement


def case(case_id, sizes):
    return CaseScores(
        case_id=case_id,
        patient_id="p",
        per_structure=tuple(
            StructureScores(
                name=f"s{i}",
                overlap=Overlap(true_positive=0, false_positive=p, false_negative=r, true_negative=0),
                voxel_volume_mm3=1.0,
            )
            for i, (p, r) in enumerate(sizes)
        ),
    )


def test_points_on_the_line_are_equal_sizes():
    root = ElementTree.fromstring(volume_agreement([case("a", [(1000, 1000)]), case("b", [(3000, 2000)])], "ml"))
    line = root.find(".//line[@class='agreement']")
    left, bottom, right, top = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
    (on, off) = root.iter("circle")
    assert float(on.get("cx")) - left == pytest.approx(bottom - float(on.get("cy")), abs=0.02)
    assert float(off.get("cx")) - left < bottom - float(off.get("cy"))  # too large lies above the line
    assert right - left == pytest.approx(bottom - top)
    assert off.find("title").text == "b: reference 2.00, predicted 3.00 ml"


def test_absent_structures_are_no_points():
    root = ElementTree.fromstring(volume_agreement([case("a", [(0, 0), (5, 0)]), case("b", [(0, 0), (0, 7)])], "mm³"))
    assert [t.text for t in root.iter("text") if t.get("class") == "name"] == ["s1"]
    assert len(list(root.iter("circle"))) == 2


def test_at_most_twelve_panels():
    root = ElementTree.fromstring(volume_agreement([case("a", [(5, 5)] * 20)], "ml"))
    assert len(list(root.iter("circle"))) == MAX_PANELS


def test_units():
    large, small = [case("a", [(1, 1_000_000)])], [case("a", [(1, 10)])]
    assert size_unit(large, planar=False) == "ml"
    assert size_unit(small, planar=False) == "mm³"
    assert size_unit(large, planar=True) == "mm²"
    assert size_unit(large, planar=True, calibrated=False) == "px"
    assert size_unit([], planar=False) == "ml"
    assert size_unit([score()], planar=False) == "ml"
