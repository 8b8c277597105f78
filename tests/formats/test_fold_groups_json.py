"""Which fold holds out which group, on the disk."""

from pathlib import Path

import pytest

from delineate.errors import PlanError
from delineate.formats.fold_groups_json import read_fold_groups, write_fold_groups
from delineate.planning.splits import FoldGroups


def test_groups_come_back(tmp_path: Path) -> None:
    groups = FoldGroups(column="Site", names=tuple(f"site {i}" for i in range(12)), not_recorded=("a", "b"))
    write_fold_groups(tmp_path / "fold_groups.json", groups)
    assert read_fold_groups(tmp_path / "fold_groups.json") == groups
    assert groups.words.startswith("0: site 0; 1: site 1; ")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"column": "site"}', '{"column": 1, "folds": {"0": "A"}, "not_recorded": []}',
                '{"column": "site", "folds": {"1": "A"}, "not_recorded": []}']
)  # fmt: skip
def test_damaged_files_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fold_groups.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=r"fold_groups\.json"):
        read_fold_groups(path)
