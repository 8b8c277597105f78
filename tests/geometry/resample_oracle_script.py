"""Run by the interpreter that has nnU-Net: resamples what IN.npz holds; ``python SCRIPT IN.npz OUT.npz``."""

import json
import sys

import numpy as np
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

asked = np.load(sys.argv[1])
answers = {}
for name in json.loads(str(asked["names"])):
    options = json.loads(str(asked[f"{name}_options"]))
    answers[name] = resample_data_or_seg_to_shape(asked[name], order_z=0, force_separate_z=None, **options)
np.savez(sys.argv[2], **answers)
