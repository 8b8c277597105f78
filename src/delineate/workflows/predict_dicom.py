"""From a DICOM study and a model to drafts of the objects that hospitals exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from delineate.case import Image
from delineate.clinical.attributes import require_identified
from delineate.errors import GeometryError, UsageError
from delineate.execution import Watched
from delineate.execution.atomic import require_writable
from delineate.formats.dicom.reading import DicomVolume, read_dicom
from delineate.formats.images import write_labels
from delineate.workflows.dicom_draft import draft_of
from delineate.workflows.dicom_out import Exported, ExportSettings, Kind, export_drafts
from delineate.workflows.dicom_preview import preview_on, require_picture
from delineate.workflows.segment_case import segment_case

if TYPE_CHECKING:
    from delineate.workflows.model import Model

LABELS = "labels.nii.gz"


def predict_dicom(
    model: Model,
    study: Path,
    objects: Mapping[Kind, str],
    out: Path,
    *,
    series: Sequence[str] = (),
    settings: ExportSettings | None = None,
    preview: str | None = None,
    **watched: Unpack[Watched],
) -> Exported:
    """Segment a series of a study and write drafts, none of which claims to have been reviewed.

    Parameters
    ----------
    model
        The trained model.
    study
        A folder (or zip) with the study.
    objects
        File name in ``out`` by kind.
    out
        Folder for the objects and the label map.
    series
        Series Instance UIDs in the order of the model's channels; none: the only series that makes a volume.
    settings
        How objects are written; fractional segmentations keep the probabilities.
    preview
        Name in ``out`` of a PNG of the structure set, else the segmentation, as it is read back from its file.

    Raises
    ------
    ImageReadError
        If no series, or several, make a volume.
    InputError
        If the images lack the identifiers that objects must repeat.
    GeometryError
        If the series of several channels do not lie on the same voxels.
    UsageError
        If the number of series is not that of the model's channels, or a picture has nothing to show.
    Interrupted
        If a stop was requested.
    """
    settings = settings or ExportSettings()
    channels = len(model.package.channel_names)
    if len(series) not in (0, channels) or (channels > 1 and not series):
        raise UsageError(
            f"The model takes {channels} channels ({', '.join(map(str, model.package.channel_names))}); name as many "
            f"series with --series, in this order; got {len(series)}."
        )
    if preview is not None:
        require_picture(out / preview)
        if not {"rtstruct", "seg"} & set(objects):
            raise UsageError("A preview shows a structure set or a segmentation; ask for one of them with it.")
    require_writable(out)
    volumes = [read_dicom(study, series_uid=uid) for uid in (series or (None,))]
    if objects:
        require_identified(volumes[0].source)
    image = _together(volumes)
    fractional = settings.seg_kind == "fractional" and "seg" in objects
    result = segment_case(image, model, probabilities=fractional, case_id=study.name, **watched)
    notices = [f"{finding.code}: {finding.words}" for volume in volumes for finding in volume.report.findings]
    loaded = draft_of(result, volumes[0].source, model.package.scheme.structures, notices)
    write_labels(out / LABELS, result.labels)
    exported = export_drafts(loaded, objects, out, settings)
    if preview is None:
        return exported
    preview_on(out / objects["rtstruct" if "rtstruct" in objects else "seg"], volumes[0], out / preview)
    return replace(exported, files=(*exported.files, out / preview))


def _together(volumes: Sequence[DicomVolume]) -> Image:
    """Return series that lie on the same voxels as the channels of one image."""
    first = volumes[0].image.grid
    for number, volume in enumerate(volumes[1:], start=2):
        differences = volume.image.grid.differences(first)
        if differences:
            raise GeometryError(f"Series {number} does not lie on the voxels of series 1: {'; '.join(differences)}.")
    return Image(array=np.concatenate([volume.image.array for volume in volumes]), grid=first)
