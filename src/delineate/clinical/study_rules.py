"""What a study's protocol allows next: more cases, another look at the results, an outcome.

Pure functions of the locked protocol and of what happened; the module knows no files and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from delineate.clinical.protocol import Arm, Protocol, cases_needed, cases_to_enrol
from delineate.clinical.study_events import StudyState
from delineate.errors import ProtocolError


def next_look_at(protocol: Protocol, state: StudyState) -> int | None:
    """Return the evaluable cases at which the next look is due; None after the last planned one."""
    look = len(state.looks) + 1
    planned = protocol.stopping.looks
    return None if look > planned else math.ceil(look * cases_needed(protocol) / planned)


def stop_reason(protocol: Protocol, state: StudyState) -> str:
    """Return why the study must take no more cases whatever the results are; empty if it need not stop."""
    limit = protocol.stopping.serious_adverse_events
    if limit is not None and state.serious_adverse_events >= limit:
        return f"{state.serious_adverse_events} serious adverse event(s), the bound is {limit}"
    return ""


def require_room(protocol: Protocol, state: StudyState, *, sentinel: bool) -> None:
    """Check that the study takes another case.

    Raises
    ------
    ProtocolError
        If the planned number is enrolled; sentinels are not counted.
    """
    if sentinel:
        return
    enrolled = sum(not e.sentinel for e in state.enrolled.values())
    if enrolled - len(state.excluded) >= cases_to_enrol(protocol):
        raise ProtocolError(f"The planned {cases_to_enrol(protocol)} cases are enrolled; close and analyse the study.")


def require_arm(
    protocol: Protocol, state: StudyState, case_id: str, arm: Arm, reader: str, edit: Mapping[str, Any] | None
) -> None:
    """Check that an outcome fits the protocol: case, arm, reader, and a draft where the arm has one.

    Raises
    ------
    ProtocolError
        If it does not; names all faults.
    """
    faults: list[str] = []
    if case_id not in state.enrolled:
        faults.append(f"case {case_id} is not enrolled")
    elif arm not in state.enrolled[case_id].arms:
        faults.append(f"case {case_id} was allocated to {', '.join(state.enrolled[case_id].arms)}, not to {arm}")
    if reader not in protocol.readers:
        faults.append(f"'{reader}' is no reader of the protocol; it has {', '.join(protocol.readers)}")
    if (arm == "manual") != (edit is None):
        faults.append("the manual arm has no draft" if arm == "manual" else f"the {arm} arm needs a draft")
    if faults:
        raise ProtocolError("The outcome does not fit the protocol.", faults)
