"""Tables of cases as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from delineate.errors import DatasetError, UsageError
from delineate.formats.cases_table import read_cases_table, with_column


def write(folder: Path, text: str, name: str = "cases.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("case,Site,patient\na,north,1\nb,,1\n", "cases.csv"),
        ("\ufeffCase_ID;Site;Patient_ID\r\na ; north ;1\r\nb;N/A;1\r\n\r\n", "excel.csv"),
        ("case\tSite\tsubject\na\tnorth\t1\nb\tn/a\t1\n", "cases.tsv"),
        ("case\tSite\tsubject\na\tnorth\t1\nb\tunknown\t1\n", "cases.txt"),
        ('image,Site,patient\na.nii.gz,"north",1\nb.nii.gz,-,1\n', "files.csv"),
    ],
)
def test_delimiters_spellings_and_empty_cells(tmp_path: Path, text: str, name: str) -> None:
    table = read_cases_table(write(tmp_path, text, name))
    assert table.columns == ("Site",)
    assert table.column("site") == {"a": "north"}
    assert table.patients == {"a": "1", "b": "1"}
    assert set(table.rows) == {"a", "b"}


def test_a_bids_table_of_participants_fits_cases_by_their_subject(tmp_path: Path) -> None:
    path = write(tmp_path, "participant_id\tage\tsex\nsub-01\t34\tF\nsub-02\t58\tM\n", "participants.tsv")
    table = read_cases_table(path)
    assert (table.columns, table.patients) == (("age", "sex"), {"sub-01": "sub-01", "sub-02": "sub-02"})
    matched = table.matched(["sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "02", "sub-03"])
    assert matched.column("sex") == {"sub-01_ses-1_T2w": "F", "sub-01_ses-2_T2w": "F", "02": "M"}
    assert matched.patients["sub-01_ses-1_T2w"] == matched.patients["sub-01_ses-2_T2w"] == "sub-01"


def test_a_patient_may_have_several_cases_but_a_case_one_row(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as told:
        read_cases_table(write(tmp_path, "case,site\na,x\nb,y\na,x\nb.nii.gz,z\n,w\nc,y,more\n"))
    assert told.value.faults == (
        "line 7: 3 cells, expected 2",
        "line 6: names no case",
        "case a has 2 rows",
        "case b has 2 rows",
    )


def test_a_column_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    table = read_cases_table(write(tmp_path, "case,site,sex\na,x,F\n"))
    with pytest.raises(UsageError, match="no column 'scanner'; it has: site, sex"):
        table.column("scanner")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "an empty file"),
        ("name of case,site\na,x\n", "expected a column of cases"),
        ("case,site,Site\na,x,y\n", "column 'site' is there 2 times"),
        ('case,site\na,"x\n', "cannot be read"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_cases_table(write(tmp_path, text))
    assert told in caught.value.diagnostics()


def test_a_missing_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is none of that name"):
        read_cases_table(tmp_path / "nothing.csv")
    (tmp_path / "sheet.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(DatasetError, match="cannot be read"):
        read_cases_table(tmp_path / "sheet.csv")


def test_a_column_can_be_added_but_never_replaced(tmp_path: Path) -> None:
    table = read_cases_table(write(tmp_path, "case,fold\na,7\n"))
    assert with_column(table, "fold", {"a": "0"}) is table
    assert with_column(table, "arm", {"a": "x", "b": "y"}).column("arm") == {"a": "x", "b": "y"}
    assert with_column(None, "fold", {"a": "0"}).column("fold") == {"a": "0"}
