"""What the training of a fold knew of a case that it predicts: its site, its patient, or neither.

"Known site" and "unseen site" are claims about a split; here they are looked up in it, case by case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

Standing = Literal["unseen", "known", "own patient", "unclear"]
"""``unseen``: no training case is of the case's group; ``known``: training cases of other patients are; ``own
patient``: the patient, or the very case, was trained on; ``unclear``: nobody recorded the case's group."""


def standing_of(
    case_id: str, train: Sequence[str], group_of: Mapping[str, str], patient_of: Mapping[str, str]
) -> Standing:
    """Say what a training knew of a case.

    Parameters
    ----------
    case_id
        The predicted case.
    train
        Case ids that were trained on.
    group_of
        Group (site) per case id; cases without one are not in it.
    patient_of
        Patient per case id; a case that is not named is its own patient.
    """
    patient = patient_of.get(case_id, case_id)
    if any(patient_of.get(other, other) == patient for other in train):
        return "own patient"
    if case_id not in group_of:
        return "unclear"
    return "known" if any(group_of.get(other) == group_of[case_id] for other in train) else "unseen"
