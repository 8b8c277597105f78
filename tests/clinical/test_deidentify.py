"""De-identification: nothing of a person is left, references hold, options do what they say, folders whole."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from drafts import structure
from hypothesis import given
from hypothesis import strategies as st
from planted_study import (
    CANARY,
    FORBIDDEN,
    FORENAME,
    PATIENT,
    SR,
    SURNAME,
    ct_series,
    planted_object,
    save,
    with_meta,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, generate_uid

from delineate.case import LabelMap, Provenance, Result
from delineate.cli.main import main
from delineate.clinical.deidentify import Person, Rules, deidentify, encoded
from delineate.clinical.deidentify_declared import read_pseudonyms, read_safe_private
from delineate.clinical.deidentify_identifiers import Identifiers, identifiers_of
from delineate.clinical.deidentify_keys import LEAST_DAYS, MOST_DAYS, Keys, make_keys
from delineate.clinical.deidentify_profile import OPTION_CODES, Option, Profile, profile_rows
from delineate.clinical.deidentify_values import known_words_only, shifted, shipped_words
from delineate.clinical.results import DraftResult
from delineate.clinical.rtstruct import write_draft_rtstruct
from delineate.errors import DatasetError, InputError, Interrupted, SomeCasesFailed, UsageError
from delineate.execution import Cancellation, Silent
from delineate.formats.dicom.reading import read_dicom
from delineate.formats.dicom.rtstruct_reader import read_rtstruct
from delineate.workflows.deidentify_dicom import (
    DeidentificationReport,
    DeidentificationRequest,
    chosen_rectangles,
    deidentify_folder,
)

KEYS = Keys(secret=bytes(range(32)))
REAL = Path(os.environ.get("DELINEATE_DATA", "/nowhere")) / "dicom"
ALL_BUT_DATES: tuple[Option, ...] = tuple(o for o in OPTION_CODES if o not in ("full_dates", "modified_dates"))


def run(source: Path, out: Path, *options: Option, **more: Any) -> DeidentificationReport:
    request = DeidentificationRequest(source=source, out=out, options=frozenset(options), **more)
    return deidentify_folder(request, progress=Silent(), cancellation=Cancellation())


def objects(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.rglob("*.dcm"))]


def one(dataset: Dataset, *options: Option, words: frozenset[str] = frozenset()) -> Dataset:
    rules = Rules(profile=Profile(options=frozenset(options)), keys=KEYS, words=shipped_words() | words)
    identifiers = identifiers_of(dataset, rules.profile)
    person = Person(pseudonym="P1", days=-100, identifiers=identifiers)
    result = deidentify(dataset, rules, person)
    encoded(result, person)
    return result.dataset


def leaves(dataset: Dataset) -> Iterator[tuple[int, Any]]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from leaves(item)
        else:
            yield int(element.tag), element.value


# the table


def test_the_table_is_whole() -> None:
    rows = {row.tag: row for row in profile_rows()}
    assert len(rows) == 656
    assert Counter(row.basic for row in rows.values()) == {
        "X": 416,
        "D": 93,
        "U": 55,
        "Z": 42,
        "X/D": 23,
        "X/Z": 11,
        "X/Z/D": 8,
        "Z/D": 6,
        "X/Z/U*": 2,
    }
    assert (rows["00080050"].name, rows["00080050"].basic) == ("Accession Number", "Z")
    assert rows["00100010"].basic == "Z"
    assert rows["00081140"].basic == "X/Z/U*"
    assert rows["00200052"].options == {"retain_uids": "K"}
    assert rows["00080022"].options == {"full_dates": "K", "modified_dates": "C"}
    assert rows["00101010"].options == {"retain_patient": "K"}
    assert rows["0008103e"].options == {"clean_descriptors": "C"}
    assert rows["0040a730"].options == {"clean_structured": "C"}
    assert rows["00081120"].options == {}  # removed even where UIDs are retained
    assert rows["00081010"].options == {"retain_device": "K"}
    assert rows["00080080"].options == {"retain_institution": "K"}
    assert rows["private"].options == {"retain_safe_private": "C"}


def test_every_row_names_an_attribute_of_the_dictionary() -> None:
    rows = [row for row in profile_rows() if "x" not in row.tag and row.tag != "private"]
    known = [row for row in rows if pydicom.datadict.dictionary_has_tag(int(row.tag, 16))]
    assert [row for row in known if pydicom.datadict.dictionary_description(int(row.tag, 16)) != row.name] == []
    assert len(rows) - len(known) <= 25  # of newer editions than pydicom's dictionary


def test_codes_mean_what_the_standard_says() -> None:
    meanings = {entry.value: entry.meaning for entry in (getattr(codes.DCM, name) for name in codes.DCM.dir())}
    for code in Profile(options=frozenset(ALL_BUT_DATES)).codes:
        assert meanings[code.value] == code.meaning
    assert {meanings[OPTION_CODES[o].value] for o in ("full_dates", "modified_dates")} == {
        OPTION_CODES[o].meaning
        for o in ("full_dates", "modified_dates")  # type: ignore[index]
    }


def test_full_and_modified_dates_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="not both"):
        Profile(options=frozenset({"full_dates", "modified_dates"}))


# nothing is left


@pytest.mark.parametrize("options", [(), (*ALL_BUT_DATES, "modified_dates")])
def test_no_planted_identifier_is_left_in_any_byte(tmp_path: Path, options: tuple[Option, ...]) -> None:
    source = save(planted_object(), tmp_path / "in" / "a.dcm")
    assert all(source.read_bytes().lower().count(text) for text in FORBIDDEN)
    kept = {"retain_safe_private", "retain_uids", "retain_device", "retain_institution", "retain_patient"}
    run(tmp_path / "in", tmp_path / "out", *(option for option in options if option not in kept))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        content = path.read_bytes().lower() + str(path).lower().encode()
        assert [text for text in FORBIDDEN if text in content] == []


def test_nothing_of_a_name_is_left_whatever_options_keep(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", Manufacturer=f"Acme for {SURNAME}", DeviceSerialNumber=f"S{SURNAME}-1 {SURNAME}")
    run(tmp_path / "in", tmp_path / "out", *(o for o in ALL_BUT_DATES if o != "retain_safe_private"), "full_dates")
    for path in (tmp_path / "out").rglob("*.dcm"):
        found = pydicom.dcmread(path)
        assert found.Manufacturer == "Acme for"
        content = path.read_bytes().lower()
        assert not any(text.lower().encode() in content for text in (FORENAME, PATIENT, "House", "ACC998877"))


def test_implicit_and_explicit_files_give_the_same(tmp_path: Path) -> None:
    dataset = planted_object()
    save(dataset, tmp_path / "explicit.dcm")
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    save(dataset, tmp_path / "implicit.dcm")
    explicit, implicit = (one(pydicom.dcmread(tmp_path / f"{how}.dcm")) for how in ("explicit", "implicit"))
    assert [t for t in explicit if t != implicit.get(t.tag)] == []
    assert len(explicit) == len(implicit)


def test_character_sets_stay(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=1, SpecificCharacterSet="ISO_IR 192", Manufacturer="Gerätebau")
    run(tmp_path / "in", tmp_path / "out")
    assert objects(tmp_path / "out")[0].Manufacturer == "Gerätebau"


def test_an_identifier_in_a_binary_attribute_goes(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=1, ICCProfile=b"profile of quixley " + bytes(1))
    run(tmp_path / "in", tmp_path / "out")
    assert "ICCProfile" not in objects(tmp_path / "out")[0]


def test_what_would_leave_an_identifier_is_not_written() -> None:
    rules = Rules(profile=Profile(), keys=KEYS, words=frozenset())
    dataset = planted_object()
    dataset.Manufacturer = "Maker"
    result = deidentify(dataset, rules, Person(pseudonym="P1", days=-9, identifiers=Identifiers()))
    result.dataset.RescaleType = SURNAME
    with pytest.raises(InputError, match="identifiers of the patient") as raised:
        encoded(result, Person(pseudonym="P1", days=-9, identifiers=Identifiers(words=frozenset({"quixley"}))))
    assert SURNAME.lower() not in str(raised.value).lower()


def test_a_value_that_is_all_identifier_becomes_a_dummy(ct: Dataset) -> None:
    ct.Manufacturer, ct.ConvolutionKernel = SURNAME, f"Br36 {PATIENT}"
    made = one(ct)
    assert made.Manufacturer.startswith("D")
    assert made.ConvolutionKernel == "Br36"


def test_unlisted_texts_names_and_dates_are_replaced(ct: Dataset) -> None:
    ct.SegmentDescription, ct.FilterMaterial = "seen by the neighbour", "COPPER"
    ct[0x0018FFF0] = pydicom.DataElement(0x0018FFF0, "UN", b"what is this")
    made = one(ct)
    assert made.SegmentDescription == KEYS.label(0x00620006, "seen by the neighbour")
    assert made.FilterMaterial == "COPPER"
    assert 0x0018FFF0 not in made


# references


def with_results(folder: Path, tmp_path: Path) -> np.ndarray:
    """Write a structure set and a segmentation of a series into its folder; return the label map."""
    volume = read_dicom(folder)
    labels = np.zeros(volume.image.grid.shape, dtype=np.uint8)
    labels[1:3, 2:6, 3:8], labels[1, 3, 4], labels[3, 7, 9] = 1, 0, 2
    draft = DraftResult(
        result=Result(
            case_id="c",
            labels=LabelMap(array=labels, grid=volume.image.grid),
            provenance=Provenance(software="test", model=f"model of {SURNAME}"),
        ),
        source=volume.source,
        structures=(structure("liver", 1), structure("lesion", 2)),
    )
    write_draft_rtstruct(folder / "rt.dcm", draft)
    images = sorted(
        (pydicom.dcmread(path) for path in folder.glob("[0-9]*.dcm")), key=lambda d: float(d.ImagePositionPatient[2])
    )
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=f"liver {number}",
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type="AUTOMATIC",
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="a", version="1", family=codes.DCM.ArtificialIntelligence
            ),
            tracking_uid=generate_uid(prefix=None),
            tracking_id=f"of {SURNAME}",
        )
        for number in (1, 2)
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(prefix=None),
        series_number=5,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="77-88-99",
        content_creator_name=f"{SURNAME}^{FORENAME}",
    )
    segmentation.save_as(folder / "seg.dcm")
    return labels


@pytest.mark.parametrize("options", [(), ("modified_dates", "clean_descriptors")])
def test_structure_sets_and_segmentations_still_fit_their_images(tmp_path: Path, options: tuple[Option, ...]) -> None:
    folder = ct_series(tmp_path / "in")
    labels = with_results(folder, tmp_path)
    before = read_dicom(folder)
    run(folder, tmp_path / "out", *options)
    after = read_dicom(tmp_path / "out")
    assert np.array_equal(after.image.array, before.image.array)
    assert np.allclose(after.source.grid.affine, before.source.grid.affine)
    kinds = {str(d.Modality): path for path in (tmp_path / "out").rglob("*.dcm") for d in [pydicom.dcmread(path)]}
    structures = read_rtstruct(kinds["RTSTRUCT"], after.source)
    assert structures.notices == ()
    assert [np.array_equal(s.mask, labels == v) for s, v in zip(structures.structures, (1, 2), strict=True)] == [
        True
    ] * 2
    assert len({s.name for s in structures.structures}) == 2
    segmentation = highdicom.seg.segread(kinds["SEG"])
    referenced = [uid for _, _, uid in segmentation.get_source_image_uids()]
    assert set(referenced) <= {s.sop_instance_uid for s in after.source.slices}
    read = segmentation.get_pixels_by_source_instance(
        [s.sop_instance_uid for s in after.source.slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(read, labels)
    assert segmentation.FrameOfReferenceUID == after.source.frame_of_reference_uid


def test_every_reference_of_a_study_names_an_object_of_it(tmp_path: Path) -> None:
    folder = ct_series(tmp_path / "in")
    with_results(folder, tmp_path)
    run(folder, tmp_path / "out")
    found = objects(tmp_path / "out")
    uids = {str(d.SOPInstanceUID) for d in found}
    named = {str(value) for d in found for tag, value in leaves(d) if tag == 0x00081155}
    study_reference = {str(d.StudyInstanceUID) for d in found}
    assert named
    assert named <= uids | study_reference
    assert len(study_reference) == 1


# keys


@given(uid=st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,11})){2,9}", fullmatch=True), other=st.text(max_size=9))
def test_new_uids_are_valid_and_of_the_key(uid: str, other: str) -> None:
    new = KEYS.uid(uid)
    assert pydicom.uid.UID(new).is_valid
    assert len(new) <= 44
    assert new == Keys(secret=bytes(range(32))).uid(uid)
    assert new != Keys(secret=bytes(32)).uid(uid)
    assert (KEYS.uid(other) == new) == (other == uid)


@given(st.text(max_size=20))
def test_dates_move_into_the_past_by_days_of_the_patient(patient: str) -> None:
    assert LEAST_DAYS <= -KEYS.days(patient) <= MOST_DAYS


@given(st.dates(min_value=date(1900, 1, 1)), st.integers(-3650, -30))
def test_shifted_dates_keep_their_distance(day: Any, days: int) -> None:
    text = day.strftime("%Y%m%d")
    moved = shifted("DA", text, days)
    assert moved is not None
    assert shifted("DA", moved, -days) == text
    assert shifted("DT", text + "120000.5+0100", days) == moved + "120000.5+0100"
    assert shifted("DA", f"{text[:4]}.{text[4:6]}.{text[6:]}", days) == moved


@pytest.mark.parametrize("text", ["2024", "20241399", "tomorrow", "20240101-20250101", "00010101"])
def test_what_is_no_whole_date_is_not_moved(text: str) -> None:
    assert shifted("DA", text, -100) is None


@given(st.text(max_size=60))
def test_cleaned_texts_hold_known_words_and_short_numbers_only(text: str) -> None:
    for word in known_words_only(text, shipped_words()).split():
        assert word.lower() in shipped_words() or sum(c.isdigit() for c in word) <= 5


def test_registered_uids_stay_and_others_go(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=1)
    original = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    original.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"  # Talairach: registered by the standard
    original.RelatedGeneralSOPClassUID = "1.2.3.4.5.6.7"  # a private class is a kind, no thing
    made = one(original)
    assert made.SOPClassUID == original.SOPClassUID
    assert made.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    assert made.RelatedGeneralSOPClassUID == "1.2.3.4.5.6.7"
    assert made.SOPInstanceUID == KEYS.uid(original.SOPInstanceUID)
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
    original.Manufacturer = f"object {original.StudyInstanceUID}"
    assert one(original).Manufacturer == f"object {made.StudyInstanceUID}"


# options, one by one


@pytest.fixture
def ct(tmp_path: Path) -> Dataset:
    ct_series(tmp_path / "ct", planes=1)
    return pydicom.dcmread(tmp_path / "ct" / "0.dcm")


def test_basic_profile(ct: Dataset) -> None:
    made = one(ct)
    assert (made.PatientName, made.PatientID, made.PatientIdentityRemoved) == ("P1", "P1", "YES")
    assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == ["113100"]
    assert made.LongitudinalTemporalInformationModified == "REMOVED"
    assert not any((made.PatientBirthDate, made.AccessionNumber, made.StudyDate))
    assert made.ContentDate == "19000101"
    assert not {"PatientAge", "SeriesDescription"} & {e.keyword for e in made}
    assert not any(element.tag.is_private for element in made)
    assert made.KVP == 120


@pytest.mark.parametrize("option", [*OPTION_CODES])
def test_every_option_is_marked_with_its_code(ct: Dataset, option: Option) -> None:
    found = [item.CodeValue for item in one(ct, option).DeidentificationMethodCodeSequence]
    assert found == ["113100", OPTION_CODES[option].value]


def test_retain_uids(ct: Dataset) -> None:
    made = one(ct, "retain_uids")
    assert [made[n].value for n in ("SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")] == [
        ct[n].value for n in ("SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
    ]


def test_retain_device_and_institution(ct: Dataset) -> None:
    assert one(ct, "retain_device").StationName == "ROOM4711"
    assert one(ct, "retain_device").InstitutionName != "St Elsewhere"
    assert one(ct, "retain_institution").InstitutionName == "St Elsewhere"
    assert one(ct, "retain_institution").StationName != "ROOM4711"


def test_retain_patient_tells_no_age_above_89(ct: Dataset) -> None:
    assert (one(ct, "retain_patient").PatientSex, one(ct, "retain_patient").PatientAge) == ("F", "090Y")
    ct.PatientAge = "044Y"
    assert one(ct, "retain_patient").PatientAge == "044Y"
    assert not one(ct, "retain_patient").PatientBirthDate


def test_dates_in_full_and_moved(ct: Dataset) -> None:
    full, moved = one(ct, "full_dates"), one(ct, "modified_dates")
    assert (full.StudyDate, full.LongitudinalTemporalInformationModified) == ("20240229", "UNMODIFIED")
    assert (moved.StudyDate, moved.LongitudinalTemporalInformationModified) == ("20231121", "MODIFIED")
    assert moved.AcquisitionTime == full.AcquisitionTime == ct.AcquisitionTime
    assert not moved.PatientBirthDate


def test_cleaned_descriptions_keep_known_words(ct: Dataset) -> None:
    assert one(ct, "clean_descriptors").SeriesDescription == "CT ABDOMEN 5.0 mm portal"
    assert one(ct, "clean_descriptors", words=frozenset({"born"})).SeriesDescription == "CT ABDOMEN 5.0 mm portal born"
    ct.SeriesDescription = f"{SURNAME} {FORENAME}"
    assert "SeriesDescription" not in one(ct, "clean_descriptors")
    ct.PatientName = "Abdomen^Portal"
    ct.SeriesDescription = "CT abdomen"
    assert one(ct, "clean_descriptors").SeriesDescription == "CT"


def test_graphics_lose_their_texts(ct: Dataset) -> None:
    text, graphic, annotation = Dataset(), Dataset(), Dataset()
    text.UnformattedTextValue = SURNAME
    graphic.GraphicData, graphic.GraphicType = [1.0, 2.0, 3.0, 4.0], "POLYLINE"
    annotation.TextObjectSequence, annotation.GraphicObjectSequence = [text], [graphic]
    ct.GraphicAnnotationSequence = [annotation]
    assert "GraphicObjectSequence" not in one(ct).GraphicAnnotationSequence[0]
    kept = one(ct, "clean_graphics").GraphicAnnotationSequence[0]
    assert "TextObjectSequence" not in kept
    assert list(kept.GraphicObjectSequence[0].GraphicData) == [1.0, 2.0, 3.0, 4.0]


def test_declared_private_attributes_stay(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=1)
    (tmp_path / "safe.csv").write_text("creator,group,element\nACME 1,0019,xx01\n")
    run(tmp_path / "in", tmp_path / "out", safe_private=tmp_path / "safe.csv")
    made = objects(tmp_path / "out")[0]
    assert made.private_block(0x0019, "ACME 1")[0x01].value == 2.5
    assert sum(element.tag.is_private for element in made) == 2
    assert "113111" in [item.CodeValue for item in made.DeidentificationMethodCodeSequence]
    with pytest.raises(UsageError, match="declared"):
        run(tmp_path / "in", tmp_path / "other", "retain_safe_private")


# reports


def content(concept: str, kind: str, **values: Any) -> Dataset:
    name, item = Dataset(), Dataset()
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = concept, "DCM", "Concept"
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, [name]
    for key, value in values.items():
        setattr(item, key, value)
    return item


@pytest.fixture
def report(ct: Dataset) -> Dataset:
    referenced, measured = Dataset(), Dataset()
    referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = ct.SOPClassUID, ct.SOPInstanceUID
    measured.NumericValue = "12.5"
    group = content("125007", "CONTAINER")
    group.ContentSequence = [
        content("121071", "TEXT", TextValue=f"liver lesion of {SURNAME} seen 12/03/2024"),
        content("121008", "PNAME", PersonName="House^Gregory"),
        content("121029", "PNAME", PersonName=f"{SURNAME}^{FORENAME}"),
        content("121033", "NUM", MeasuredValueSequence=[measured]),
        content("121206", "NUM", MeasuredValueSequence=[measured]),
        content("111060", "DATE", Date="20240229"),
        content("112039", "UIDREF", UID=str(ct.SeriesInstanceUID)),
        content("121080", "IMAGE", ReferencedSOPSequence=[referenced]),
    ]
    dataset = Dataset()
    dataset.update({element.tag: deepcopy(element) for element in ct if element.tag.group in (0x08, 0x10)})
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = ct.StudyInstanceUID, generate_uid(prefix=None)
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = SR, generate_uid(prefix=None), "SR"
    dataset.ValueType, dataset.ContinuityOfContent, dataset.ContentSequence = "CONTAINER", "SEPARATE", [group]
    return with_meta(dataset)


def test_reports_lose_their_content_unless_it_is_cleaned(report: Dataset, ct: Dataset) -> None:
    assert [item.TextValue for item in one(report).ContentSequence] == ["Removed by de-identification"]
    (group,) = one(report, "clean_structured", "modified_dates").ContentSequence
    kept = {item.ConceptNameCodeSequence[0].CodeValue: item for item in group.ContentSequence}
    assert set(kept) == {"121071", "121008", "121206", "111060", "112039", "121080"}  # no subject's name, no age
    assert kept["121071"].TextValue == "liver lesion"
    assert kept["121008"].PersonName == "ANONYMOUS"
    assert kept["121206"].MeasuredValueSequence[0].NumericValue == 12.5
    assert kept["111060"].Date == "20231121"
    assert kept["112039"].UID == KEYS.uid(ct.SeriesInstanceUID)
    assert kept["121080"].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == KEYS.uid(ct.SOPInstanceUID)
    (group,) = one(report, "clean_structured", "retain_patient").ContentSequence
    assert "121033" in [item.ConceptNameCodeSequence[0].CodeValue for item in group.ContentSequence]


def test_reports_keep_an_empty_procedure_step_and_images_none(report: Dataset, ct: Dataset) -> None:
    for dataset in (report, ct):
        dataset.ReferencedPerformedProcedureStepSequence = [Dataset()]
    assert len(one(report).ReferencedPerformedProcedureStepSequence) == 0
    assert "ReferencedPerformedProcedureStepSequence" not in one(ct)


# pixels


@pytest.mark.parametrize(
    "more",
    [
        {"BurnedInAnnotation": "YES"},
        {"Modality": "US"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
    ],
)
def test_text_may_be_burnt_in(tmp_path: Path, more: dict[str, Any]) -> None:
    ct_series(tmp_path / "in", planes=2, **more)
    with pytest.raises(DatasetError) as raised:
        run(tmp_path / "in", tmp_path / "out")
    assert len(raised.value.faults) == 2
    assert not (tmp_path / "out").exists()
    report = run(tmp_path / "in", tmp_path / "out", accept_burned_in=True)
    assert "accepted as they are" in report.notices[0]


@pytest.mark.parametrize("syntax", [None, JPEGLSLossless])
def test_declared_rectangles_are_blanked(tmp_path: Path, syntax: str | None) -> None:
    ct_series(tmp_path / "in", planes=1, BurnedInAnnotation="YES", PixelRepresentation=0)
    path = tmp_path / "in" / "0.dcm"
    original = pydicom.dcmread(path)
    before = original.pixel_array.copy()
    if syntax:
        pytest.importorskip("jpeg_ls", reason="no JPEG-LS encoder")
        original.compress(syntax, generate_instance_uid=False)
        original.save_as(path)
    with pytest.raises(DatasetError, match="faults") as raised:
        run(tmp_path / "in", tmp_path / "out", rectangles=chosen_rectangles(["0,0,50,2"]))
    assert "beyond" in raised.value.faults[0]
    run(tmp_path / "in", tmp_path / "out", rectangles=chosen_rectangles(["1,0,3,2"]))
    made = objects(tmp_path / "out")[0]
    before[0:2, 1:4] = 0
    assert np.array_equal(made.pixel_array, before)
    assert made.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in made.DeidentificationMethodCodeSequence]


def test_faces_and_undated_pet_are_told(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=2, BodyPartExamined="HEAD")
    ct_series(tmp_path / "in" / "pet", planes=1, Modality="PT")
    notices = run(tmp_path / "in", tmp_path / "out").notices
    assert "2 images may show a head" in notices[0]
    assert "PET" in notices[1]
    assert run(tmp_path / "in", tmp_path / "moved", "modified_dates").notices == notices[:1]


def test_a_rectangle_is_four_numbers() -> None:
    for text in ("1,2,3", "a,b,c,d", "0,0,0,5", "-1,0,4,4"):
        with pytest.raises(UsageError, match="X,Y,WIDTH,HEIGHT"):
            chosen_rectangles([text])


def test_a_name_in_a_comment_of_compressed_pixels_is_found(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(ct_series(tmp_path / "in", planes=1) / "0.dcm")
    frame = b"\xff\xd8\xff\xfe\x00\x0a" + SURNAME.encode() + bytes(3)
    dataset.PixelData = pydicom.encaps.encapsulate([frame])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    save(dataset, tmp_path / "in" / "0.dcm")
    with pytest.raises(SomeCasesFailed) as raised:
        run(tmp_path / "in", tmp_path / "out")
    assert "compressed" in raised.value.failures[0]


# folders


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_key_gives_the_same_bytes(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "a")
    run(tmp_path / "in", tmp_path / "b", key=tmp_path / "a-secrets" / "key.hex")
    run(tmp_path / "in", tmp_path / "c")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert not set(tree(tmp_path / "a")) & set(tree(tmp_path / "c")) - {"deidentification.json"}


def test_what_is_done_twice_is_done_once(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "a")
    key = tmp_path / "a-secrets" / "key.hex"
    (tmp_path / "names.csv").write_text("patient_id,pseudonym\n" + f"{objects(tmp_path / 'a')[0].PatientID},again\n")
    run(tmp_path / "a", tmp_path / "b", "retain_uids", key=key, pseudonyms=tmp_path / "names.csv")
    for first, second in zip(objects(tmp_path / "a"), objects(tmp_path / "b"), strict=True):
        differing = {e.keyword for e in first if second.get(e.tag) != e}
        dummies = {"InstitutionName", "StationName"}  # a dummy of a dummy is another one
        assert differing == {"PatientName", "PatientID", "DeidentificationMethodCodeSequence", *dummies}


def test_secrets_lie_apart_and_are_the_owners(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    secrets = tmp_path / "out-secrets"
    assert {p.name: p.stat().st_mode & 0o777 for p in secrets.iterdir()} == dict.fromkeys(
        ("key.hex", "mapping.csv", "done.jsonl"), 0o600
    )
    assert secrets.stat().st_mode & 0o777 == 0o700
    mapping = (secrets / "mapping.csv").read_text()
    made = objects(tmp_path / "out")[0]
    assert f'patient,"{PATIENT}","{made.PatientID}"' in mapping
    assert str(made.SOPInstanceUID) in mapping
    with pytest.raises(UsageError, match="secrets"):
        run(tmp_path / "in", tmp_path / "new", secrets=tmp_path / "new" / "s")


def test_a_forgotten_key_is_nowhere(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out", forget_key=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]
    assert len(objects(tmp_path / "out")) == 4
    with pytest.raises(UsageError, match="something already"):
        run(tmp_path / "in", tmp_path / "out", forget_key=True)


def test_pseudonyms_from_a_table(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    table = tmp_path / "names.csv"
    table.write_text("patient_id,pseudonym\nsomebody,S1\n")
    with pytest.raises(DatasetError) as raised:
        run(tmp_path / "in", tmp_path / "out", pseudonyms=table)
    assert len(raised.value.faults) == 4
    assert PATIENT not in raised.value.diagnostics()
    table.write_text(f"patient_id,pseudonym\n{PATIENT},S1\n")
    run(tmp_path / "in", tmp_path / "out", pseudonyms=table)
    assert {str(d.PatientName) for d in objects(tmp_path / "out")} == {"S1"}


def test_all_faults_at_once_and_nothing_written(tmp_path: Path) -> None:
    folder = ct_series(tmp_path / "in")
    (folder / "readme.txt").write_text(CANARY)
    (folder / "cut.dcm").write_bytes((folder / "0.dcm").read_bytes()[:700])
    shutil.copy(folder / "1.dcm", folder / "copy.dcm")
    other = pydicom.dcmread(folder / "2.dcm")
    other.SliceThickness = 9
    other.save_as(folder / "changed.dcm")
    document = pydicom.dcmread(folder / "3.dcm")
    document.SOPClassUID = document.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"
    document.SOPInstanceUID = "1.2.3.4"
    document.save_as(folder / "document.dcm")
    with pytest.raises(DatasetError) as raised:
        run(folder, tmp_path / "out")
    told = "\n".join(raised.value.faults)
    assert "changed.dcm: another object" in told
    assert "document.dcm: documents" in told
    assert not (tmp_path / "out").exists()
    for name in ("changed.dcm", "document.dcm", "cut.dcm"):
        (folder / name).unlink()
    report = run(folder, tmp_path / "out")
    assert report.left_out == {"no DICOM file": 1, "second copy": 1}
    assert CANARY not in (tmp_path / "out" / "deidentification.json").read_text()


class _After(Silent):
    """Asks for a stop after some steps of the writing."""

    def __init__(self, cancellation: Cancellation, steps: int) -> None:
        self.cancellation, self.left, self.writing = cancellation, steps, False

    def start(self, what: str, total: int | None) -> None:
        self.writing = what == "objects"

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= steps * self.writing
        if self.left == 0:
            self.cancellation.request()


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    ct_series(tmp_path / "in")
    request = DeidentificationRequest(source=tmp_path / "in", out=tmp_path / "out")
    cancellation = Cancellation()
    with pytest.raises(Interrupted):
        deidentify_folder(request, progress=_After(cancellation, 2), cancellation=cancellation)
    first = objects(tmp_path / "out")
    assert len(first) == 2
    leftover = next((tmp_path / "out").rglob("*.dcm")).with_name(".partial-1234-killed.dcm")
    leftover.touch()
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report.written, report.already_there) == (2, 2)
    assert not leftover.exists()
    found = json.loads((tmp_path / "out" / "deidentification.json").read_text())
    assert {"tag": "(0010,0010)", "done": "pseudonym", "count": 4} in found["actions"]
    whole = tree(tmp_path / "out")
    run(tmp_path / "in", tmp_path / "fresh", key=tmp_path / "out-secrets" / "key.hex")
    assert tree(tmp_path / "fresh") == whole
    with pytest.raises(UsageError, match="other options"):
        run(tmp_path / "in", tmp_path / "out", "full_dates")
    damaged = next(iter((tmp_path / "out").rglob("*.dcm")))
    damaged.write_bytes(b"")
    assert run(tmp_path / "in", tmp_path / "out").written == 1
    assert tree(tmp_path / "out") == whole


def test_originals_are_never_written_to(tmp_path: Path) -> None:
    folder = ct_series(tmp_path / "in")
    before = tree(folder)
    for out in (folder, folder / "out", tmp_path):
        with pytest.raises(UsageError):
            run(folder, out)
    run(folder, tmp_path / "out")
    assert tree(folder) == before


def test_a_key_is_64_hexadecimal_digits(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "k")
    assert make_keys(tmp_path / "k") == made
    for text in ("xyz", "ab" * 31, ""):
        (tmp_path / "k").write_text(text)
        with pytest.raises(InputError, match="64 hexadecimal digits"):
            make_keys(tmp_path / "k")


@pytest.mark.parametrize("pseudonym", ["..", "a/b", "", "x" * 65, "A^B"])
def test_a_pseudonym_is_no_path(tmp_path: Path, pseudonym: str) -> None:
    table = tmp_path / "names.csv"
    table.write_text(f"patient_id,pseudonym\n{PATIENT},{pseudonym}\n")
    with pytest.raises(DatasetError, match="1 rows"):
        read_pseudonyms(table)


def test_a_retained_uid_is_no_path(tmp_path: Path) -> None:
    ct_series(tmp_path / "in", planes=1)
    dataset = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    with pydicom.config.disable_value_validation():
        dataset.SeriesInstanceUID = "../../../away"
        dataset.save_as(tmp_path / "in" / "0.dcm")
    run(tmp_path / "in", tmp_path / "out", "retain_uids")
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "out-secrets"]


def test_tables_tell_all_faults(tmp_path: Path) -> None:
    table = tmp_path / "safe.csv"
    table.write_text("creator,group,element\n,0019,xx01\nA,0018,xx01\nA,0019,yy\nA,7053,xx00\n")
    with pytest.raises(DatasetError) as raised:
        read_safe_private(table)
    assert [fault.split(":")[0] for fault in raised.value.faults] == ["line 2", "line 3", "line 4"]
    table.write_text("creator,group\n")
    with pytest.raises(InputError, match="missing element"):
        read_safe_private(table)
    with pytest.raises(InputError, match="cannot be read"):
        read_pseudonyms(tmp_path / "none.csv")


# real studies


STUDIES = (
    "sts_raw_001/MR_T2",
    "dcmqi/segmentations/24x38x3",
    "dcmqi/sr-example",
    "rt_utils/oriented_data",
    "highdicom",
)


@pytest.mark.data
@pytest.mark.skipif(not REAL.exists(), reason="DELINEATE_DATA is not set, or has no folder dicom")
@pytest.mark.parametrize("study", STUDIES)
def test_real_studies(tmp_path: Path, study: str) -> None:
    source = tmp_path / "in"
    # the control of highdicom's slide is another object of the same UID
    shutil.copytree(REAL / study, source, ignore=shutil.ignore_patterns("sm_image_control.dcm"))
    originals = [
        pydicom.dcmread(path) for path in sorted(source.rglob("*")) if path.is_file() and pydicom.misc.is_dicom(path)
    ]
    run(source, tmp_path / "out", "clean_structured")
    made = objects(tmp_path / "out")
    assert len(made) == len({str(d.SOPInstanceUID) for d in originals})
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm"))
    told = {str(d.get(name) or "") for d in originals for name in ("PatientID", "PatientName", "StudyDate")}
    told |= {str(d.get(name) or "") for d in originals for name in ("SOPInstanceUID", "StudyInstanceUID")}
    assert [text for text in told if len(text) > 7 and text.encode() in content] == []
    padded = [d.PixelData + b"\0" * (len(d.PixelData) % 2) for d in originals if "PixelData" in d]
    assert Counter(d.PixelData for d in made if "PixelData" in d) == Counter(padded)


@pytest.mark.data
@pytest.mark.skipif(not REAL.exists(), reason="DELINEATE_DATA is not set, or has no folder dicom")
def test_a_real_structure_set_reads_as_before(tmp_path: Path) -> None:
    source = REAL / "sts_raw_001" / "MR_T2"
    run(source, tmp_path / "out")
    before, after = read_dicom(source / "image"), read_dicom(tmp_path / "out")
    assert np.array_equal(before.image.array, after.image.array)
    drawn = [p for p in (tmp_path / "out").rglob("*.dcm") if pydicom.dcmread(p).Modality == "RTSTRUCT"]
    original = read_rtstruct(next((source / "mask").glob("*.dcm")), before.source)
    made = read_rtstruct(drawn[0], after.source)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(original.structures, made.structures, strict=True))
    assert all(structure.mask.any() for structure in made.structures)


# the door


def test_the_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ct_series(tmp_path / "in", planes=2)
    out = str(tmp_path / "out")
    assert main(["dicom", "deidentify", str(folder), "-o", out, "--modified-dates", "--clean-descriptors"]) == 0
    told = capsys.readouterr().out
    assert "2 objects of 1 patients" in told
    assert "2 CT" in told
    assert main(["dicom", "deidentify", str(folder), "-o", out, "--modified-dates", "--clean-descriptors"]) == 0
    assert "2 of them were there already" in capsys.readouterr().out
    assert main(["dicom", "deidentify", str(folder), "-o", out]) == 2
    assert main(["dicom", "deidentify", str(folder), "-o", out + "2", "--blank", "no"]) == 2
    ct_series(folder / "us", planes=1, Modality="US")
    assert main(["dicom", "deidentify", str(folder), "-o", out + "3"]) == 3
    said = capsys.readouterr()
    assert "commonly carry text" in said.err
    assert not any(name in said.out + said.err for name in (SURNAME, FORENAME, PATIENT))
    assert main(["dicom", "deidentify", str(folder), "-o", out + "3", "--blank", "0,0,11,2", "--forget-key"]) == 0
    assert "declared rectangles" in capsys.readouterr().out


def test_single_failures_are_told_and_the_rest_is_written(tmp_path: Path) -> None:
    folder = ct_series(tmp_path / "in")
    content = (folder / "2.dcm").read_bytes()
    (folder / "2.dcm").write_bytes(content[:-50])  # cut within the pixels, which the first look does not read
    with pytest.raises(SomeCasesFailed, match="1 of 4") as raised:
        run(folder, tmp_path / "out")
    assert "2.dcm" in raised.value.failures[0]
    assert len(objects(tmp_path / "out")) == 3
    with pytest.raises(SomeCasesFailed, match="so none was"):
        run(folder, tmp_path / "forgotten", forget_key=True)
    assert not (tmp_path / "forgotten").exists()
