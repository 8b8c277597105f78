from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "tutorials" / "unet3d.md"
SCRIPT = REPOSITORY / "examples" / "train_teaching_unet.py"


def test_the_code_on_the_page_is_the_script() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    script = SCRIPT.read_text(encoding="utf-8")
    assert len(blocks) >= 6
    assert [block for block in blocks if block not in script] == []


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []


@pytest.mark.slow
def test_the_script_runs(capsys) -> None:
    script = runpy.run_path(str(SCRIPT))
    main = script["main"]
    main.__globals__.update(TRAINING_SEEDS=range(1), TEST_SEEDS=range(1, 2))
    assert 0 <= main(steps=2) <= 1
    assert "mean Dice" in capsys.readouterr().out
