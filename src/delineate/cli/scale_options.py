"""Options for work on many machines or devices, and what torchrun says in the environment."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from delineate.errors import UsageError

if TYPE_CHECKING:
    from delineate.execution import Cluster
    from delineate.workflows.train_on_devices import Place

CLUSTER_HELP = "work on a cluster: local:4, tcp://host:8786, slurm:8, slurm:options.yaml"
TORCHRUN_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def cluster_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--cluster``."""
    parser.add_argument("--cluster", metavar="WHERE", help=CLUSTER_HELP)


def devices_option(parser: argparse.ArgumentParser) -> None:
    """Declare ``--devices``."""
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="train one fold on N devices at once")


@contextmanager
def cluster_of(options: argparse.Namespace) -> Iterator[Cluster | None]:
    """Open the cluster that was asked for, or give None."""
    if options.cluster is None:
        yield None
        return
    from delineate.execution import open_cluster

    with open_cluster(options.cluster) as cluster:
        yield cluster


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Return which process of a training this is; None if torchrun did not start it.

    Raises
    ------
    UsageError
        If the variables are incomplete or no numbers.
    """
    if not {"RANK", "LOCAL_RANK", "MASTER_PORT"} <= environment.keys():
        return None
    from delineate.workflows.train_on_devices import Place

    try:
        rank, world_size, local_rank, local_size, address, port = (environment[name] for name in TORCHRUN_NAMES)
        return Place(
            rank=int(rank),
            world_size=int(world_size),
            local_rank=int(local_rank),
            local_size=int(local_size),
            address=address,
            port=int(port),
        )
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"torchrun's variables {', '.join(TORCHRUN_NAMES)} must all be set; wrong is {error}."
        ) from error


def place_of_this_process() -> Place | None:
    """Return the place that torchrun gave this process, if it did."""
    return place_in(os.environ)


def words_without_devices() -> list[str]:
    """Return this process's own command line without ``--devices N``, for the processes that do its work."""
    words, kept = iter(sys.argv[1:]), []
    for word in words:
        if word == "--devices":
            next(words, None)
        elif not word.startswith("--devices="):
            kept.append(word)
    return kept
