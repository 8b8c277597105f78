"""The room's public names."""

import inspect

import delineate.metrics as room


def test_every_listed_name_exists_and_is_documented():
    assert sorted(room.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n)) == room.__all__
    for name in room.__all__:
        assert inspect.getdoc(getattr(room, name)), name
