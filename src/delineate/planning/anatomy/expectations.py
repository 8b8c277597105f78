"""What the human body looks like, as far as it can be checked on label maps of an anatomy task.

Pairs that lie left and right, chains that are stacked from the pelvis to the head, organs that are one piece, and the
confusions for which the published models are known (TotalSegmentator, notes on class details: a thirteenth rib carries
the label of the twelfth; colon and small bowel are exchanged in places; a vertebra is split between two numbers).
Values only; ``metrics.plausibility`` compares label maps with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from delineate.metrics.plausibility import Chain, Expectations, Neighbours, Pair
from delineate.planning.anatomy.structures import facts_of

LUMBAR = tuple(f"vertebrae_L{n}" for n in range(6, 0, -1))
THORACIC = tuple(f"vertebrae_T{n}" for n in range(12, 0, -1))
CERVICAL = tuple(f"vertebrae_C{n}" for n in range(7, 0, -1))
SPINE = ("sacrum", "vertebrae_S1", *LUMBAR, *THORACIC, *CERVICAL)
"""From the pelvis to the head; a sixth lumbar vertebra is present in few people."""
OPTIONAL_LEVELS = frozenset({"sacrum", "vertebrae_S1", "vertebrae_L6"})
"""Levels that do not leave a gap when they are missing."""
WHOLE = (
    "spleen", "kidney_left", "kidney_right", "gallbladder", "liver", "stomach", "pancreas", "urinary_bladder",
    "prostate", "heart", "aorta", "trachea", "brain", "skull", "sacrum", "femur_left", "femur_right", "hip_left",
    "hip_right", "humerus_left", "humerus_right", "scapula_left", "scapula_right", "lung_left", "lung_right",
    "lung_upper_lobe_left", "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)  # fmt: skip
"""Structures that are one connected piece in nearly everybody."""
SITUS = (("spleen", "liver"), ("stomach", "gallbladder"), ("aorta", "inferior_vena_cava"))
"""Unpaired structures, the one on the left first (absent in situs inversus)."""
LAST_RIBS = ("rib_left_12", "rib_right_12")


def expectations(classes: Sequence[str]) -> Expectations:
    """Return what is expected of the structures with these names."""
    present = set(classes)
    spine = tuple(name for name in SPINE if name in present)
    ribs = tuple(_ribs(side, present) for side in ("left", "right"))
    chains = (
        Chain(name="spine", structures=spine, optional=OPTIONAL_LEVELS),
        *(
            Chain(name=f"{side} ribs", structures=names, whole_only=True)
            for side, names in zip(("left", "right"), ribs, strict=True)
        ),
    )
    bowel = ("colon", "small_bowel")
    return Expectations(
        pairs=(*_sides(classes), *(Pair(left=a, right=b) for a, b in SITUS if {a, b} <= present)),
        chains=tuple(chain for chain in chains if len(chain.structures) > 1),
        whole=tuple(name for name in WHOLE if name in present),
        once=tuple(name for name in LAST_RIBS if name in present),
        levels=tuple(Neighbours(first=a, second=b) for a, b in pairwise(spine)),
        exchanged=(Neighbours(first=bowel[0], second=bowel[1]),) if set(bowel) <= present else (),
    )


def _sides(classes: Sequence[str]) -> tuple[Pair, ...]:
    present = set(classes)
    partners = {name: name.replace("left", "right") for name in classes if facts_of(name).side == "left"}
    return tuple(Pair(left=a, right=b) for a, b in partners.items() if b != a and b in present)


def _ribs(side: str, present: set[str]) -> tuple[str, ...]:
    return tuple(name for name in (f"rib_{side}_{n}" for n in range(12, 0, -1)) if name in present)
