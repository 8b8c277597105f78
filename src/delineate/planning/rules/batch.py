"""Rule on the batch size: fill the memory reference, but see no more than a share of the dataset at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

MIN_BATCH_SIZE = 2
"""Smallest batch nnU-Net plans (``UNet_min_batch_size``)."""


def batch_size(
    reference: float, estimate: int, reference_batch: int, *, dataset_voxels: float, share: float, patch: Sequence[int]
) -> int:
    """Return the batch size for a patch.

    Parameters
    ----------
    reference
        Feature-map values that fit the memory target with ``reference_batch`` patches.
    estimate
        Feature-map values of one patch (:func:`~delineate.planning.rules.memory.feature_map_voxels`).
    reference_batch
        Batch size at which ``reference`` was found.
    dataset_voxels
        Voxels of all training cases together, resampled (median size times number of cases).
    share
        Largest share of ``dataset_voxels`` in one batch (0.05; 1 for the ResEnc presets).
    patch
        Voxels per axis.

    References
    ----------
    nnU-Net 2.8.1, end of ``ExperimentPlanner.get_plans_for_configuration``.
    """
    fitting = round((reference / estimate) * reference_batch)
    covering = round(dataset_voxels * share / float(math.prod(patch)))
    return max(min(fitting, covering), MIN_BATCH_SIZE)
