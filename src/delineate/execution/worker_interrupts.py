"""Loaded into the workers of this machine, see :mod:`delineate.execution.cluster`; nobody else imports it."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the one that the user started: it asks workers to stop.

    The name is Dask's.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
