"""nnU-Net's raw layout: dataset.json, imagesTr/{id}_{channel}.ext, labelsTr/{id}.ext, imagesTs, and labelsTs if held.

Written from nnU-Net's documentation of its dataset format (v2; v1's ``modality`` is understood). Looks at file names
and at dataset.json, not at voxels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from delineate.formats.datasets.dataset import CaseFiles, Dataset, reader_name, visible_images
from delineate.formats.datasets.declaration import Declaration, declared_channels, declared_count, declared_scheme
from delineate.formats.datasets.patients import patients_of
from delineate.formats.magic import ENDINGS

_CHANNEL_FILE = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def open_nnunet_raw(root: Path, declaration: Declaration, repairs: frozenset[str]) -> Dataset:
    """Return the dataset of an nnU-Net raw folder.

    Raises
    ------
    DatasetError
        If dataset.json has faults; all of them are told.
    """
    channel_names = declared_channels(declaration)
    scheme = declared_scheme(declaration)
    ending = _file_ending(declaration, root)
    explicit = declaration.content.get("dataset")
    if isinstance(explicit, Mapping):
        training = _explicit_cases(declaration, explicit, root)
        surplus: tuple[Path, ...] = ()
    else:
        training, surplus = _found_cases(root, "Tr", ending, len(channel_names), expect_labels=True)
    testing, surplus_test = _found_cases(root, "Ts", ending, len(channel_names), expect_labels=False)
    if not training:
        declaration.faults.append(f"no training cases found in {root / 'imagesTr'} with the ending {ending}")
    count = declared_count(declaration, len(training))
    declaration.finish()
    return Dataset(
        name=root.resolve().name,
        root=root,
        layout="nnunet_raw",
        channel_names=channel_names,
        scheme=scheme,
        training=with_patients(root, training),
        testing=with_patients(root, testing),
        file_ending=ending,
        declared_training_count=count,
        reader_name=_reader(declaration, ending, training),
        repairs=repairs,
        surplus=surplus + surplus_test,
    )


def with_patients(root: Path, cases: tuple[CaseFiles, ...]) -> tuple[CaseFiles, ...]:
    """Return the cases, sorted by id, with their patients looked up."""
    patients = patients_of(root, [case.case_id for case in cases])
    return tuple(
        CaseFiles(case_id=c.case_id, patient_id=patients[c.case_id], images=c.images, labels=c.labels)
        for c in sorted(cases, key=lambda case: case.case_id)
    )


def _file_ending(declaration: Declaration, root: Path) -> str:
    ending = declaration.content.get("file_ending")
    if ending is None:  # nnU-Net v1 had .nii.gz only; look what is there
        present = [e for e in ENDINGS if any((root / "labelsTr").glob(f"*{e}"))]
        return present[0] if present else ".nii.gz"
    if ending not in ENDINGS:
        declaration.faults.append(f'"file_ending" must be one of {", ".join(sorted(ENDINGS))}; found {ending!r}')
    return str(ending)


def _reader(declaration: Declaration, ending: str, training: tuple[CaseFiles, ...]) -> str:
    wanted = declaration.content.get("overwrite_image_reader_writer")
    return str(wanted) if wanted else reader_name(ending, training[0].images[0])


def _found_cases(
    root: Path, part: str, ending: str, channels: int, *, expect_labels: bool
) -> tuple[tuple[CaseFiles, ...], tuple[Path, ...]]:
    """Return the cases of imagesTr or imagesTs and the files that belong to none."""
    images, labels = root / f"images{part}", root / f"labels{part}"
    present, surplus = _by_case(images, ending, channels)
    masks = {path.name[: -len(ending)]: path for path in visible_images(labels) if path.name.endswith(ending)}
    surplus += [path for path in visible_images(labels) if path not in masks.values()]
    if not expect_labels:
        surplus += [path for case, path in masks.items() if case not in present]
    case_ids = sorted(set(present) | set(masks)) if expect_labels else sorted(present)
    used = sorted({channel for found in present.values() for channel in found}) or [0]
    cases = tuple(
        CaseFiles(
            case_id=case,
            patient_id=case,
            images=tuple(images / f"{case}_{channel:04d}{ending}" for channel in used),
            labels=labels / f"{case}{ending}" if expect_labels or case in masks else None,
        )
        for case in case_ids
    )
    return cases, tuple(surplus)


def _by_case(folder: Path, ending: str, channels: int) -> tuple[dict[str, set[int]], list[Path]]:
    """Return which channel files each case has, and the files that are none."""
    present: dict[str, set[int]] = {}
    surplus = []
    for path in visible_images(folder):
        match = _CHANNEL_FILE.match(path.name[: -len(ending)]) if path.name.endswith(ending) else None
        if match and int(match["channel"]) < channels and path.parent == folder:
            present.setdefault(match["case"], set()).add(int(match["channel"]))
        else:
            surplus.append(path)
    return present, surplus


def _explicit_cases(declaration: Declaration, listed: Mapping[str, Any], root: Path) -> tuple[CaseFiles, ...]:
    cases = []
    for case_id, entry in listed.items():
        images = entry.get("images") if isinstance(entry, Mapping) else None
        if not isinstance(images, list) or not images or not isinstance(entry.get("label"), str):
            declaration.faults.append(
                f'dataset: case {case_id} needs "images": [...] and "label": "..."; found {entry!r}'
            )
            continue
        cases.append(
            CaseFiles(
                case_id=case_id,
                patient_id=case_id,
                images=tuple(_resolved(str(image), root) for image in images),
                labels=_resolved(entry["label"], root),
            )
        )
    return tuple(cases)


def _resolved(text: str, root: Path) -> Path:
    """Return the path; the format allows environment variables in it, and relative paths start at the dataset."""
    path = Path(os.path.expandvars(text))
    return path if path.is_absolute() else root / path
