from __future__ import annotations

import torch

from delineate.training.ema import WeightAverage
from delineate.training.optimizer import build_optimizer, set_learning_rate
from training.toys import toy_network, toy_recipe


def one_step(optimizer, network):
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()


def test_sgd_is_nnunets():
    network, twin = toy_network(), toy_network()
    optimizer = build_optimizer(network, toy_recipe(learning_rate=0.01))
    oracle = torch.optim.SGD(twin.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    for _ in range(3):
        one_step(optimizer, network)
        one_step(oracle, twin)
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_adamw_decays_kernels_only():
    network = toy_network()
    optimizer = build_optimizer(network, toy_recipe(optimizer="adamw", weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for parameter in network.parameters():
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)


def test_the_rate_reaches_all_groups():
    optimizer = build_optimizer(toy_network(), toy_recipe(optimizer="adamw"))
    set_learning_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def test_the_average_follows_with_a_warm_up():
    network = toy_network()
    average = WeightAverage(network, 0.999)
    expected = {name: p.detach().clone() for name, p in network.named_parameters()}
    for step in range(1, 6):
        for parameter in network.parameters():
            parameter.data.add_(1.0)
        average.update(network, step)
        decay = min(0.999, (1 + step) / (10 + step))
        for name, parameter in network.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
    for name, parameter in average.network.named_parameters():
        torch.testing.assert_close(parameter, expected[name])
        assert not parameter.requires_grad
