"""Several processes train one network: torch's distributed data parallel, started by torchrun or by :func:`launch`.

The loss of a global batch is computed from sums over all ranks, so it is the same number as on one process, and what
every rank differentiates is that one loss with respect to its own samples. The gradient of the whole batch is therefore
the *sum* of the ranks' gradients, whatever the sizes of their shares and wherever voxels are unannotated; torch's usual
mean over ranks would be right for equal shares of a plain mean only.

Instance normalisation needs nothing of the other ranks. Batch normalisation would see only its rank's share, as in
torch's own data parallel; the networks of this program do not use it.
"""

from __future__ import annotations

import atexit
import logging
import re
import signal
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from delineate.errors import DelineateError, Interrupted, ResourceError, UsageError
from delineate.execution.progress import Cancellation
from delineate.training.machine import AUTO
from delineate.training.ranks import Ranks

WAIT = timedelta(hours=2)
"""How long a rank waits for the others: the first one may be preparing cases or writing to a slow disk. The death of a
rank is noticed at once, by its closed connection; this limit is for one that lives and hangs."""

SILENCE_SECONDS = 3.0
"""How long a process that lost the others keeps it to itself: the launcher ends it within this time, and knows more."""
YIELD_SECONDS = 15.0
"""How long any but the first process keeps an error of its own to itself, which the first one may have too."""

RELEASE_SECONDS = 0.3
"""How long a process waits, before Python ends, for its connection's threads; they need thousandths. They hold the last
tensors a moment longer than the call that sent them. If Python ends in that moment they ask for it in vain, and the
process aborts after its work is done: one in six did (as in pytorch/pytorch#179291)."""

