"""The machine to train on, and what a training step was measured to cost there. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from delineate.errors import PlanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What the planner knows of the machine."""

    device: str
    """``cpu``, ``cuda``, ``cuda:1``, ``mps``: torch's names."""
    cores: int
    memory_bytes: int
    """Memory that training may use: of the GPU, or of the computer."""
    bfloat16: bool
    """Whether the device computes in bfloat16 faster than in float32."""

    def __post_init__(self) -> None:
        if self.cores < 1 or self.memory_bytes < 1:
            raise PlanError(
                f"A machine has at least one core and some memory; got {self.cores} cores, {self.memory_bytes} bytes."
            )

    @property
    def is_gpu(self) -> bool:
        """Whether the device is anything but the processor."""
        return not self.device.startswith("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """What one training step costs, measured after warming up."""

    seconds: float
    peak_bytes: int
    """Highest memory of the process (CPU) or on the device (GPU) while training."""
