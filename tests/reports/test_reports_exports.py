"""The room's public names, and what it must not know."""

import inspect
import subprocess
import sys

import delineate.reports as room


def test_every_listed_name_exists():
    for name in room.__all__:
        found = getattr(room, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), name


def test_the_room_knows_no_torch_and_needs_no_plotting_library():
    code = "import sys, delineate.reports; print([m for m in ('torch', 'matplotlib', 'SimpleITK') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout.strip() == "[]"
