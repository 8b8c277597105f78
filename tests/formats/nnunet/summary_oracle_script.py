"""Run by an interpreter that has nnunetv2: score two folders as nnU-Net does, and read our file with its reader.

Arguments: folder of references, folder of predictions, our summary.json, output file, and per structure its values.
"""

import json
import sys
from pathlib import Path

from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder, load_summary_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO


def main(references, predictions, ours, output, ignore, structures):
    keys = [tuple(s) if len(s) > 1 else s[0] for s in structures]
    compute_metrics_on_folder(references, predictions, output, SimpleITKIO(), ".nii.gz", keys, ignore, num_processes=1)
    loaded = load_summary_json(ours)
    Path(output + ".loaded").write_text(json.dumps({str(k): v for k, v in loaded["mean"].items()}))
    if set(loaded["mean"]) != set(keys):
        raise SystemExit(f"nnU-Net reads the keys {list(loaded['mean'])}; it should read {keys}.")


if __name__ == "__main__":
    main(*sys.argv[1:5], *json.loads(sys.argv[5]))
