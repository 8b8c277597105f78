"""The protocol of a prospective study: what is compared, how many cases, who gets what, and when to stop.

A person writes it as JSON; it is read strictly, all faults at once, and frozen by its SHA-256 before the first case.
The module knows the protocol; it does not know what happened in the study.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from delineate.clinical.edits import EditThresholds
from delineate.clinical.json_fields import Fields
from delineate.errors import InputError, ProtocolError
from delineate.metrics.group_sequential import Boundary, inflation, obrien_fleming
from delineate.metrics.sample_size import (
    cases_for_mean,
    cases_for_proportion,
    cases_per_arm_for_means,
    cases_per_arm_for_proportions,
    pairs_for_difference,
    with_dropout,
)

FORMAT = "delineate study protocol 1"
Arm = Literal["manual", "assisted", "silent"]
ARMS: tuple[Arm, ...] = get_args(Arm)
"""Drawn by hand without a draft; corrected from a draft; drawn by hand while a hidden draft waits for comparison."""
Endpoint = Literal[
    "acceptance", "edit_dice", "surface_dice", "added_path_length_mm", "seconds", "seconds_saved", "accuracy_dice"
]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
Aim = Literal["interval", "difference", "non_inferiority"]
AIMS: tuple[Aim, ...] = get_args(Aim)
Method = Literal["single", "blocks", "paired"]
METHODS: tuple[Method, ...] = get_args(Method)
DRAFT_ENDPOINTS = frozenset({"acceptance", "edit_dice", "surface_dice", "added_path_length_mm"})
"""Need a draft, so the manual arm has none of them."""
COMPARABLE = frozenset({"seconds", "accuracy_dice"})
"""What every arm has, so that arms can be compared by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Primary:
    """The question that sizes the study."""

    endpoint: Endpoint
    aim: Aim
    arms: tuple[Arm, ...]
    """One for an interval; two for a difference, first minus second."""
    level: float
    half_width: float | None
    """Interval: wanted, to either side, in the endpoint's unit."""
    expected: float | None
    """Interval of a proportion: what is expected."""
    sd: float | None
    """Means: standard deviation between cases; of the differences where cases are paired."""
    difference: float | None
    """Difference to be found, in the endpoint's unit."""
    margin: float | None
    """Non-inferiority: how much worse the first arm may be; above 0."""
    power: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """Which arm a case gets."""

    method: Method
    """``single``: the one arm. ``blocks``: randomised in blocks, per site. ``paired``: every arm, in random order."""
    seed: int
    block_sizes: tuple[int, ...]
    """Drawn anew for every block; multiples of the number of arms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopping:
    """When the study ends."""

    looks: int
    """Planned analyses with equally many new cases each, the final one included; 1: a fixed size."""
    serious_adverse_events: int | None
    """So many stop the study; None: reported only."""
    futility_z: float | None
    """An interim Z of the primary comparison below it stops the study as futile (not binding); None: never."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """A study as it was planned."""

    title: str
    responsible: str
    """Who answers for the study; a role is enough."""
    arms: tuple[Arm, ...]
    structures: Mapping[str, int]
    """Name -> label value."""
    sites: tuple[str, ...]
    readers: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    primary: Primary
    dropout: float
    allocation: Allocation
    stopping: Stopping
    thresholds: EditThresholds
    tolerance_mm: float
    sentinels: Mapping[str, str]
    """Case id -> what is wrong with its draft, on purpose; readers do not know which they are."""
    questions: tuple[str, ...]
    """Answered from 1 (not at all) to 5 (fully)."""

    @property
    def paired(self) -> bool:
        """Whether every case is done in every arm."""
        return self.allocation.method == "paired"

    @property
    def boundary(self) -> Boundary:
        """What |Z| must reach at each look to stop early."""
        return obrien_fleming(self.stopping.looks, 1 - self.primary.level)


def read_protocol(text: str, name: str) -> Protocol:
    """Read a protocol.

    Parameters
    ----------
    text
        JSON.
    name
        Of the file, for messages.

    Raises
    ------
    ProtocolError
        With all faults at once.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"{name}: expected a protocol in JSON; it cannot be read ({error}).") from error
    if not isinstance(content, dict):
        raise ProtocolError(f"{name}: expected a JSON object {{...}}; found {type(content).__name__}.")
    fields = Fields(content=content, faults=[])
    protocol = _protocol(fields)
    fields.refuse_unknown()
    if not fields.faults:
        fields.faults += _contradictions(protocol)
    if fields.faults:
        raise ProtocolError(f"{name} has {len(fields.faults)} fault(s); correct the file.", fields.faults)
    return protocol


