"""Codes: known names in many spellings, and never a wrong organ for an unknown one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr._concepts_dict import concepts
from pydicom.uid import UID

from delineate.case import LabelScheme, Structure
from delineate.clinical.coding import Code, CodedStructure, Coding, code_structures
from delineate.clinical.common_structures import COMMON_STRUCTURES, TARGETS
from delineate.planning.anatomy import structure_facts


def coded(*names: str, **more: object) -> Coding:
    return code_structures(LabelScheme.simple(*names).structures, series_uid="1.2.3", **more)  # type: ignore[arg-type]


def one(name: str) -> CodedStructure:
    return coded(name).structures[0]


@pytest.mark.parametrize(
    ("name", "code", "label", "side", "interpreted"),
    [
        ("liver", "10200004", "Liver", None, "ORGAN"),
        ("Kidney_L", "64033007", "Kidney_L", "Left", "ORGAN"),
        ("left kidney", "64033007", "Kidney_L", "Left", "ORGAN"),
        ("kidney_right", "64033007", "Kidney_R", "Right", "ORGAN"),
        ("kidney", "64033007", "kidney", None, "ORGAN"),
        ("SpinalCord", "2748008", "SpinalCord", None, "ORGAN"),
        ("spinal cord", "2748008", "SpinalCord", None, "ORGAN"),
        ("parotid_r", "45289007", "Parotid_R", "Right", "ORGAN"),
        ("GTV_Mass", "108369006", "GTV_Mass", None, "GTV"),
        ("PTVn_5400", "228793007", "PTVn_5400", None, "PTV"),
        ("ctv", "228792002", "ctv", None, "CTV"),
        ("tumour", "108369006", "tumour", None, "GTV"),
        ("liver_tumor", "108369006", "liver_tumor", None, "GTV"),
        ("lesion", "52988006", "lesion", None, ""),
        ("body", "38266002", "External", None, "EXTERNAL"),
        ("spinal_cord_grey_matter", "12958003", "spinal_cord_grey", None, "ORGAN"),
        ("hippocampus_l", "5366008", "Hippocampus_L", "Left", "ORGAN"),
        ("left_atrium", "82471001", "Atrium_L", None, "ORGAN"),
    ],
)
def test_known_names(name: str, code: str, label: str, side: str | None, interpreted: str) -> None:
    found = one(name)
    assert (found.type.value, found.label, found.interpreted_type) == (code, label, interpreted)
    assert (found.laterality.meaning if found.laterality else None) == side
    assert found.type.scheme == "SCT"


@pytest.mark.parametrize(
    "name", ["Anterior", "foo", "gtvision", "ventricle_left_thing", "vertebrae_L6", "1", "label 3"]
)
def test_unknown_names_are_tissue_with_a_notice(name: str) -> None:
    found = coded(name)
    assert found.structures[0].type == Code(value="85756007", scheme="SCT", meaning="Tissue")
    assert found.structures[0].category.meaning == "Tissue"
    assert name in found.notices[0]


def test_a_part_is_told_to_be_a_part() -> None:
    assert "part" in coded("hippocampus_anterior").notices[0]


@settings(max_examples=200, deadline=None)
@given(name=st.text(min_size=1, max_size=40))
def test_any_name_gets_a_label_that_dicom_takes(name: str) -> None:
    found = one(name)
    assert len(found.label) <= 16
    assert "\\" not in found.label
    assert UID(found.tracking_uid).is_valid
    assert len(found.tracking_id) <= 64


def test_every_structure_of_the_anatomy_keeps_its_own_code_and_side() -> None:
    facts = structure_facts()
    found = coded(*facts).structures
    assert len({s.label.lower() for s in found}) == len(found)
    for structure in found:
        row = facts[structure.name]
        if row.kind is not None:
            assert structure.type.value == row.kind.value
            assert (structure.laterality.meaning.lower() if structure.laterality else "") == row.side


def test_codes_are_those_of_the_standard() -> None:
    """Value and meaning of every own code stand in pydicom's copy of PS3.16."""
    known = {value: meaning for entry in concepts["SCT"].values() for value, (meaning, _) in entry.items()}
    for name, common in (*COMMON_STRUCTURES.items(), *TARGETS.items()):
        value, meaning = common.type
        meanings = {m.split(" (")[0].lower() for e in concepts["SCT"].values() for v, (m, _) in e.items() if v == value}
        assert value in known, name
        assert any(meaning.lower() in m or m in meaning.lower() for m in meanings), (name, meanings)
        assert len(common.tg263) <= 16


def test_identities_are_stable_and_may_be_keyed() -> None:
    assert one("liver").tracking_uid == one("liver").tracking_uid
    uids = {one("liver").tracking_uid, one("spleen").tracking_uid, coded("liver", key=b"k").structures[0].tracking_uid}
    uids.add(code_structures([Structure(name="liver", values=(1,))], series_uid="9").structures[0].tracking_uid)
    assert len(uids) == 4


def test_a_tumour_is_no_place() -> None:
    assert one("tumour").site is None
    assert one("PTV").site is None
    found = one("liver_tumor").site
    assert found is not None
    assert found.meaning == "Liver"
    assert one("liver").site == one("liver").type


def test_background_is_no_structure() -> None:
    found = code_structures([Structure(name="all", values=(0, 1, 2)), Structure(name="b", values=(0,))], series_uid="1")
    assert [s.values for s in found.structures] == [(1, 2)]
