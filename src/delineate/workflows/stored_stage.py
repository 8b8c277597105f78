"""The first stage of a cascade as a folder of label maps that were made earlier, by whatever program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from delineate.case import Image, LabelMap, LabelScheme
from delineate.errors import GeometryError, InputError
from delineate.formats.images import read_labels


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStage:
    """Label maps ``{case_id}`` with an ending, one per image, on the image's grid."""

    folder: Path
    ending: str
    """With the dot."""
    scheme: LabelScheme

    def labels_of(self, image: Image, case_id: str) -> LabelMap:
        """Read the label map of a case.

        Raises
        ------
        InputError
            If it is missing, damaged, or does not lie on the image's grid.
        """
        path = self.folder / f"{case_id}{self.ending}"
        if not path.is_file():
            raise InputError(f"{self.folder}: expected the previous stage's label map {path.name}; it is not there.")
        labels = read_labels(path, self.scheme)
        differences = labels.grid.differences(image.grid)
        if differences:
            raise GeometryError(f"{path} must lie on the image's grid; they differ in {'; '.join(differences)}.")
        return labels
