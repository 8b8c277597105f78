"""Run by the interpreter that has nnU-Net: reads FOLDER/store as a training set; answers into FOLDER/answer.npz."""

import json
import sys
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, infer_dataset_class

folder = Path(sys.argv[1])
asked = json.loads((folder / "question.json").read_text())
shapes = [comp_blosc2_params(tuple(image), tuple(patch), itemsize) for image, patch, itemsize in asked]
store = str(folder / "store")
dataset = infer_dataset_class(store)(store)
answer = {"identifiers": np.array(dataset.identifiers), "shapes": np.array(shapes)}
for number, name in enumerate(dataset.identifiers):
    data, labels, _, properties = dataset.load_case(name)
    answer[f"data{number}"], answer[f"labels{number}"] = data[:], labels[:]
    answer[f"spacing{number}"] = np.array(properties["spacing"])
    answer[f"direction{number}"] = np.array(properties["sitk_stuff"]["direction"])
    answer[f"box{number}"] = np.array(properties["bbox_used_for_cropping"])
    for key, voxels in properties["class_locations"].items():
        answer[f"locations{number}_{key}"] = np.array(voxels).reshape(-1, 4)
np.savez(folder / "answer.npz", **answer)
