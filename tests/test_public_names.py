from __future__ import annotations

import delineate


def test_public_names_are_those_that_are_listed() -> None:
    for name in delineate.__all__:
        assert getattr(delineate, name) is not None


def test_other_names_are_refused() -> None:
    assert not hasattr(delineate, "no_such_name")
