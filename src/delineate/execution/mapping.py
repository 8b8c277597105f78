"""``map(function, items)``: serial, on processes or a cluster; progress, cancellation, every failure told."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Literal, TypeVar

from delineate.errors import DelineateError, ResourceError
from delineate.execution.cluster import Cluster
from delineate.execution.outcome import Outcome
from delineate.execution.progress import Cancellation, Progress, Silent

Item = TypeVar("Item")
Output = TypeVar("Output")

Backend = Literal["serial", "threads", "processes"]


def map_items(
    function: Callable[[Item], Output],
    items: Sequence[Item],
    *,
    what: str,
    workers: int = 1,
    backend: Backend | Cluster = "processes",
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
) -> list[Outcome[Item, Output]]:
    """Apply ``function`` to every item and return the outcomes in the order of ``items``.

    A :class:`~delineate.errors.DelineateError` of one item is kept in its outcome and the others go on; any other
    exception is a fault of the program and ends the work. At most ``2 * workers`` items are under way at a time, so
    that memory stays bounded. ``workers=1`` runs in the calling thread.

    On a :class:`~delineate.execution.cluster.Cluster`, which knows its own number of workers, ``function`` must be a
    plain function (or a ``partial`` of one) whose arguments can be sent to another process. It runs again if its worker
    is lost.

    Raises
    ------
    Interrupted
        If a stop was requested between two items.
    ResourceError
        If a process was lost, which the system does when memory ends.
    """
    progress = progress or Silent()
    cancellation = cancellation or Cancellation()
    progress.start(what, len(items))
    numbered = list(enumerate(items))
    if isinstance(backend, Cluster):
        coming = backend.run(function, numbered, cancellation)
    elif workers <= 1 or backend == "serial":
        coming = _serial(function, numbered, cancellation)
    else:
        coming = _pooled(workers, backend)(function, numbered, cancellation)
    outcomes: dict[int, Outcome[Item, Output]] = {}
    for index, outcome in coming:
        outcomes[index] = outcome
        progress.advance()
    progress.finish()
    return [outcomes[index] for index in range(len(items))]


def _serial(
    function: Callable[[Item], Output], items: Iterable[tuple[int, Item]], cancellation: Cancellation
) -> Iterator[tuple[int, Outcome[Item, Output]]]:
    for index, item in items:
        cancellation.check()
        try:
            yield index, Outcome(item=item, value=function(item))
        except DelineateError as error:
            yield index, Outcome(item=item, error=error)


def _pooled(
    workers: int, backend: Backend
) -> Callable[
    [Callable[[Item], Output], Iterable[tuple[int, Item]], Cancellation],
    Iterator[tuple[int, Outcome[Item, Output]]],
]:
    def run(
        function: Callable[[Item], Output], items: Iterable[tuple[int, Item]], cancellation: Cancellation
    ) -> Iterator[tuple[int, Outcome[Item, Output]]]:
        pending: dict[Future[Output], tuple[int, Item]] = {}
        queue = iter(items)
        with _executor(workers, backend) as executor:
            try:
                while True:
                    cancellation.check()
                    with _interrupts_kept_from_children():
                        while len(pending) < 2 * workers and (entry := next(queue, None)) is not None:
                            pending[executor.submit(function, entry[1])] = entry
                    if not pending:
                        return
                    done, _ = wait(pending, return_when=FIRST_COMPLETED, timeout=0.5)
                    for future in done:
                        index, item = pending.pop(future)
                        yield index, _outcome(item, future)
            except BrokenProcessPool as error:
                cancellation.check()
                raise ResourceError(
                    "A worker process was lost; the system ends one when memory does not suffice. Run the same command "
                    "again with fewer jobs (-j 1)."
                ) from error
            except KeyboardInterrupt:
                for process in multiprocessing.active_children():
                    process.terminate()
                raise
            finally:
                for future in pending:
                    future.cancel()

    return run


@contextmanager
def _interrupts_kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C, which a terminal sends to every process, from the workers that are started inside the block.

    They inherit the mask even while they import; this process gets a Ctrl-C of that moment after the block and asks
    them to stop.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _executor(workers: int, backend: Backend) -> ProcessPoolExecutor | ThreadPoolExecutor:
    if backend == "threads":
        return ThreadPoolExecutor(workers)
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _outcome(item: Item, future: Future[Output]) -> Outcome[Item, Output]:
    try:
        return Outcome(item=item, value=future.result())
    except DelineateError as error:
        return Outcome(item=item, error=error)
