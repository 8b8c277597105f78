from __future__ import annotations

import threading
import time
from contextlib import closing
from itertools import islice

import pytest
import torch

from delineate.training.batches import in_order, step_generator


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_batches_come_in_order_from_the_first(ahead):
    with closing(in_order(lambda k: k * k, 4, ahead=ahead)) as made:
        assert list(islice(made, 5)) == [16, 25, 36, 49, 64]


def test_batches_are_made_ahead_in_one_other_thread():
    names = set()

    def make(step):
        names.add(threading.current_thread().name)
        return step

    with closing(in_order(make, 0, ahead=2)) as made:
        next(made)
    assert len(names) == 1
    assert threading.current_thread().name not in names


def test_the_thread_ends_with_the_iterator():
    before = threading.active_count()
    with closing(in_order(lambda k: time.sleep(0.01), 0, ahead=2)) as made:
        next(made)
    assert threading.active_count() == before


def test_an_error_while_making_ahead_arrives_at_the_step_that_needs_it():
    def make(step):
        if step == 2:
            raise ValueError("two")
        return step

    with closing(in_order(make, 0, ahead=2)) as made:
        assert [next(made), next(made)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(made)


def test_step_generators_differ_by_seed_and_step_only():
    def draw(seed, step):
        return torch.rand(3, generator=step_generator(seed, step))

    assert torch.equal(draw(1, 5), draw(1, 5))
    assert not torch.equal(draw(1, 5), draw(1, 6))
    assert not torch.equal(draw(1, 5), draw(2, 5))
