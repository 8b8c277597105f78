"""The network of instances and its crops fit the machine, or the model that a training starts from."""

from __future__ import annotations

import pytest

from delineate.planning.instance_network import BATCH, GPU_BATCH, PATCH, SMALL, WIDE, choose_instance_network
from delineate.planning.machine import Machine

GIB = 1 << 30


def machine(device: str, memory: int, *, bfloat16: bool = True) -> Machine:
    return Machine(device=device, cores=4, memory_bytes=memory, bfloat16=bfloat16)


def test_a_processor_trains_the_small_one_whatever_its_memory() -> None:
    for where in (None, machine("cpu", GIB), machine("cpu", 64 * GIB)):
        chosen = choose_instance_network(where)
        assert (chosen.widths, chosen.patch_size, chosen.batch_size) == (SMALL, PATCH, BATCH)


@pytest.mark.parametrize(
    ("memory", "bfloat16", "batch"),
    [(80 * GIB, True, GPU_BATCH), (6 * GIB, True, 56), (6 * GIB, False, 24), (1, True, 8)],
)
def test_a_gpu_trains_the_wide_one_on_as_many_crops_as_fit(memory: int, bfloat16: bool, batch: int) -> None:
    chosen = choose_instance_network(machine("cuda:1", memory, bfloat16=bfloat16))
    assert chosen.widths == WIDE
    assert chosen.batch_size == batch
    assert f"{batch} crops of 256 x 256" in chosen.reason


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_network_to_start_from_is_kept(device: str) -> None:
    chosen = choose_instance_network(machine(device, 80 * GIB), (9, 14))
    assert chosen.widths == (9, 14)
    assert "model to start from" in chosen.reason
    assert chosen.batch_size == (BATCH if device == "cpu" else GPU_BATCH)
