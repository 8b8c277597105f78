from __future__ import annotations

import json
from dataclasses import replace

from training.toys import toy_assignment, toy_cases


def test_the_identity_of_other_networks_knows_no_expansion_ratios() -> None:
    """Runs that began before there was a MedNeXt go on."""
    assignment, cases = toy_assignment(), toy_cases()
    network = json.loads(assignment.identity(cases))["configuration"]["architecture"]
    assert "expansion_ratios" not in network
    assert network["kind"] == "plain_unet"
    architecture = replace(assignment.configuration.architecture, kind="mednext", expansion_ratios=(2, 3))
    changed = replace(assignment, configuration=replace(assignment.configuration, architecture=architecture))
    assert json.loads(changed.identity(cases))["configuration"]["architecture"]["expansion_ratios"] == [2, 3]
