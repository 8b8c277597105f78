"""Training: patches, augmentation, losses, schedules, the loop, checkpoints. Knows no inference, no arguments."""

from delineate.training.loop import TrainedFold, fit
from delineate.training.probe import measure_step
from delineate.training.ranks import Ranks
from delineate.training.sampler import TrainingCases
from delineate.training.schedule import Extension
from delineate.training.session import Runtime
from delineate.training.state import Assignment

__all__ = ["Assignment", "Extension", "Ranks", "Runtime", "TrainedFold", "TrainingCases", "fit", "measure_step"]
