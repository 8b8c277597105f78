"""Runs inside the oracle interpreter: nnU-Net's `load_pretrained_weights` fills a network from a checkpoint.

Usage: ``python pretrained_oracle_script.py FOLDER``; reads FOLDER/ours.pt, writes FOLDER/theirs.pt.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import torch
from nnunet_oracle import their_network
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights


def answer(question: dict, folder: Path) -> dict:
    """Return the weights after loading, or the error, for a network that begins with the question's fresh weights."""
    network = their_network(question)
    network.load_state_dict(question["fresh"], strict=True)
    checkpoint = folder / "checkpoint.pth"
    torch.save({"network_weights": question["trained"]}, checkpoint)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            load_pretrained_weights(network, checkpoint)
        except AssertionError as error:
            return {"error": str(error)}
    return {"weights": network.state_dict()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    questions = torch.load(folder / "ours.pt", weights_only=True)
    torch.save({name: answer(question, folder) for name, question in questions.items()}, folder / "theirs.pt")
