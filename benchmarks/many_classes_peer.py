"""Run by the interpreter that has nnU-Net: segments one array of a question, from image to label map, and prints JSON.

Usage: ``python many_classes_peer.py QUESTION.pt ANSWER.pt``; the question holds plans, weights and the image.
"""

import json
import sys
import time

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from peak_memory import peak_kilobytes


def main():
    asked = torch.load(sys.argv[1], weights_only=True)
    torch.set_num_threads(asked["threads"])
    plans = PlansManager(asked["plans"])
    configuration = plans.get_configuration("3d_fullres")
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        asked["heads"],
        allow_init=False,
        deep_supervision=False,
    )
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.manual_initialization(
        network, plans, configuration, [asked.pop("weights")], asked["dataset"], "nnUNetTrainer", None
    )
    image = asked["image"].numpy()
    began = time.perf_counter()
    found = predictor.predict_single_npy_array(image, {"spacing": asked["spacing"]})
    seconds = time.perf_counter() - began
    peak = peak_kilobytes()
    torch.save(torch.from_numpy(found.astype("int16")), sys.argv[2])
    print(json.dumps({"seconds": seconds, "peak_kilobytes": peak}))


if __name__ == "__main__":
    main()
