from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from scipy import stats

from clinical.study_examples import protocol_content
from delineate.clinical.allocation import arms_of
from delineate.clinical.protocol import cases_needed, cases_to_enrol, digest_of, read_protocol, template
from delineate.errors import ProtocolError
from delineate.metrics.sample_size import cases_for_proportion, cases_per_arm_for_means, pairs_for_difference


def read(**changes):
    return read_protocol(json.dumps(protocol_content(**changes)), "protocol.json")


def single(**changes):
    return read(
        arms=["assisted"],
        endpoints=["acceptance", "edit_dice"],
        primary={
            "endpoint": "acceptance",
            "aim": "interval",
            "arms": ["assisted"],
            "half_width": 0.05,
            "expected": 0.85,
        },
        allocation={"method": "single", "seed": 1},
        stopping={"looks": 1},
        **changes,
    )


def test_the_template_is_a_protocol() -> None:
    protocol = read_protocol(template(), "t")
    assert protocol.paired
    pairs = pairs_for_difference(120, 240, power=0.9)
    assert pairs == 44
    assert cases_needed(protocol) == 45  # 44 * 1.007 for one interim look
    assert cases_to_enrol(protocol) == 48


def test_sample_sizes_by_question() -> None:
    assert cases_needed(single()) == cases_for_proportion(0.85, 0.05)
    blocks = read(allocation={"method": "blocks", "seed": 1}, stopping={"looks": 1})
    assert cases_needed(blocks) == 2 * cases_per_arm_for_means(120, 240, power=0.9)
    margin = read(
        primary={
            "endpoint": "seconds", "aim": "non_inferiority", "arms": ["assisted", "manual"], "margin": 60, "sd": 240,
            "power": 0.8,
        },
        stopping={"looks": 1},
    )  # fmt: skip
    assert cases_needed(margin) == pairs_for_difference(60, 240, power=0.8, alpha=0.025, sides=1)


def test_all_faults_are_told_at_once() -> None:
    content = protocol_content(
        title="",
        arms=["manual", "robot"],
        structures={"a": 0},
        tolerance_mm="1",
        readers=["x", "x"],
        primary__power=2,
        primary__aim="prove",
        allocation__seed=-1,
        stopping__looks=0.5,
        edit_thresholds={"minor_dice": 0.2, "rejected_dice": 0.5},
        questions=[3],
    )
    content["colour"] = "blue"
    content["primary"]["poer"] = 1
    with pytest.raises(ProtocolError) as raised:
        read_protocol(json.dumps(content), "protocol.json")
    told = "\n".join(raised.value.faults)
    for field in (
        "title:", "arms:", "structures:", "tolerance_mm:", "readers:", "primary.power:", "primary.aim:",
        "allocation.seed:", "stopping.looks:", "rejected_dice <=", "questions:", "colour:", "primary.poer:",
    ):  # fmt: skip
        assert field in told
    assert len(raised.value.faults) == 13
    assert "robot" in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"primary__arms": ["silent", "assisted"]}, "'silent' is no arm"),
        ({"primary__endpoint": "accuracy_dice"}, "not among the endpoints"),
        ({"primary__sd": None}, "primary.sd: is needed"),
        ({"primary__arms": ["manual"]}, "needs 2 arm"),
        ({"primary__endpoint": "edit_dice"}, "manual arm has no draft"),
        ({"allocation__method": "single"}, "does not fit 2 arm"),
        ({"allocation__method": "blocks", "allocation__block_sizes": [3]}, "multiples of the number of arms"),
        ({"structures": {"a": 1, "b": 1}}, "same label value"),
        ({"stopping__looks": 1}, "futility_z: needs interim"),
        ({"primary__sd": 1e9}, "suffice"),
        ({"arms": ["assisted"], "allocation__method": "single"}, "seconds_saved"),
        ({"format": "delineate study protocol 9"}, "format: expected"),
        ({"primary": None}, "primary: expected an object"),
    ],
)
def test_contradictions_are_told(changes, told: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**changes)
    assert told in raised.value.diagnostics()


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_what_is_no_json_object(text: str) -> None:
    with pytest.raises(ProtocolError, match="expected"):
        read_protocol(text, "protocol.json")


def test_the_digest_does_not_depend_on_line_ends() -> None:
    assert digest_of("a\r\nb") == digest_of("a\nb") != digest_of("a b")


def test_blocks_are_balanced_at_every_site_and_the_same_for_the_same_seed() -> None:
    protocol = read(allocation={"method": "blocks", "seed": 5, "block_sizes": [2, 4]})
    for site in ("main", "other"):
        arms = [arms_of(protocol, site, i)[0] for i in range(200)]
        for n in range(1, 201):
            counts = Counter(arms[:n])
            assert abs(counts["manual"] - counts["assisted"]) <= 2
        assert arms == [arms_of(protocol, site, i)[0] for i in range(200)]
    assert [arms_of(protocol, "main", i) for i in range(40)] != [arms_of(protocol, "other", i) for i in range(40)]
    other = read(allocation={"method": "blocks", "seed": 6, "block_sizes": [2, 4]})
    assert [arms_of(protocol, "main", i) for i in range(40)] != [arms_of(other, "main", i) for i in range(40)]


def test_the_first_arm_of_a_block_is_a_fair_coin() -> None:
    protocol = read(allocation={"method": "blocks", "seed": 0, "block_sizes": [4]})
    seeded = [replace(protocol, allocation=replace(protocol.allocation, seed=seed)) for seed in range(400)]
    firsts = sum(arms_of(one, "main", 0) == ("manual",) for one in seeded)
    assert stats.binomtest(firsts, 400).pvalue > 0.001


def test_paired_cases_get_every_arm_in_balanced_order() -> None:
    protocol = read()
    orders = [arms_of(protocol, "main", i) for i in range(40)]
    assert Counter(orders) == {("manual", "assisted"): 20, ("assisted", "manual"): 20}
    assert arms_of(single(), "main", 3) == ("assisted",)
