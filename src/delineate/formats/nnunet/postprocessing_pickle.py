"""``postprocessing.pkl``: what nnU-Net's own command applies; written for it opcode by opcode, and never read.

References
----------
nnU-Net 2.8.1, ``postprocessing/remove_connected_components.py``: a pair of a list of functions and a list of their
keyword arguments. The functions are nnU-Net's; only their names are written.
"""

from __future__ import annotations

import pickle  # only written, for nnU-Net; never read
from collections.abc import Sequence

from delineate.formats.nnunet.postprocessing_json import KEEP_LARGEST
from delineate.masks.postprocessing import PostprocessingStep

MODULE = "nnunetv2.postprocessing.remove_connected_components"
_PROTOCOL = 2


def postprocessing_pickle(steps: Sequence[PostprocessingStep]) -> bytes:
    """Return the content of the file for these steps."""
    function = b"c" + f"{MODULE}\n{KEEP_LARGEST}\n".encode() + b"a"
    arguments = [{"labels_or_regions": _spelled(step)} for step in steps]
    plain = pickle.dumps(arguments, protocol=_PROTOCOL)[len(b"\x80\x02") : -len(b".")]
    return pickle.PROTO + bytes([_PROTOCOL]) + b"]" + function * len(steps) + plain + pickle.TUPLE2 + pickle.STOP


def _spelled(step: PostprocessingStep) -> int | list[int]:
    return step.values[0] if len(step.values) == 1 else list(step.values)
