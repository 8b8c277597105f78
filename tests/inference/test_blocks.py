"""Blocks of maps: the windows are right, every block is computed once, little is held, and a thread never stays."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from delineate.errors import Interrupted
from delineate.execution import Cancellation
from delineate.inference.blocks import AHEAD, Blocks, Window


def maps_of(shape: tuple[int, int]) -> NDArray[np.int32]:
    return np.arange(2 * shape[0] * shape[1], dtype=np.int32).reshape(2, *shape)


def windows_of(shape: tuple[int, int], tile: int, halo: int) -> list[Window]:
    return [
        (
            slice(max(0, top - halo), min(shape[0], top + tile + halo)),
            slice(max(0, left - halo), min(shape[1], left + tile + halo)),
        )
        for top, left in itertools.product(range(0, shape[0], tile), range(0, shape[1], tile))
    ]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    block=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    tile=st.integers(3, 40),
    halo=st.integers(0, 12),
)
def test_windows_are_cut_from_the_whole_and_every_block_is_computed_once(
    shape: tuple[int, int], block: tuple[int, int], tile: int, halo: int
) -> None:
    maps, computed = maps_of(shape), list[tuple[int, int]]()

    def compute(rows: slice, columns: slice) -> NDArray[np.int32]:
        computed.append((rows.start, columns.start))
        return maps[:, rows, columns]

    windows = windows_of(shape, tile, halo)
    with Blocks(shape, block, windows, compute, Cancellation()) as blocks:
        for index, (rows, columns) in enumerate(windows):
            assert np.array_equal(blocks.window(index), maps[:, rows, columns])
    places = itertools.product(range(0, shape[0], block[0]), range(0, shape[1], block[1]))
    assert sorted(computed) == list(places)


def test_what_is_held_does_not_grow_with_the_height() -> None:
    most = []
    for height in (200, 2000):
        shape, block, held = (height, 160), (20, 32), []
        windows = windows_of(shape, 20, 6)
        with Blocks(
            shape, block, windows, lambda r, c: np.zeros((1, r.stop - r.start, c.stop - c.start)), Cancellation()
        ) as blocks:
            for index in range(len(windows)):
                blocks.window(index)
                held.append(sum(part.maps.size for part in blocks._held.values()) / 160)
        assert held[-1] == 0
        most.append(max(held))
    assert most[0] == most[1]
    assert most[0] <= 20 + 6 + 6 + 20 * 32 / 160  # a row of blocks, what two rows of windows share, a block more


def test_blocks_are_computed_ahead_but_not_far() -> None:
    started, shape = list[int](), (10, 100)
    windows = windows_of(shape, 10, 0)
    gate = threading.Semaphore(0)

    def compute(_: slice, columns: slice) -> NDArray[np.int32]:
        started.append(columns.start // 10)
        gate.release()
        return np.zeros((1, 10, 10), dtype=np.int32)

    with Blocks(shape, (10, 10), windows, compute, Cancellation()) as blocks:
        blocks.window(0)
        for _ in range(1 + AHEAD):
            assert gate.acquire(timeout=10)
        assert not gate.acquire(timeout=0.05)
        assert started == list(range(1 + AHEAD))


def test_a_failure_comes_out_where_the_window_is_asked_for_and_ends_the_thread() -> None:
    def compute(rows: slice, _: slice) -> NDArray[np.int32]:
        if rows.start:
            raise OSError("damaged")
        return np.zeros((1, 10, 10), dtype=np.int32)

    windows = windows_of((30, 10), 10, 0)
    with Blocks((30, 10), (10, 10), windows, compute, Cancellation()) as blocks:
        blocks.window(0)
        with pytest.raises(OSError, match="damaged"):
            blocks.window(1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("maps")]


def test_a_request_to_stop_reaches_the_thread_and_leaving_does_not_stop_others() -> None:
    stop, windows = Cancellation(), windows_of((30, 10), 10, 0)

    def compute(rows: slice, _: slice) -> NDArray[np.int32]:
        if rows.start == 10:
            stop.request()
        return np.zeros((1, 10, 10), dtype=np.int32)

    with Blocks((30, 10), (10, 10), windows, compute, stop) as blocks:
        blocks.window(0)
        blocks.window(1)
        with pytest.raises(Interrupted):
            blocks.window(2)
    other = Cancellation()
    with Blocks((30, 10), (10, 10), windows, compute, other) as blocks:
        blocks.window(0)
    assert not other.requested
