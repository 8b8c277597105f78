from __future__ import annotations

import platform
import sys

import psutil
import pytest
import torch

from delineate.errors import ResourceError
from delineate.training.allocator import keep_memory, release_memory, shortage_explained


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_glibc_takes_the_settings():
    assert keep_memory()
    release_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_is_given_back_only_above_what_is_said():
    keep_memory()
    held = [bytearray(1 << 20) for _ in range(300)]
    process = psutil.Process()
    before = process.memory_info().rss
    del held
    release_memory(above=before * 2)
    assert process.memory_info().rss > before - (100 << 20)
    release_memory(above=before // 2)
    assert process.memory_info().rss < before - (200 << 20)


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory()
    release_memory()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
    ],
)
def test_every_shortage_becomes_one_kind_of_error(error):
    with pytest.raises(ResourceError, match=r"Memory ran out .* Use less\."), shortage_explained("Use less."):
        raise error


def test_a_real_shortage_is_recognised():
    with pytest.raises(ResourceError, match="Memory ran out"), shortage_explained("Use less."):
        torch.empty(1 << 55, dtype=torch.uint8)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), shortage_explained("Use less."):
        raise RuntimeError("shape mismatch")
