"""The layout of the Medical Segmentation Decathlon: dataset.json with lists of files, 4-D images with channels last.

Also reads nnU-Net v1 folders, whose dataset.json has the same lists while the files carry channel numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from delineate.formats.datasets.dataset import CaseFiles, Dataset, reader_name, visible_images
from delineate.formats.datasets.declaration import Declaration, declared_channels, declared_count, declared_scheme
from delineate.formats.datasets.nnunet_raw import with_patients
from delineate.formats.magic import image_ending, image_stem


def open_msd(root: Path, declaration: Declaration, repairs: frozenset[str]) -> Dataset:
    """Return the dataset of a Decathlon folder.

    Raises
    ------
    DatasetError
        If dataset.json has faults; all of them are told.
    """
    channel_names = declared_channels(declaration)
    scheme = declared_scheme(declaration)
    training = _cases(declaration, "training", root, len(channel_names))
    testing = _cases(declaration, "test", root, len(channel_names))
    if not training:
        declaration.faults.append('"training" lists no case')
    count = declared_count(declaration, len(training))
    declaration.finish()
    example = training[0].images[0]
    ending = image_ending(example) or example.suffix
    return Dataset(
        name=str(declaration.content.get("name") or root.resolve().name),
        root=root,
        layout="msd",
        channel_names=channel_names,
        scheme=scheme,
        training=with_patients(root, training),
        testing=with_patients(root, testing),
        file_ending=ending,
        declared_training_count=count,
        reader_name=reader_name(ending, example),
        repairs=repairs,
        surplus=_surplus(root, training + testing),
    )


def _cases(declaration: Declaration, key: str, root: Path, channels: int) -> tuple[CaseFiles, ...]:
    entries = declaration.content.get(key) or []
    if not isinstance(entries, list):
        declaration.faults.append(f'"{key}" must be a list; found {type(entries).__name__}')
        return ()
    cases = []
    for entry in entries:
        image, label = _pair(entry)
        if image is None or (label is None and key == "training"):
            declaration.faults.append(f'{key}: expected {{"image": "...", "label": "..."}}; found {entry!r}')
            continue
        path = root / image
        labels = root / label if label else None
        images = _channel_files(path, channels)
        cases.append(CaseFiles(case_id=image_stem(path), patient_id="", images=images, labels=labels))
    return tuple(cases)


def _pair(entry: Any) -> tuple[str | None, str | None]:
    """Return image and label of an entry: {"image": .., "label": ..} or just the image's path."""
    if isinstance(entry, str):
        return entry, None
    if isinstance(entry, dict):
        image, label = entry.get("image"), entry.get("label")
        return (image if isinstance(image, str) else None), (label if isinstance(label, str) else None)
    return None, None


def _channel_files(path: Path, channels: int) -> tuple[Path, ...]:
    """Return the listed file, or nnU-Net v1's file per channel if that is what lies there."""
    ending = image_ending(path) or ""
    numbered = tuple(path.with_name(f"{image_stem(path)}_{channel:04d}{ending}") for channel in range(channels))
    return numbered if not path.is_file() and any(p.is_file() for p in numbered) else (path,)


def _surplus(root: Path, cases: Iterable[CaseFiles]) -> tuple[Path, ...]:
    known = {path.resolve() for case in cases for path in (*case.images, case.labels) if path is not None}
    folders = [root / name for name in ("imagesTr", "labelsTr", "imagesTs")]
    return tuple(path for folder in folders for path in visible_images(folder) if path.resolve() not in known)
