from __future__ import annotations

import sys

import pytest

from delineate.cli.main import main
from delineate.cli.scale_options import place_in, words_without_devices
from delineate.errors import UsageError

PLACE = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "node7",
    "MASTER_PORT": "29500",
}


def test_torchruns_words_are_understood() -> None:
    place = place_in(PLACE)
    assert place is not None
    assert (place.rank, place.world_size, place.local_rank, place.local_size) == (3, 4, 1, 2)
    assert (place.address, place.port) == ("node7", 29500)
    assert place_in({"HOME": "/", "WORLD_SIZE": "2"}) is None


@pytest.mark.parametrize("wrong", [{"WORLD_SIZE": "many"}, {"RANK": "4"}])
def test_contradictory_words_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="torchrun"):
        place_in({**PLACE, **wrong})
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE"):
        place_in({name: value for name, value in PLACE.items() if name != "LOCAL_WORLD_SIZE"})


def test_processes_are_started_without_the_option_that_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["delineate", "train", "run", "--devices", "2", "--fold", "2", "--devices=2"])
    assert words_without_devices() == ["train", "run", "--fold", "2"]


@pytest.mark.parametrize(
    "words",
    [
        ["--devices", "0"],
        ["--devices", "2", "--cluster", "local"],
        ["--devices", "2", "--configuration", "2d", "3d_fullres"],
    ],
)
def test_options_that_contradict_each_other(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run", *words]) == 2
    assert "--devices" in capsys.readouterr().err