def digest_of(text: str) -> str:
    """Return the SHA-256 of a protocol's text, whatever its line ends."""
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()


def cases_needed(protocol: Protocol) -> int:
    """Return how many evaluable cases the primary question needs, over all arms that it compares.

    Cases that are done in every arm count once. Interim looks enlarge the number by the exact factor of the boundary.

    Raises
    ------
    InputError
        If the primary question's numbers are impossible.
    """
    primary = protocol.primary
    if primary.aim == "interval":
        half_width = primary.half_width or math.nan
        if primary.endpoint == "acceptance":
            return cases_for_proportion(primary.expected or 0.0, half_width, level=primary.level)
        return cases_for_mean(primary.sd or math.nan, half_width, level=primary.level)
    alpha, power = 1 - primary.level, primary.power or math.nan
    sought = (primary.difference or 0.0) + (primary.margin or 0.0)
    inferiority = primary.aim == "non_inferiority"
    # one-sided at half the level: the lower end of the two-sided interval
    level, sides = (alpha / 2, 1) if inferiority else (alpha, 2)
    factor = inflation(protocol.boundary, power)
    if protocol.paired or primary.endpoint == "seconds_saved":
        pairs = pairs_for_difference(sought, primary.sd or math.nan, power=power, alpha=level, sides=_sides(sides))
        return math.ceil(factor * pairs)
    if primary.endpoint == "acceptance":
        expected = primary.expected or 0.0
        per_arm = cases_per_arm_for_proportions(
            expected, expected - sought, power=power, alpha=level, sides=_sides(sides)
        )
    else:
        per_arm = cases_per_arm_for_means(sought, primary.sd or math.nan, power=power, alpha=level, sides=_sides(sides))
    return len(primary.arms) * math.ceil(factor * per_arm)


def cases_to_enrol(protocol: Protocol) -> int:
    """Return how many cases to enrol, so that enough are left after the expected dropouts.

    Raises
    ------
    InputError
        If the primary question's numbers are impossible.
    """
    return with_dropout(cases_needed(protocol), protocol.dropout)


def template() -> str:
    """Return a protocol to start from: assisted against manual contouring, editing time, paired."""
    return json.dumps(_TEMPLATE, indent=2) + "\n"


def _sides(count: int) -> Literal[1, 2]:
    return 1 if count == 1 else 2


def _protocol(fields: Fields) -> Protocol:
    fields.constant("format", FORMAT)
    return Protocol(
        title=fields.text("title"),
        responsible=fields.text("responsible"),
        arms=fields.words("arms", ARMS),
        structures=fields.labels("structures"),
        sites=fields.texts("sites", least=1),
        readers=fields.texts("readers", least=1),
        endpoints=fields.words("endpoints", ENDPOINTS),
        primary=_primary(fields.part("primary")),
        dropout=fields.number("dropout", low=0, below=1, default=0.0),
        allocation=_allocation(fields.part("allocation")),
        stopping=_stopping(fields.part("stopping")),
        thresholds=_thresholds(fields.part("edit_thresholds", optional=True)),
        tolerance_mm=fields.number("tolerance_mm", low=0),
        sentinels=fields.sayings("sentinels"),
        questions=fields.texts("questions", least=0),
    )


def _primary(fields: Fields) -> Primary:
    found = Primary(
        endpoint=fields.word("endpoint", ENDPOINTS),
        aim=fields.word("aim", AIMS),
        arms=fields.words("arms", ARMS),
        level=fields.number("level", above=0.5, below=1, default=0.95),
        half_width=fields.optional_number("half_width", above=0),
        expected=fields.optional_number("expected", low=0, high=1),
        sd=fields.optional_number("sd", above=0),
        difference=fields.optional_number("difference"),
        margin=fields.optional_number("margin", above=0),
        power=fields.optional_number("power", above=0.5, below=1),
    )
    fields.refuse_unknown()
    return found


def _allocation(fields: Fields) -> Allocation:
    found = Allocation(
        method=fields.word("method", METHODS),
        seed=fields.integer("seed", low=0),
        block_sizes=fields.integers("block_sizes", low=1, default=(4,)),
    )
    fields.refuse_unknown()
    return found


def _stopping(fields: Fields) -> Stopping:
    found = Stopping(
        looks=fields.integer("looks", low=1, high=20, default=1),
        serious_adverse_events=fields.optional_integer("serious_adverse_events", low=1),
        futility_z=fields.optional_number("futility_z"),
    )
    fields.refuse_unknown()
    return found


