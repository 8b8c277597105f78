from __future__ import annotations

import pytest

from delineate.networks import check_architecture, check_patch
from delineate.planning.candidates import candidates
from delineate.planning.machine import Machine
from delineate.planning.planner import plan_dataset
from delineate.planning.presets import PRESETS
from delineate.planning.quality import BudgetModel
from planning.datasets import DATASETS

LAPTOP = Machine(device="cpu", cores=2, memory_bytes=16 * 2**30, bfloat16=True)


@pytest.mark.parametrize("name", ["isotropic", "cine", "lowres", "planes"])
@pytest.mark.parametrize("preset", ["mednext-s", "mednext-l-k5"])
def test_smaller_mednexts_are_mednexts_that_can_be_built(name, preset) -> None:
    made = DATASETS[name]
    plan = plan_dataset(made.fingerprint(), made.facts(), PRESETS[preset])
    found = candidates(plan, made.fingerprint(), LAPTOP, BudgetModel())
    networks = {c.configuration.architecture: c.configuration.patch_size for c in found}
    assert len(networks) >= 3
    for architecture, patch in networks.items():
        assert architecture.kind == "mednext"
        assert max(k for kernel in architecture.kernel_sizes for k in kernel) == PRESETS[preset].kernel
        check_architecture(architecture)
        check_patch(architecture, patch)
    assert {architecture.features[0] for architecture in networks} == {16, 24, 32}
