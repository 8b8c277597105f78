"""Small label maps in files, as drafts and what people make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from delineate.case import Image, LabelMap
from delineate.formats.images import write_image, write_labels
from delineate.geometry.grid import Grid

GRID = Grid.regular((8, 24, 24), (3.0, 1.0, 1.0))
DECLARATION = (
    '{"channel_names": {"0": "MR"}, "labels": {"background": 0, "Anterior": 1, "Posterior": 2}, '
    '"numTraining": 1, "file_ending": ".nii.gz"}'
)


def label_array(generator: np.random.Generator, *, shift: int = 0) -> np.ndarray:
    """Two blocks whose sizes vary a little; ``shift`` moves the first one."""
    array = np.zeros(GRID.shape, np.uint8)
    a, b = generator.integers(8, 12, size=2)
    array[1:7, 2 + shift : 2 + shift + a, 2:12] = 1
    array[1:7, 14 : 14 + min(b, 9), 13:22] = 2
    return array


def write_case(
    folder: Path, case_id: str, generator: np.random.Generator, *, rows: int = 0, scale: float = 1.0
) -> None:
    """Write image, draft and approved label map; ``rows`` of the first structure were corrected."""
    approved = label_array(generator)
    draft = approved.copy()
    draft[:, 2 : 2 + rows][draft[:, 2 : 2 + rows] == 1] = 0
    image = scale * (100 * approved + generator.normal(50, 5, size=GRID.shape))
    write_image(folder / "images" / f"{case_id}.nii.gz", Image(array=image[None].astype(np.float32), grid=GRID))
    for name, array in (("drafts", draft), ("approved", approved)):
        write_labels(folder / name / f"{case_id}.nii.gz", LabelMap(array=array, grid=GRID))
