"""A BIDS folder: which images are there, which derivatives are their masks, and what is known of the participants.

BIDS does not say which derivative is the mask of which structure, so the user names the end of the mask's file name:
``gmseg-manual`` for ``derivatives/labels/sub-01/anat/sub-01_T2starw_gmseg-manual.nii.gz``. Knows names and tables, no
voxels.

References
----------
K. J. Gorgolewski et al., The brain imaging data structure, Sci. Data 3 (2016); the specification, "Common principles"
(file name structure, inheritance principle, n/a in tables).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from delineate.errors import DatasetError
from delineate.formats.datasets.dataset import visible_images
from delineate.formats.datasets.patients import patient_from_name
from delineate.formats.magic import image_stem

DESCRIPTION = "dataset_description.json"
"""The file that makes a folder a BIDS folder."""
PARTICIPANTS = "participants.tsv"
SIDECAR_COLUMNS = ("InstitutionName", "Manufacturer", "ManufacturersModelName", "MagneticFieldStrength")
"""What the JSON file of an image says about site and scanner."""
_MADE_OF = frozenset({"space", "res", "den", "desc", "label"})
"""Entities of a derivative that say how it was made, not of which image."""
_NOT_AVAILABLE = frozenset({"", "n/a"})


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskSource:
    """Where the mask of a structure is."""

    structure: str
    ending: str
    """End of the file name after the last ``_`` that belongs to the image: ``seg-manual``, ``label-cord_mask``."""
    value: int | None = None
    """Label value of the structure in the file; None: the file is binary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BidsWish:
    """What the user wants of a BIDS folder."""

    sources: tuple[MaskSource, ...]
    suffixes: tuple[str, ...] = ()
    """Suffixes of the images (``T1w``), one per channel in order; none: the only one that there is."""
    derivative: str = "labels"
    """Folder below ``derivatives``."""
    leave_out_unmasked: bool = False
    """Leave images out that have none of the masks; else they are a fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BidsName:
    """The parts of a file name ``sub-01_ses-1_run-2_T1w_more``."""

    entities: Mapping[str, str]
    """``{"sub": "01", "ses": "1", "run": "2"}``, in the order of the name."""
    suffix: str
    """``T1w``; empty if there is none."""
    rest: str
    """What follows the suffix: ``more``."""

    @property
    def text(self) -> str:
        """The entities as in the file name."""
        return "_".join(f"{key}-{value}" for key, value in self.entities.items())


@dataclass(frozen=True, kw_only=True, slots=True)
class BidsCase:
    """The images of one acquisition and their masks."""

    name: BidsName
    """Of the first image."""
    images: tuple[Path, ...]
    """One per channel."""
    masks: Mapping[str, Path]
    """By structure."""

    @property
    def case_id(self) -> str:
        """The entities: ``sub-01_ses-1_run-2``."""
        return self.name.text

    @property
    def participant(self) -> str:
        """``sub-01``."""
        return f"sub-{self.name.entities['sub']}"

    @property
    def patient_id(self) -> str:
        """The person; ``sub-01Ses1`` and ``sub-01Ses2`` are one."""
        return patient_from_name(self.participant)

    @property
    def session(self) -> str:
        """``1`` of ``ses-1``; empty without sessions."""
        return self.name.entities.get("ses", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class BidsSelection:
    """What was found, and every fault of the names."""

    suffixes: tuple[str, ...]
    cases: tuple[BidsCase, ...]
    """Complete ones, sorted by id."""
    left_out: tuple[str, ...]
    """Ids of cases that have no mask at all and were left out on request."""
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseColumns:
    """The table of the cases."""

    columns: tuple[str, ...]
    """After ``case`` and ``patient``."""
    rows: tuple[tuple[str, ...], ...]
    """Per case: id, patient, and the columns; empty where nothing is recorded."""
    faults: tuple[str, ...]


def parse_name(stem: str) -> BidsName:
    """Return the parts of a file name without its ending."""
    entities: dict[str, str] = {}
    words = stem.split("_")
    while words and "-" in words[0]:
        key, value = words.pop(0).split("-", 1)
        entities[key] = value
    return BidsName(entities=entities, suffix=words[0] if words else "", rest="_".join(words[1:]))


def select_bids(root: Path, wish: BidsWish) -> BidsSelection:
    """Find the images and their masks.

    Raises
    ------
    DatasetError
        If the folder is no BIDS folder, has no such images or no such derivative, or it is not clear which images are
        meant.
    """
    images, misnamed = _images(root)
    suffixes = _suffixes(root, images, wish.suffixes)
    masks = _Masks(root=_derivative(root, wish.derivative), suffixes=suffixes)
    cases: list[BidsCase] = []
    left_out: list[str] = []
    faults = misnamed
    for case_id, of_case in sorted(_acquisitions(images, suffixes).items()):
        chosen, missing = _channels(case_id, of_case, suffixes)
        name = parse_name(image_stem(of_case[0]))
        found = {source.structure: masks.of(name, source) for source in wish.sources}
        if wish.leave_out_unmasked and not any(found.values()):
            left_out.append(case_id)
            continue
        wrong = [*missing, *_mask_faults(case_id, found, wish)]
        faults += wrong
        if not wrong:
            cases.append(BidsCase(name=name, images=chosen, masks={key: paths[0] for key, paths in found.items()}))
    faults += _shared_masks(cases)
    return BidsSelection(suffixes=suffixes, cases=tuple(cases), left_out=tuple(left_out), faults=tuple(faults))


def case_columns(root: Path, cases: Sequence[BidsCase]) -> CaseColumns:
    """Return the table of the cases: the columns of ``participants.tsv``, and site and scanner of the JSON files.

    A column of the JSON files is left out if ``participants.tsv`` has one of its name or no case has a value.

    Raises
    ------
    DatasetError
        If ``participants.tsv`` cannot be read.
    """
    header, participants, repeated = _participants(root)
    unknown = sorted({case.participant for case in cases} - set(participants)) if header else []
    sidecars = [_sidecar(root, case) for case in cases]
    taken = {name.casefold() for name in header}
    extra = [c for c in SIDECAR_COLUMNS if c.casefold() not in taken and any(c in sidecar for sidecar in sidecars)]
    sessions = any(case.session for case in cases)
    rows = []
    for case, sidecar in zip(cases, sidecars, strict=True):
        known = participants.get(case.participant, {})
        values = [*([case.session] if sessions else []), *(known.get(name, "") for name in header)]
        rows.append((case.case_id, case.patient_id, *values, *(sidecar.get(name, "") for name in extra)))
    reserved = {"case", "case_id", "id", "patient", "patient_id", "session"}
    columns = [f"participant_{name}" if name.casefold() in reserved else name for name in header]
    return CaseColumns(
        columns=(*(["session"] if sessions else []), *columns, *extra),
        rows=tuple(rows),
        faults=(
            *(f"{name} is not in {PARTICIPANTS}; add a row for this participant" for name in unknown),
            *(f"{name} has several rows in {PARTICIPANTS}; keep one" for name in repeated),
        ),
    )


# images -----------------------------------------------------------------------------------------------------------


def _images(root: Path) -> tuple[list[Path], list[str]]:
    """Return the images of all participants, and which names do not say whose they are."""
    if not (root / DESCRIPTION).is_file():
        raise DatasetError(
            f"{root}: expected a BIDS folder, which has a {DESCRIPTION}; there is none. Name the folder that holds it."
        )
    found: list[Path] = []
    misnamed: list[str] = []
    for subject in sorted(root.glob("sub-*")):
        for path in visible_images(subject):
            name = parse_name(image_stem(path))
            if f"sub-{name.entities.get('sub')}" != subject.name or not name.suffix:
                misnamed.append(f"{path}: expected a name such as {subject.name}_T1w; rename the file or take it away")
            elif not name.rest:  # else a derivative that lies beside its image
                found.append(path)
    if not found:
        raise DatasetError(f"{root}: expected images such as sub-01/anat/sub-01_T1w.nii.gz; found none.", misnamed)
    return found, misnamed


def _suffixes(root: Path, images: Sequence[Path], wanted: tuple[str, ...]) -> tuple[str, ...]:
    present = Counter(parse_name(image_stem(path)).suffix for path in images)
    listed = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(present.items()))
    if missing := [suffix for suffix in wanted if suffix not in present]:
        raise DatasetError(f"{root}: there are no images with the suffix {', '.join(missing)}; there are: {listed}.")
    if not wanted and len(present) > 1:
        raise DatasetError(
            f"{root}: there are images of several kinds: {listed}. Choose with --suffix; several become channels of "
            "one case."
        )
    return wanted or tuple(present)


def _acquisitions(images: Sequence[Path], suffixes: Sequence[str]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in images:
        name = parse_name(image_stem(path))
        if name.suffix in suffixes:
            groups.setdefault(name.text, []).append(path)
    return groups


def _channels(case_id: str, found: Sequence[Path], suffixes: Sequence[str]) -> tuple[tuple[Path, ...], list[str]]:
    """Return the image of every suffix, and what is wrong."""
    chosen, faults = [], []
    for suffix in suffixes:
        of_suffix = [path for path in found if parse_name(image_stem(path)).suffix == suffix]
        if len(of_suffix) == 1:
            chosen.append(of_suffix[0])
        else:
            names = f" ({', '.join(str(path) for path in of_suffix)})" if of_suffix else ""
            faults.append(f"{case_id}: expected one {suffix} image; found {len(of_suffix)}{names}")
    return tuple(chosen), faults


# masks ------------------------------------------------------------------------------------------------------------


def _derivative(root: Path, name: str) -> Path:
    folder = root / "derivatives" / name
    if not folder.is_dir():
        there = sorted(path.name for path in (root / "derivatives").glob("*") if path.is_dir())
        raise DatasetError(
            f"{folder}: expected the folder of the masks; there is none. Derivatives that are there: "
            f"{', '.join(there) or 'none'}; choose one with --derivative."
        )
    return folder


@dataclass(kw_only=True)
class _Masks:
    """The files of a derivative, listed once per participant."""

    root: Path
    suffixes: tuple[str, ...]
    _listed: dict[str, list[Path]] = field(default_factory=dict)

    def of(self, image: BidsName, source: MaskSource) -> list[Path]:
        """Return the masks that name the image most exactly; several only if the names do not tell."""
        subject = image.entities["sub"]
        if subject not in self._listed:
            self._listed[subject] = visible_images(self.root / f"sub-{subject}")
        rated = [(depth, path) for path in self._listed[subject] if (depth := self._fit(path, image, source)) > 0]
        best = max((depth for depth, _ in rated), default=0)
        return [path for depth, path in rated if depth == best]

    def _fit(self, path: Path, image: BidsName, source: MaskSource) -> int:
        """Return how many parts of the image's name the mask's name repeats; 0 if it is no mask of it."""
        stem = image_stem(path)
        if not stem.endswith(f"_{source.ending}"):
            return 0
        name = parse_name(stem.removesuffix(f"_{source.ending}"))
        own = {key: value for key, value in name.entities.items() if key not in _MADE_OF}
        agrees = own.items() <= image.entities.items() and own.get("ses") == image.entities.get("ses")
        suffix_fits = not name.suffix or (name.suffix in self.suffixes and not name.rest)
        return len(own) + bool(name.suffix) if agrees and suffix_fits and "sub" in own else 0


def _mask_faults(case_id: str, found: Mapping[str, Sequence[Path]], wish: BidsWish) -> Iterator[str]:
    for source in wish.sources:
        paths = found[source.structure]
        if not paths:
            yield f"{case_id}: no mask of {source.structure}; expected a file whose name ends in _{source.ending}"
        elif len(paths) > 1:
            listed = ", ".join(str(path) for path in paths)
            yield f"{case_id}: expected one mask of {source.structure}; found {len(paths)} ({listed})"


def _shared_masks(cases: Sequence[BidsCase]) -> list[str]:
    """Say which masks would serve several images, because their names do not tell of which one they are."""
    users: dict[Path, set[str]] = {}
    for case in cases:
        for path in case.masks.values():
            users.setdefault(path, set()).add(case.case_id)
    return [
        f"{path}: the name fits several images ({', '.join(sorted(ids))}); a mask belongs to one"
        for path, ids in sorted(users.items())
        if len(ids) > 1
    ]


# tables -----------------------------------------------------------------------------------------------------------


def _participants(root: Path) -> tuple[list[str], dict[str, dict[str, str]], list[str]]:
    """Return the columns of participants.tsv, the values by ``sub-XX``, and who has several rows.

    Nothing if there is no such file.
    """
    path = root / PARTICIPANTS
    if not path.is_file():
        return [], {}, []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream, delimiter="\t") if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: expected a table in UTF-8; it cannot be read ({error}).") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    if "participant_id" not in header:
        raise DatasetError(f"{path}: expected a column participant_id; found {', '.join(header) or 'nothing'}.")
    named = [{name: _available(cell) for name, cell in zip(header, row, strict=False)} for row in rows[1:]]
    owners = ["sub-" + values.pop("participant_id", "").removeprefix("sub-") for values in named]
    repeated = sorted(name for name, count in Counter(owners).items() if count > 1)
    columns = [name for name in header if name != "participant_id"]
    return columns, dict(zip(owners, named, strict=True)), repeated


def _available(text: str) -> str:
    return "" if text.strip().casefold() in _NOT_AVAILABLE else text.strip()


def _sidecar(root: Path, case: BidsCase) -> dict[str, str]:
    """Return what the JSON files say of a case's first image; one nearer to it overrules one further up."""
    image = case.images[0]
    suffix = parse_name(image_stem(image)).suffix
    folders = [image.parent, *(parent for parent in image.parent.parents if parent.is_relative_to(root))]
    found: dict[str, str] = {}
    for folder in reversed(folders):
        fitting = [p for p in folder.glob(f"*{suffix}.json") if _describes(p, case.name, suffix)]
        for path in sorted(fitting, key=lambda p: len(parse_name(p.stem).entities)):
            found.update(_facts(path))
    return found


def _describes(path: Path, image: BidsName, suffix: str) -> bool:
    name = parse_name(path.stem)
    return name.suffix == suffix and not name.rest and name.entities.items() <= image.entities.items()


def _facts(path: Path) -> dict[str, str]:
    """Return the columns that a JSON file has; one that cannot be read says nothing, as it is not needed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        key: _available(str(content[key])) for key in SIDECAR_COLUMNS if isinstance(content.get(key), str | int | float)
    }
