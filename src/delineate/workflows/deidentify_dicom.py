"""A folder of DICOM objects de-identified into another one: looked at whole, then written object by object.

Nothing is written before every file was looked at and found fit. What could tell who somebody was (the key, the table
of UIDs, the log of files) lies in a folder of its own beside the output, for its owner only, or is never written.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from delineate import __version__
from delineate.clinical.deidentify import Counts, Person, Rules
from delineate.clinical.deidentify_declared import read_pseudonyms, read_safe_private, read_words
from delineate.clinical.deidentify_files import FoundObject, Survey, deidentify_file, survey_folder
from delineate.clinical.deidentify_identifiers import Identifiers
from delineate.clinical.deidentify_keys import Keys, make_keys, new_keys, read_keys, write_private
from delineate.clinical.deidentify_pixels import Rectangle, parse_rectangle
from delineate.clinical.deidentify_profile import (
    EDITION,
    OPTIONS_EDITION,
    Option,
    Profile,
)
from delineate.clinical.deidentify_values import shipped_words
from delineate.errors import DatasetError, SomeCasesFailed, UsageError
from delineate.execution import (
    Watched,
    atomic_path,
    map_items,
    remove_leftovers,
    require_writable,
    write_bytes,
    write_text,
)

REPORT, KEY, MAPPING, LOG, LEFT_OUT = "deidentification.json", "key.hex", "mapping.csv", "done.jsonl", "left_out.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeidentificationRequest:
    """What is asked for."""

    source: Path
    """A folder (with sub-folders) or a file; only read."""
    out: Path
    options: frozenset[Option] = frozenset()
    key: Path | None = None
    """Key of an earlier run; None: made, or read, in the folder of secrets."""
    forget_key: bool = False
    """Keep neither key nor mapping: nobody can trace anything back, and no later run will agree with this one."""
    secrets: Path | None = None
    """Folder for key, mapping and log; None: beside the output, named like it with ``-secrets``."""
    pseudonyms: Path | None = None
    words: Path | None = None
    safe_private: Path | None = None
    accept_burned_in: bool = False
    rectangles: tuple[Rectangle, ...] = ()
    """Blanked in images that may carry text in their pixels; they are then accepted."""

    @property
    def secrets_folder(self) -> Path:
        """Where key, mapping and log are kept."""
        return self.secrets or self.out.with_name(f"{self.out.name}-secrets")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeidentificationReport:
    """What was done; no value of any attribute."""

    objects: Mapping[str, int]
    """Number of objects by modality."""
    patients: int
    counts: Counts
    left_out: Mapping[str, int]
    """Files that were not carried over, by reason."""
    notices: tuple[str, ...]
    written: int
    already_there: int


@dataclass(kw_only=True, slots=True)
class _Log:
    """Which objects are done, and as what; lines of JSON, flushed one by one."""

    path: Path | None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, source: str, row: dict[str, Any]) -> None:
        self.rows[source] = row
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"source": source, **row}) + "\n")


def deidentify_folder(request: DeidentificationRequest, **watched: Unpack[Watched]) -> DeidentificationReport:
    """De-identify a folder; the same call goes on where an interrupted one stopped.

    Raises
    ------
    UsageError
        If folders lie in each other, options contradict, or the output was made with other options.
    DatasetError
        If files cannot be de-identified; names all of them, nothing is written.
    SomeCasesFailed
        If single files failed later; the others are written, and the report too.
    Interrupted
        If a stop was requested; what is written stays, unless the key is forgotten.
    """
    _require_apart(request)
    profile = Profile(options=request.options | ({"retain_safe_private"} if request.safe_private else frozenset()))
    declared = read_pseudonyms(request.pseudonyms) if request.pseudonyms else None
    rules_of = _rules(request, profile)
    survey = survey_folder(request.source, profile, **watched)
    _require_fit(survey, request, declared)
    if request.forget_key:
        with atomic_path(request.out) as folder:
            folder.mkdir()
            return _write(survey, request, rules_of(new_keys()), declared, folder, _Log(path=None), **watched)
    require_writable(request.out)
    keys = read_keys(request.key) if request.key else make_keys(request.secrets_folder / KEY)
    rules = rules_of(keys)
    log = _opened_log(request, _settings(request, rules))
    return _write(survey, request, rules, declared, request.out, log, **watched)


def chosen_rectangles(texts: Iterable[str]) -> tuple[Rectangle, ...]:
    """Read rectangles as a person types them.

    Raises
    ------
    UsageError
        If one is no rectangle.
    """
    return tuple(parse_rectangle(text) for text in texts)


def _rules(request: DeidentificationRequest, profile: Profile) -> Callable[[Keys], Rules]:
    words = shipped_words() | (read_words(request.words) if request.words else frozenset())
    safe = read_safe_private(request.safe_private) if request.safe_private else frozenset()
    return lambda keys: Rules(profile=profile, keys=keys, words=words, safe_private=safe)


def _require_apart(request: DeidentificationRequest) -> None:
    source, out, secrets = request.source.resolve(), request.out.resolve(), request.secrets_folder.resolve()
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise UsageError(f"{request.out}: the output must lie outside the originals; choose another folder.")
    if secrets.is_relative_to(out):
        raise UsageError(f"{request.secrets_folder}: secrets must not lie in the output that is given away.")
    if request.forget_key and (request.key or request.secrets):
        raise UsageError("A key is kept or forgotten; leave out --forget-key, or --key and --secrets.")
    if "retain_safe_private" in request.options and request.safe_private is None:
        raise UsageError("Safe private attributes must be declared in a table; give --safe-private FILE.")
    filled = request.out.exists() and (not request.out.is_dir() or any(request.out.iterdir()))
    if filled and (request.forget_key or not (request.secrets_folder / LOG).exists()):
        raise UsageError(f"{request.out}: there is something already; choose a folder that is new or empty.")


def _require_fit(survey: Survey, request: DeidentificationRequest, declared: Mapping[str, str] | None) -> None:
    faults = list(survey.faults)
    root = request.source if request.source.is_dir() else request.source.parent
    for one in survey.objects:
        name = one.path.relative_to(root)
        if declared is not None and one.patient_id not in declared:
            faults.append(f"{name}: its patient is not in {request.pseudonyms}")
        if one.risk and not (request.accept_burned_in or request.rectangles):
            faults.append(f"{name}: text may be burnt in: {one.risk}; look, then --accept-burned-in or --blank X,Y,W,H")
        if one.risk and not all(_fits(rectangle, one) for rectangle in request.rectangles):
            faults.append(f"{name}: a rectangle lies beyond its {one.size_px[0]} x {one.size_px[1]} pixels")
    if not survey.objects and not faults:
        faults = [f"{len(survey.left_out)} files, none of them a DICOM object"]
    if faults:
        raise DatasetError(f"{request.source}: {len(faults)} faults; nothing was written.", faults)


def _fits(rectangle: Rectangle, one: FoundObject) -> bool:
    columns, rows = one.size_px
    return rectangle.x + rectangle.width <= columns and rectangle.y + rectangle.height <= rows


def _write(
    survey: Survey,
    request: DeidentificationRequest,
    rules: Rules,
    declared: Mapping[str, str] | None,
    folder: Path,
    log: _Log,
    **watched: Unpack[Watched],
) -> DeidentificationReport:
    settings = _settings(request, rules)
    for part in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        remove_leftovers(part)
    people = {one.patient: _person(one, survey, rules, declared) for one in survey.objects}
    waiting = [one for one in survey.objects if not _is_done(one, folder, log)]

    def work(one: FoundObject) -> None:
        rectangles = request.rectangles if one.risk else ()
        done = deidentify_file(one.path, rules, people[one.patient], rectangles=rectangles)
        write_bytes(folder / done.place, done.content)
        row = {
            **_stamp(one.path),
            "settings": settings,
            "place": done.place,
            "sha256": hashlib.sha256(done.content).hexdigest(),
            "counts": [[*key, count] for key, count in done.counts.items()],
            "uids": done.uids,
        }
        log.add(str(one.path.resolve()), row)

    outcomes = map_items(work, waiting, what="objects", backend="serial", **watched)
    failures = [f"{outcome.item.path}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    report = _report(survey, request, rules, log, written=len(waiting) - len(failures))
    write_text(folder / REPORT, _as_json(report, rules, request))
    if not request.forget_key:
        _write_secrets(request.secrets_folder, survey, people, log)
    if failures:
        what = f"{len(failures)} of {len(survey.objects)} objects were not written"
        raise SomeCasesFailed(
            f"{what}{', so none was: the key is forgotten.' if request.forget_key else '.'}", failures
        )
    return report


def _person(one: FoundObject, survey: Survey, rules: Rules, declared: Mapping[str, str] | None) -> Person:
    pseudonym = declared[one.patient_id] if declared is not None else rules.keys.pseudonym(one.patient)
    known = survey.identifiers.get(one.patient, Identifiers())
    return Person(pseudonym=pseudonym, days=rules.keys.days(one.patient), identifiers=known.without([pseudonym]))


def _settings(request: DeidentificationRequest, rules: Rules) -> str:
    """Return a digest of everything that an output depends on, beside its original."""
    told = [
        __version__,
        rules.keys.fingerprint,
        sorted(rules.profile.options),
        sorted(rules.words),
        sorted(rules.safe_private),
        [[r.x, r.y, r.width, r.height] for r in request.rectangles],
        request.pseudonyms.read_text(encoding="utf-8-sig") if request.pseudonyms else None,
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _opened_log(request: DeidentificationRequest, settings: str) -> _Log:
    path = request.secrets_folder / LOG
    if not path.exists():
        write_private(path, "")
    rows: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that was being written when the power went
            continue
        if row["settings"] != settings:
            raise UsageError(
                f"{request.out}: it was made with other options, another key or another version; choose a new folder."
            )
        rows[row.pop("source")] = row
    return _Log(path=path, rows=rows)


def _is_done(one: FoundObject, folder: Path, log: _Log) -> bool:
    row = log.rows.get(str(one.path.resolve()))
    if row is None or any(row[key] != value for key, value in _stamp(one.path).items()):
        return False
    written = folder / row["place"]
    return written.is_file() and hashlib.sha256(written.read_bytes()).hexdigest() == str(row["sha256"])


def _stamp(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _report(
    survey: Survey, request: DeidentificationRequest, rules: Rules, log: _Log, *, written: int
) -> DeidentificationReport:
    counts: Counts = Counter()
    done = [one for one in survey.objects if str(one.path.resolve()) in log.rows]
    for one in done:
        for tag, deed, count in log.rows[str(one.path.resolve())]["counts"]:
            counts[tag, deed] += count
    return DeidentificationReport(
        objects=dict(sorted(Counter(one.modality or "none" for one in done).items())),
        patients=len({one.patient for one in done}),
        counts=counts,
        left_out=dict(Counter(reason for _, reason in survey.left_out)),
        notices=_notices(survey, request, rules),
        written=written,
        already_there=len(done) - written,
    )


def _notices(survey: Survey, request: DeidentificationRequest, rules: Rules) -> tuple[str, ...]:
    faces = sum(one.shows_face for one in survey.objects)
    risky = sum(bool(one.risk) for one in survey.objects)
    pets = any(one.modality == "PT" for one in survey.objects)
    dated = {"full_dates", "modified_dates"} & rules.profile.options
    told = []
    if faces:
        told.append(f"{faces} images may show a head: a face can be recognised in a rendering; nothing was defaced.")
    if risky and request.rectangles:
        told.append(f"{risky} images may carry text in their pixels: the declared rectangles were blanked, no more.")
    elif risky:
        told.append(f"{risky} images may carry text in their pixels: they were accepted as they are.")
    if pets and not dated:
        told.append("PET without dates and times: uptake values cannot be computed; --modified-dates keeps intervals.")
    return tuple(told)


def _as_json(report: DeidentificationReport, rules: Rules, request: DeidentificationRequest) -> str:
    content = {
        "software": f"Delineate {__version__}",
        "profile": f"DICOM PS3.15 Annex E, Table E.1-1 of {EDITION}; options of {OPTIONS_EDITION}",
        "codes": [[code.value, code.scheme, code.meaning] for code in rules.profile.codes],
        "key": "forgotten" if request.forget_key else "kept",
        "rectangles_px": [[r.x, r.y, r.width, r.height] for r in request.rectangles],
        "patients": report.patients,
        "objects": report.objects,
        "actions": [{"tag": tag, "done": deed, "count": count} for (tag, deed), count in sorted(report.counts.items())],
        "left_out": report.left_out,
        "notices": report.notices,
    }
    return json.dumps(content, indent=1) + "\n"


def _write_secrets(folder: Path, survey: Survey, people: Mapping[str, Person], log: _Log) -> None:
    patients = sorted({(one.patient, people[one.patient].pseudonym) for one in survey.objects})
    uids = {old: new for row in log.rows.values() for old, new in row["uids"].items()}
    lines = ["kind,original,new"]
    lines += [f"patient,{_quoted(old)},{_quoted(new)}" for old, new in patients]
    lines += [f"uid,{old},{new}" for old, new in sorted(uids.items())]
    write_private(folder / MAPPING, "\n".join(lines) + "\n")
    if survey.left_out:
        write_private(folder / LEFT_OUT, "".join(f"{path}\t{reason}\n" for path, reason in survey.left_out))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
