"""What holds for all tests."""

from __future__ import annotations

import os

# read by OpenMP when torch is imported: waiting threads sleep instead of spinning, which is quicker for tiny tensors
# and many times quicker when the cores are busy with something else
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