_LOST = re.compile(
    r"connection (was )?(closed|reset|refused)|broken pipe|timed? ?out|gloo|nccl|socket|remote process|rank \d+ failed",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where this process stands among those of a training, in torchrun's words.

    Raises
    ------
    UsageError
        If the numbers contradict each other.
    """

    rank: int
    """Number of this process among all, from 0."""
    world_size: int
    local_rank: int
    """Number of this process on its machine, from 0; which GPU is its own."""
    local_size: int
    """Processes on this machine; they share its cores."""
    address: str
    """Host where the first process is met."""
    port: int

    def __post_init__(self) -> None:
        if not (0 <= self.rank < self.world_size and 0 <= self.local_rank < self.local_size <= self.world_size):
            raise UsageError(
                f"Process {self.rank} of {self.world_size} (on its machine {self.local_rank} of {self.local_size}) "
                "is not possible; start training with torchrun or with --devices."
            )

    def device(self, name: str) -> str:
        """Return the device of this process: its own GPU where the machine has several, else ``name``."""
        if name in (AUTO, "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank}"
        return name


@contextmanager
def join(place: Place, device: str) -> Iterator[Ranks]:
    """Meet the other processes and yield what the training loop needs of them; leave them when the block ends.

    Gradients travel over NCCL between GPUs and over gloo between processors; times and flags always over gloo.

    Parameters
    ----------
    place
        Which process this is.
    device
        What it trains on.

    Raises
    ------
    ResourceError
        If the others do not come, or one of them is lost inside the block.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // place.local_size))
    ranks = JoinedRanks(place.rank, place.world_size)
    atexit.register(time.sleep, RELEASE_SECONDS)
    with ranks.losses_explained("Start the training again; it goes on from its last checkpoint."):
        dist.init_process_group(
            backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            init_method=f"tcp://{place.address}:{place.port}",
            rank=place.rank,
            world_size=place.world_size,
            timeout=WAIT,
        )
        try:
            yield ranks
        except (Interrupted, LostRankError):
            raise
        except DelineateError:
            if place.rank > 0:
                time.sleep(YIELD_SECONDS)
            raise
        ranks.wait()  # nobody leaves while another still needs the connection
        dist.destroy_process_group()


class JoinedRanks(Ranks):
    """One of several processes that have met in torch's default process group."""

    def __init__(self, index: int, size: int) -> None:
        self.index, self.size = index, size

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        result = values.detach().clone()
        dist.all_reduce(result)
        return result

    def agreed_time(self, seconds: float) -> float:
        """Return the first rank's time."""
        return _broadcast(seconds)

    def agreed(self, cancellation: Cancellation) -> Cancellation:
        """Return a cancellation that asks all ranks; each of them must look at it equally often."""
        return _AgreedCancellation(cancellation, self)

    def joined(self, network: nn.Module) -> nn.Module:
        """Return the network as torch's data-parallel module; all ranks start from the first one's weights."""
        device = next(network.parameters()).device
        module = DistributedDataParallel(
            _WithoutIdleHead(network),
            device_ids=[device.index] if device.type == "cuda" else None,
            # the logits of lower decoder stages may have no part in the loss
            find_unused_parameters=hasattr(network, "deep_supervision"),
        )
        module.register_comm_hook(None, lambda _, bucket: _summed(bucket))  # torch dislikes annotations as text
        return module

    def losses_explained(self, advice: str) -> AbstractContextManager[None]:
        """Turn a broken connection inside the block into one clear error."""
        return _losses_explained(self, advice)


@contextmanager
def _losses_explained(ranks: Ranks, advice: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, dist.DistError) as error:
        text = " ".join(str(error).split())
        if not (isinstance(error, dist.DistError) or _LOST.search(text)):
            raise
        time.sleep(SILENCE_SECONDS)
        raise LostRankError(
            f"Process {ranks.index + 1} of {ranks.size} lost the others: one of them ended or cannot be reached "
            f"({text[:160]}). {advice}"
        ) from error


class LostRankError(ResourceError):
    """Another process of the training ended; the message of that one says why."""


class _AgreedCancellation(Cancellation):
    def __init__(self, own: Cancellation, ranks: Ranks) -> None:
        super().__init__()
        self._own, self._ranks = own, ranks

    @property
    def requested(self) -> bool:
        flag = torch.tensor(int(self._own.requested))
        return bool(self._ranks.total(flag).item())


class _WithoutIdleHead(nn.Module):
    """A network whose coarsest output gets no gradient, because its weight in the loss is 0.

    Data parallel finds the parameters without a gradient by following the graph from the outputs, so an output that
    the loss leaves out must not be part of it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        outputs = self.network(images)
        if isinstance(outputs, Tensor):
            return outputs
        return [*outputs[:-1], outputs[-1].detach()] if len(outputs) > 1 else list(outputs)


def _summed(bucket: Any) -> torch.futures.Future[Tensor]:
    """Sum a bucket of gradients over the ranks, while the backward pass goes on."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


def _broadcast(value: float) -> float:
    told = torch.tensor(value, dtype=torch.float64)
    dist.broadcast(told, src=0)
    return float(told)


# --- starting the processes ------------------------------------------------------------------------------------------


def launch(command: Sequence[str], processes: int) -> int:
    """Run a command in several processes of this machine through torchrun's agent and return its exit code.

    The agent tells each process its place in the environment (``RANK``, ``WORLD_SIZE``, ...), hands Ctrl-C on to all
    of them, and ends the others as soon as one fails.

    Parameters
    ----------
    command
        Program and arguments; each process prints its own errors.
    processes
        How many to start.

    Returns
    -------
    int
        0, or the exit code of the process at fault.

    Raises
    ------
    ResourceError
        If a process was killed.
    Interrupted
        If the user stopped the training.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in _AGENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its reports repeat what the processes said
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        local_addr="localhost",
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        return _exit_code({rank: failure.exitcode for rank, failure in error.failures.items()}, processes)
    except SignalException as error:
        raise Interrupted("Training stopped on request. Run the same command again to go on.") from error
    return 0


_AGENT_LOGGERS = ("torch.distributed.elastic", "torch.distributed.launcher")


def _exit_code(exit_codes: Mapping[int, int], processes: int) -> int:
    """Return the exit code of what went wrong first; a killed process cannot have told it, so it is told here."""
    told = [code for code in exit_codes.values() if code > 0]
    if told:
        return told[0]
    # the launcher ends the other processes by SIGTERM
    rank, code = min(exit_codes.items(), key=lambda item: item[1] == -signal.SIGTERM)
    raise ResourceError(
        f"Process {rank + 1} of {processes} was ended by signal {signal.Signals(-code).name}, perhaps because memory "
        "ran out; the others were stopped. Run the same command again to go on from the last checkpoint, with fewer "
        "devices or less memory if it happens again."
    )
