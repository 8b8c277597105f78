"""Which arm a case gets: a pure function of the protocol's seed, the site and the case's number at that site."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np

from delineate.clinical.protocol import Arm, Protocol


def arms_of(protocol: Protocol, site: str, number: int) -> tuple[Arm, ...]:
    """Return the arms of a case in the order in which they are done: one, or all where cases are paired.

    Blocks: sizes are drawn from the protocol's, each block holds every arm equally often in random order. Paired: a
    block holds every order of the arms once, in random sequence. Every site has a sequence of its own.

    Parameters
    ----------
    protocol
        Seed, arms, blocks.
    site
        The stratum.
    number
        Of the case at the site, from 0, in the order of enrolment.

    References
    ----------
    K. F. Schulz, D. A. Grimes, Generation of allocation sequences in randomised trials, Lancet 359 (2002): blocks of
    varying size, so that the last of a block cannot be guessed.
    """
    if protocol.allocation.method == "single":
        return protocol.arms
    text = f"{protocol.allocation.seed}\n{site}".encode()
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:16], "big"))
    choices: list[tuple[Arm, ...]] = (
        list(itertools.permutations(protocol.arms)) if protocol.paired else [(arm,) for arm in protocol.arms]
    )
    sequence: list[tuple[Arm, ...]] = []
    while len(sequence) <= number:
        repeats = 1 if protocol.paired else int(generator.choice(protocol.allocation.block_sizes)) // len(choices)
        block = choices * repeats
        sequence += [block[i] for i in generator.permutation(len(block))]
    return sequence[number]
