"""Run by the interpreter that has nnU-Net: preprocesses the cases of QUESTION.json in turn; prints seconds."""

import json
import sys
import time
from pathlib import Path

import nnunetv2.preprocessing.normalization  # noqa: F401 - imports are not part of the time
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO  # noqa: F401
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

asked = json.loads(Path(sys.argv[1]).read_text())
plans = PlansManager(asked["plans"])
configuration = plans.get_configuration("3d_fullres")
preprocessor = DefaultPreprocessor(verbose=False)
start = time.perf_counter()
for name, image, labels in asked["cases"]:
    preprocessor.run_case_save(str(Path(asked["out"]) / name), [image], labels, plans, configuration, asked["dataset"])
print(json.dumps({"seconds": time.perf_counter() - start}))
