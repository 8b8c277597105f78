"""Run by the interpreter that has nnU-Net: prepares the cases of FOLDER/question.json and restores their logits.

Per case NAME the folder holds NAME.npz with image (c, z, y, x), labels (1, z, y, x) and logits (head, z, y, x) float16;
NAME_answer.npz is written.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

folder = Path(sys.argv[1])
for name, asked in json.loads((folder / "question.json").read_text()).items():
    given = np.load(folder / f"{name}.npz")
    plans = PlansManager(asked["plans"])
    configuration = plans.get_configuration(asked["configuration"])
    properties = {"spacing": asked["spacing"]}
    data, labels, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        given["image"], given["labels"], properties, plans, configuration, asked["dataset"]
    )
    answer = {"data": data, "labels": labels, "box": np.array(properties["bbox_used_for_cropping"])}
    for number, voxels in enumerate(properties["class_locations"].values()):
        answer[f"locations{number}"] = np.array(voxels).reshape(-1, 4)
    manager = plans.get_label_manager(asked["dataset"])
    with torch.inference_mode():
        answer["restored"], answer["probabilities"] = convert_predicted_logits_to_segmentation_with_correct_shape(
            given["logits"], plans, configuration, manager, properties, return_probabilities=True, num_threads_torch=1
        )
        answer["restored_directly"] = convert_predicted_logits_to_segmentation_with_correct_shape(
            given["logits"], plans, configuration, manager, properties, num_threads_torch=1
        )
    np.savez(folder / f"{name}_answer.npz", **answer)