def _thresholds(fields: Fields) -> EditThresholds:
    values = {
        "minor_dice": fields.number("minor_dice", low=0, high=1, default=0.95),
        "minor_added_path_mm": fields.number("minor_added_path_mm", low=0, default=math.inf),
        "rejected_dice": fields.number("rejected_dice", low=0, high=1, default=0.5),
    }
    fields.refuse_unknown()
    try:
        return EditThresholds(**values)
    except InputError as error:
        fields.faults.append(str(error))
        return EditThresholds()


def _contradictions(protocol: Protocol) -> list[str]:
    """Return what no single field can know."""
    primary, method = protocol.primary, protocol.allocation.method
    faults = [f"primary.arms: '{arm}' is no arm of the study" for arm in primary.arms if arm not in protocol.arms]
    if primary.endpoint not in protocol.endpoints:
        faults.append(f"primary.endpoint: '{primary.endpoint}' is not among the endpoints")
    if "seconds_saved" in protocol.endpoints and not {"manual", "assisted"} <= set(protocol.arms):
        faults.append("endpoints: 'seconds_saved' needs the arms manual and assisted")
    if (method == "single") != (len(protocol.arms) == 1):
        faults.append(f"allocation.method: '{method}' does not fit {len(protocol.arms)} arm(s)")
    if method == "blocks" and any(size % len(protocol.arms) for size in protocol.allocation.block_sizes):
        faults.append(f"allocation.block_sizes: must be multiples of the number of arms, {len(protocol.arms)}")
    if len(set(protocol.structures.values())) != len(protocol.structures):
        faults.append("structures: two have the same label value")
    faults += _primary_faults(protocol)
    if not faults:
        try:
            cases_to_enrol(protocol)
        except InputError as error:
            faults.append(f"primary: {error}")
    return faults


_NEEDED: Mapping[tuple[Aim, bool], tuple[str, ...]] = {
    ("interval", True): ("half_width", "expected"),
    ("interval", False): ("half_width", "sd"),
    ("difference", True): ("difference", "expected", "power"),
    ("difference", False): ("difference", "sd", "power"),
    ("non_inferiority", True): ("margin", "expected", "power"),
    ("non_inferiority", False): ("margin", "sd", "power"),
}
"""Fields of the primary question by its aim, and whether it is about a proportion."""


def _primary_faults(protocol: Protocol) -> list[str]:
    primary = protocol.primary
    faults = [
        f"primary.{name}: is needed for {primary.aim} of {primary.endpoint}"
        for name in _NEEDED[primary.aim, primary.endpoint == "acceptance"]
        if getattr(primary, name) is None
    ]
    compared = primary.aim != "interval" or primary.endpoint == "seconds_saved"
    if len(primary.arms) != (2 if compared else 1):
        faults.append(f"primary.arms: {primary.aim} of {primary.endpoint} needs {2 if compared else 1} arm(s)")
    if primary.endpoint in DRAFT_ENDPOINTS and "manual" in primary.arms:
        faults.append(f"primary.arms: the manual arm has no draft, so no {primary.endpoint}")
    if primary.endpoint == "acceptance" and compared and protocol.paired:
        faults.append("primary: acceptance is compared between arms of different cases; allocate in blocks")
    if primary.endpoint == "seconds_saved" and (primary.aim != "interval" or not protocol.paired):
        faults.append("primary: seconds_saved is an interval over paired cases; compare 'seconds' otherwise")
    if protocol.stopping.looks > 1 and primary.aim != "difference":
        faults.append("stopping.looks: only a difference is tested at interim looks; use 1")
    if protocol.stopping.futility_z is not None and protocol.stopping.looks == 1:
        faults.append("stopping.futility_z: needs interim looks")
    return faults


_TEMPLATE: dict[str, Any] = {
    "format": FORMAT,
    "title": "Contouring with drafts against contouring by hand",
    "responsible": "head of department",
    "arms": ["manual", "assisted"],
    "structures": {"Anterior": 1, "Posterior": 2},
    "sites": ["main"],
    "readers": ["reader 1", "reader 2"],
    "endpoints": ["acceptance", "edit_dice", "added_path_length_mm", "seconds", "seconds_saved"],
    "primary": {
        "endpoint": "seconds",
        "aim": "difference",
        "arms": ["manual", "assisted"],
        "difference": 120,
        "sd": 240,
        "power": 0.9,
        "level": 0.95,
    },
    "dropout": 0.05,
    "allocation": {"method": "paired", "seed": 20260101, "block_sizes": [4]},
    "stopping": {"looks": 2, "serious_adverse_events": 1, "futility_z": 0.0},
    "edit_thresholds": {"minor_dice": 0.95, "rejected_dice": 0.5},
    "tolerance_mm": 1.0,
    "sentinels": {},
    "questions": ["I would use the drafts in my daily work.", "The drafts made me work faster."],
}
