"""Writes golden.py anew from the answers of nnunetv2.

DELINEATE_ORACLE_PYTHON=... PYTHONPATH=src:tests python -m planning.make_golden, then format the file.
"""

import tempfile
from pathlib import Path

from delineate.planning.presets import DEFAULT, RESENC_L
from planning.datasets import DATASETS, GOLDEN_RESIDUAL, gist, plan_request
from planning.oracle import ask

HEADER = '''"""What nnunetv2 2.8.1 planned for the made-up datasets; written by make_golden.py.

Keys are dataset/plans name; see :func:`planning.datasets.gist`.
"""

'''


def main():
    pairs = [(name, DEFAULT) for name in DATASETS] + [(name, RESENC_L) for name in GOLDEN_RESIDUAL]
    with tempfile.TemporaryDirectory() as folder:
        answers = ask([plan_request(DATASETS[name], preset) for name, preset in pairs], Path(folder))
    golden = {f"{n}/{p.plans_name}": gist(a) for (n, p), a in zip(pairs, answers, strict=True)}
    Path(__file__).with_name("golden.py").write_text(f"{HEADER}GOLDEN = {golden!r}\n")


if __name__ == "__main__":
    main()
