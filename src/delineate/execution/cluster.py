"""Worker processes on this machine, on others, or in SLURM jobs: all by Dask, which is imported here and nowhere else.

Dask gives a task of a lost worker to another one. That each result comes out once is the task's part: results are files
that appear whole under their final name, and a task whose result is there has nothing to do.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from delineate.errors import DelineateError, Interrupted, ResourceError, UsageError
from delineate.execution.outcome import Outcome
from delineate.execution.progress import Cancellation

Item = TypeVar("Item")
Output = TypeVar("Output")

SPECIFICATIONS = "local, local:4, tcp://host:8786, slurm, slurm:8 (jobs), or slurm:options.yaml"
LOST_WORKERS = 3
"""A case is given up after so many workers died of it: it is then probably too large for them."""
CONNECT_SECONDS = 20.0
FIRST_WORKER_SECONDS = 60.0
"""How long a scheduler without workers is waited for; SLURM jobs may queue much longer and have no limit."""
STOP_SECONDS = 60.0
"""After a requested stop, how long running tasks may take to come to a safe point."""
LOOK_SECONDS = 1.0
"""How often a task asks whether it should stop."""
_POLL_SECONDS = 0.5


class Cluster:
    """An open cluster, as :func:`delineate.execution.map_items` takes it for its ``backend``.

    Attributes
    ----------
    cancellation
        To be handed to tasks, as it can be sent to workers: it is requested when the caller's is.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._event = f"delineate-stop-{uuid.uuid4().hex}"
        self.cancellation = RemoteCancellation(self._event)

    @property
    def workers(self) -> int:
        """Tasks that can run at a time now; at least 1."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def run(
        self, function: Callable[[Item], Output], items: Iterable[tuple[int, Item]], cancellation: Cancellation
    ) -> Iterator[tuple[int, Outcome[Item, Output]]]:
        """Yield the outcome of every numbered item as it comes; see :func:`delineate.execution.map_items`."""
        from distributed import wait

        pending: dict[Any, tuple[int, Item]] = {}
        queue = iter(items)
        try:
            while True:
                cancellation.check()
                while len(pending) < 2 * self.workers and (entry := next(queue, None)) is not None:
                    pending[self._submitted(function, entry[1])] = entry
                if not pending:
                    return
                with suppress(TimeoutError), self._client.as_current():
                    wait(list(pending), timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
                for future in [future for future in pending if future.done()]:
                    index, item = pending.pop(future)
                    yield index, _outcome(item, future)
        except Interrupted:
            self._stop(list(pending))
            raise
        finally:
            self._client.cancel(list(pending))

    def _submitted(self, function: Callable[[Item], Output], item: Item) -> Any:
        return self._client.submit(_attempt, function, item, self.cancellation, pure=False)

    def _stop(self, futures: list[Any]) -> None:
        """Ask running tasks to come to a safe point, and wait for those that do."""
        from distributed import Event

        Event(self._event, client=self._client).set()
        running = {key for keys in self._client.processing().values() for key in keys}
        deadline = time.monotonic() + STOP_SECONDS
        self._client.cancel([future for future in futures if future.key not in running])
        working = [future for future in futures if future.key in running]
        while time.monotonic() < deadline and not all(future.done() for future in working):
            time.sleep(0.1)
        self._client.cancel(working)


class RemoteCancellation(Cancellation):
    """A cancellation inside a worker, asked of the scheduler now and then; plain data when it is sent."""

    def __init__(self, event: str) -> None:
        super().__init__()
        self._name = event
        self._looked = 0.0

    def __reduce__(self) -> tuple[type[RemoteCancellation], tuple[str]]:
        """Return what is sent to a worker: the name."""
        return RemoteCancellation, (self._name,)

    @property
    def requested(self) -> bool:
        """Whether somebody asked the whole work to stop."""
        now = time.monotonic()
        if not self._event.is_set() and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._asked():
                self.request()
        return self._event.is_set()

    def _asked(self) -> bool:
        from distributed import Event, get_client

        try:
            return bool(Event(self._name, client=get_client()).is_set())
        except (ValueError, OSError):  # outside a worker, or the scheduler is gone
            return False


@contextmanager
def open_cluster(specification: str) -> Iterator[Cluster]:
    """Open the cluster that a user names, and close it when the block ends; a scheduler elsewhere is left running.

    Parameters
    ----------
    specification
        ``local`` or ``local:4``: so many processes of this machine. ``tcp://host:port``: a Dask scheduler that runs
        already. ``slurm``, ``slurm:8`` or ``slurm:options.yaml``: workers in SLURM jobs through dask-jobqueue, with the
        options of Dask's own configuration (``jobqueue.slurm``) or of the file (arguments of
        ``dask_jobqueue.SLURMCluster``, and ``jobs``: how many to submit).

    Raises
    ------
    UsageError
        If the specification or the file of options is not understood.
    ResourceError
        If Dask is not installed, or the scheduler or SLURM does not answer.
    """
    kind, _, detail = specification.partition(":")
    if kind not in ("local", "tcp", "tls", "slurm"):
        raise UsageError(f"A cluster is {SPECIFICATIONS}; got '{specification}'.")
    _check_installed(kind)
    with ExitStack() as stack:
        if kind == "local":
            cluster: Any = stack.enter_context(_local_cluster(_count(detail, _default_workers(), specification)))
        elif kind == "slurm":
            cluster = stack.enter_context(slurm_cluster(detail))
        else:
            cluster = specification
        client = stack.enter_context(_client(cluster, specification))
        if kind != "slurm":
            _await_worker(client, specification)
        yield Cluster(client)


@contextmanager
def slurm_cluster(detail: str) -> Iterator[Any]:
    """Yield a ``dask_jobqueue.SLURMCluster`` with its jobs asked for; ``detail`` is what follows ``slurm:``.

    Raises
    ------
    UsageError
        If the file of options is missing or not understood, or needed options are nowhere.
    ResourceError
        If jobs cannot be submitted.
    """
    from dask_jobqueue import SLURMCluster

    jobs, options = _slurm_options(detail)
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"SLURM workers cannot be described: {error} Give queue, cores, memory and walltime in Dask's "
            "configuration (jobqueue.slurm) or in a file: --cluster slurm:options.yaml."
        ) from error
    with cluster:
        cluster.scale(jobs=jobs)
        yield cluster


def _slurm_options(detail: str) -> tuple[int, dict[str, Any]]:
    if detail == "" or detail.isdigit():
        return _count(detail, 1, f"slurm:{detail}"), {}
    import yaml

    path = Path(detail)
    try:
        options = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: expected options of SLURM jobs as YAML; it cannot be read ({error}).") from error
    if not isinstance(options, dict):
        raise UsageError(
            f"{path}: expected options of SLURM jobs such as 'queue: gpu'; found {type(options).__name__}."
        )
    return _count(str(options.pop("jobs", 1)), 1, str(path)), options


@contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    from distributed import LocalCluster

    threads = str(max(1, (os.cpu_count() or 1) // workers))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        memory_limit=None,  # a case that needs much memory is no leak; Dask would kill its worker
        dashboard_address="127.0.0.1:0",
        env=dict.fromkeys(names, threads),
        silence_logs=50,
        preload=["delineate.execution.worker_interrupts"],
    ) as cluster:
        yield cluster


@contextmanager
def _client(cluster: Any, specification: str) -> Iterator[Any]:
    import dask
    from distributed import Client

    with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}):
        try:
            client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ResourceError(
                f"The cluster '{specification}' does not answer ({type(error).__name__}). Start a scheduler with "
                "`dask scheduler` and workers with `dask worker`, or use --cluster local."
            ) from error
        with client:
            yield client


def _await_worker(client: Any, specification: str) -> None:
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
    except TimeoutError as error:
        raise ResourceError(
            f"The cluster '{specification}' has no worker after {FIRST_WORKER_SECONDS:.0f} s. Start some with "
            "`dask worker`, with Delineate in their environment."
        ) from error


def _attempt(
    function: Callable[[Item], Output], item: Item, cancellation: RemoteCancellation
) -> Output | DelineateError:
    """Run one task in a worker; its own kind of error comes back as a value, so that Dask makes nothing of it."""
    try:
        cancellation.check()
        return function(item)
    except DelineateError as error:
        return error


def _outcome(item: Item, future: Any) -> Outcome[Item, Any]:
    from distributed import KilledWorker

    try:
        value = future.result()
    except KilledWorker:
        error = ResourceError(
            f"{LOST_WORKERS + 1} workers ended while they worked on it, perhaps because memory ran out. "
            "Give each worker more memory, or use fewer."
        )
        return Outcome(item=item, error=error)
    return Outcome(item=item, error=value) if isinstance(value, DelineateError) else Outcome(item=item, value=value)


def _check_installed(kind: str) -> None:
    try:
        import distributed  # noqa: F401

        if kind == "slurm":
            import dask_jobqueue  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "--cluster needs Dask, which is not installed here: pip install 'delineate[cluster]'."
        ) from error


def _default_workers() -> int:
    """Return one process for two cores: the libraries below use threads of their own."""
    return max(1, (os.cpu_count() or 1) // 2)


def _count(text: str, default: int, told: str) -> int:
    if text == "":
        return default
    if not re.fullmatch(r"[1-9]\d*", text):
        raise UsageError(
            f"The number of workers or jobs must be positive; got '{told}'. A cluster is {SPECIFICATIONS}."
        )
    return int(text)
