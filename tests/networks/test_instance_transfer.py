"""A network of instances that starts from a trained one says at once what that one said of what both know."""

from __future__ import annotations

import pytest
import torch

from delineate.errors import ModelError
from delineate.networks.instance_transfer import transfer_instances
from delineate.networks.instance_unet import InstanceUNet
from instance_models import random_network

PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def started(types: tuple[str, ...]):
    trained = random_network(1, types=2)
    network = InstanceUNet(types=len(types), widths=trained.widths, seed=5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    report = transfer_instances(trained.state_dict(), ("round", "long"), network, types)
    with torch.inference_mode():
        return trained(PICTURE), network.eval()(PICTURE), report, before, network.state_dict()


def test_all_is_taken_over_where_the_types_are_the_same() -> None:
    said, says, report, _, _ = started(("round", "long"))
    assert torch.equal(said, says)
    assert report.is_whole
    assert report.new == ()


def test_types_are_found_by_their_names_and_others_start_at_random() -> None:
    said, says, report, before, after = started(("Long", "other", "round"))
    assert torch.equal(said[:, :4], says[:, :4])  # foreground, interior, distance, and the types' background
    assert torch.equal(said[:, 5], says[:, 4])
    assert torch.equal(said[:, 4], says[:, 6])
    assert torch.equal(after["head.weight"][20:24], before["head.weight"][20:24])
    assert (report.known[3:], report.new) == (("background", "Long", "round"), ("other",))


@pytest.mark.parametrize("types", [(), ("a", "b")])
def test_objects_are_found_as_before_whatever_their_types(types: tuple[str, ...]) -> None:
    said, says, report, before, after = started(types)
    assert torch.equal(said[:, :3], says[:, :3])
    assert report.is_whole
    assert report.known == ("foreground", "interior", "distance")
    assert torch.equal(after["head.weight"][12:], before["head.weight"][12:])


def test_a_network_that_shares_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="none of the"):
        transfer_instances(random_network(0).state_dict(), (), InstanceUNet(widths=(9, 13)), ())
    with pytest.raises(ModelError, match="none of the"):
        transfer_instances({"a": torch.zeros(1)}, (), InstanceUNet(widths=(8, 12)), ())


def test_what_fits_of_another_network_is_taken_and_told() -> None:
    network = InstanceUNet(widths=(8, 13))
    report = transfer_instances(random_network(0, types=0, widths=(8, 12)).state_dict(), (), network, ())
    assert 0 < report.copied < report.trunk
    assert not report.is_whole
    assert f"{report.copied} of {report.trunk}" in report.sentences()[0]
