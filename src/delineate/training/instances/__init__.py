"""Training on instances: crops with new colours and sizes, targets of their instances, loss, and the task of it all."""

from delineate.training.instances.atlas import InstanceImage, InstanceSource, PackedImage
from delineate.training.instances.loss import InstanceLoss
from delineate.training.instances.probe import measure_instance_step
from delineate.training.instances.task import InstanceAssignment, instance_task

__all__ = [
    "InstanceAssignment",
    "InstanceImage",
    "InstanceLoss",
    "InstanceSource",
    "PackedImage",
    "instance_task",
    "measure_instance_step",
]
