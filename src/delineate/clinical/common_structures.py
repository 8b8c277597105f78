"""Codes of structures that people name in many ways: tumours, targets, parts of the brain and the cord, organs at risk.

SNOMED CT codes are those of DICOM PS3.16 (CID 7151 and what it includes); TG-263 names are those of Mayo et al. 2018.
A structure that is not here and not in the table of anatomy gets a generic code, never a similar organ's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CommonStructure:
    """What is known of one structure."""

    type: tuple[str, str]
    """SNOMED CT value and meaning."""
    abnormal: bool = False
    """Whether it is a morphologically abnormal structure rather than anatomy."""
    tg263: str = ""
    interpreted_type: str = "ORGAN"
    """RT ROI Interpreted Type (DICOM PS3.3 C.8.8.8.1)."""
    part_of_type: bool = False
    """Whether it is only a part of what the code means, because the part has no code of its own."""
    concept: bool = False
    """Whether it is drawn for treatment and no anatomy at all: a target volume with margins."""


def _organ(value: str, meaning: str, tg263: str = "", *, part: bool = False) -> CommonStructure:
    return CommonStructure(type=(value, meaning), tg263=tg263, part_of_type=part)


def _finding(value: str, meaning: str, *, target: bool = False) -> CommonStructure:
    return CommonStructure(type=(value, meaning), abnormal=True, interpreted_type="GTV" if target else "")


_NEOPLASM = _finding("108369006", "Neoplasm", target=True)
_PRIMARY = _finding("372087000", "Neoplasm, Primary", target=True)
_SECONDARY = _finding("14799000", "Neoplasm, Secondary", target=True)
_PART_OF_HIPPOCAMPUS = _organ("5366008", "Hippocampus", part=True)
_CORD = _organ("2748008", "Spinal cord", "SpinalCord")
_CORD_GREY = _organ("12958003", "Spinal cord gray matter")
_CORD_WHITE = _organ("27088001", "Spinal cord white matter")
_BODY = CommonStructure(type=("38266002", "Entire body"), tg263="External", interpreted_type="EXTERNAL")

COMMON_STRUCTURES: Mapping[str, CommonStructure] = {
    "tumour": _NEOPLASM,
    "tumor": _NEOPLASM,
    "neoplasm": _NEOPLASM,
    "gross_tumour": _NEOPLASM,
    "gross_tumor": _NEOPLASM,
    "whole_tumour": _NEOPLASM,
    "whole_tumor": _NEOPLASM,
    "tumour_core": _NEOPLASM,
    "tumor_core": _NEOPLASM,
    "enhancing_tumour": _NEOPLASM,
    "enhancing_tumor": _NEOPLASM,
    "primary_tumour": _PRIMARY,
    "primary_tumor": _PRIMARY,
    "metastasis": _SECONDARY,
    "metastases": _SECONDARY,
    "lesion": _finding("52988006", "Lesion"),
    "lesions": _finding("52988006", "Lesion"),
    "mass": _finding("4147007", "Mass"),
    "nodule": _finding("27925004", "Nodule"),
    "nodules": _finding("27925004", "Nodule"),
    "oedema": _finding("79654002", "Edema"),
    "edema": _finding("79654002", "Edema"),
    "necrosis": _finding("6574001", "Necrosis"),
    "haemorrhage": _finding("50960005", "Hemorrhage"),
    "hemorrhage": _finding("50960005", "Hemorrhage"),
    "cyst": _finding("367643001", "Cyst"),
    "hippocampus": _organ("5366008", "Hippocampus", "Hippocampus"),
    "hippocampus_anterior": _PART_OF_HIPPOCAMPUS,
    "hippocampus_posterior": _PART_OF_HIPPOCAMPUS,
    "anterior_hippocampus": _PART_OF_HIPPOCAMPUS,
    "posterior_hippocampus": _PART_OF_HIPPOCAMPUS,
    "hippocampus_head": _PART_OF_HIPPOCAMPUS,
    "hippocampus_body": _PART_OF_HIPPOCAMPUS,
    "hippocampus_tail": _PART_OF_HIPPOCAMPUS,
    "amygdala": _organ("4958002", "Amygdala"),
    "grey_matter": _organ("389081007", "Gray Matter"),
    "gray_matter": _organ("389081007", "Gray Matter"),
    "white_matter": _organ("389080008", "White Matter"),
    "cord": _CORD,
    "spine_cord": _CORD,
    "spinal_cord_grey_matter": _CORD_GREY,
    "spinal_cord_gray_matter": _CORD_GREY,
    "cord_grey_matter": _CORD_GREY,
    "cord_gray_matter": _CORD_GREY,
    "spinal_cord_white_matter": _CORD_WHITE,
    "cord_white_matter": _CORD_WHITE,
    "brainstem": _organ("119238007", "Brain Stem", "Brainstem"),
    "brain_stem": _organ("119238007", "Brain Stem", "Brainstem"),
    "cerebellum": _organ("113305005", "Cerebellum", "Cerebellum"),
    "thalamus": _organ("42695009", "Thalamus"),
    "putamen": _organ("89278009", "Putamen"),
    "caudate_nucleus": _organ("11000004", "Caudate Nucleus"),
    "third_ventricle": _organ("49841001", "Third ventricle"),
    "fourth_ventricle": _organ("35918002", "Fourth Ventricle"),
    "optic_chiasm": _organ("244453006", "Optic chiasm", "OpticChiasm"),
    "chiasm": _organ("244453006", "Optic chiasm", "OpticChiasm"),
    "optic_tract": _organ("53238003", "Optic tract"),
    "pituitary": _organ("56329008", "Pituitary", "Pituitary"),
    "mandible": _organ("91609006", "Mandible", "Bone_Mandible"),
    "larynx": _organ("4596009", "Larynx", "Larynx"),
    "oesophagus": _organ("32849002", "Esophagus", "Esophagus"),
    "rectum": _organ("34402009", "Rectum", "Rectum"),
    "bladder": _organ("89837001", "Urinary bladder", "Bladder"),
    "seminal_vesicle": _organ("64739004", "Seminal Vesicle", "SeminalVes"),
    "seminal_vesicles": _organ("64739004", "Seminal Vesicle", "SeminalVes"),
    "uterus": _organ("35039007", "Uterus", "Uterus"),
    "ovary": _organ("15497006", "Ovary", "Ovary"),
    "lymph_node": _organ("59441001", "Lymph Node"),
    "lymph_nodes": _organ("59441001", "Lymph Node"),
    "left_atrium": _organ("82471001", "Left atrium", "Atrium_L"),
    "right_atrium": _organ("73829009", "Right atrium", "Atrium_R"),
    "lung_nodule": _finding("27925004", "Nodule"),
    "lung_nodules": _finding("27925004", "Nodule"),
    "liver_lesions": _finding("52988006", "Lesion"),
    "liver_lesion": _finding("52988006", "Lesion"),
    "body": _BODY,
    "external": _BODY,
}
"""By name in lower case, words joined by underscores."""

TARGETS: Mapping[str, CommonStructure] = {
    "gtv": _NEOPLASM,
    "ctv": CommonStructure(type=("228792002", "Clinical target volume"), concept=True, interpreted_type="CTV"),
    "ptv": CommonStructure(type=("228793007", "Planning target volume"), concept=True, interpreted_type="PTV"),
}
"""By the first three letters of a name that is otherwise free: ``GTV_Mass``, ``PTVn_5400``."""
