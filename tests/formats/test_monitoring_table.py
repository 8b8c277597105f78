from __future__ import annotations

from pathlib import Path

import pytest

from delineate.errors import DatasetError
from delineate.formats.monitoring_table import read_edits, read_features, write_table


def test_columns_are_typed_by_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffcase,site,day,size,ok,scanner,empty\n1,a,d1,3.5,true,X1,\n2,a,d1,,False,7,nan\n3,b,,1e3,TRUE,,\n",
        encoding="utf-8",
    )
    rows = read_features(path)
    assert rows[0].values == {"size": 3.5, "ok": True, "scanner": "X1"}
    assert rows[1].values == {"ok": False, "scanner": "7"}
    assert (rows[2].site, rows[2].day, rows[2].values) == ("b", "", {"size": 1000.0, "ok": True})


def test_edits_and_their_faults(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("draft,approved,case,reader,seconds\nd/1.nii,a/1.nii,1,R,12.5\nd/2.nii,a/2.nii,2,R,\n")
    first, second = read_edits(path)
    assert (first.draft, first.seconds, second.seconds, first.site) == (tmp_path / "d/1.nii", 12.5, None, "")
    path.write_text("draft,approved,case,reader,seconds\nd,a,1,R,soon\nd,a,2,R,-3\n")
    with pytest.raises(DatasetError) as raised:
        read_edits(path)
    assert len(raised.value.faults) == 2
    path.write_text("draft,approved,case,reader\nd,a,,\n")
    with pytest.raises(DatasetError) as raised:
        read_edits(path)
    assert raised.value.faults == ("row 2: 'case' is empty", "row 2: 'reader' is empty")


@pytest.mark.parametrize("content", [None, "", "name\nx\n", "case\n", "case\n\xff"])
def test_what_is_no_table(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match="expected"):
        read_features(path)


def test_written_cells_come_back(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_table(("case", "x", "flag", "word"), [("1", 0.1, True, 'a "b", c'), ("2", float("nan"), False, None)], path)
    rows = read_features(path)
    assert rows[0].values == {"x": 0.1, "flag": True, "word": 'a "b", c'}
    assert rows[1].values == {"flag": False}
