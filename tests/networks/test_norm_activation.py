from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from delineate.networks import norm_activation
from delineate.networks.norm_activation import HAVE_KERNELS, instance_norm_leaky_relu

SHAPES = [(2, 4, 3, 4, 5), (1, 32, 10, 14, 10), (3, 7, 33, 65), (2, 8, 20, 28, 30), (2, 16, 1, 1, 2), (1, 1, 9, 9, 9)]
LAYOUT = {4: torch.channels_last, 5: torch.channels_last_3d}

needs_kernels = pytest.mark.skipif(not HAVE_KERNELS, reason="numba is not installed")


def reference(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return functional.leaky_relu(functional.instance_norm(x, weight=weight, bias=bias, eps=1e-5), slope)


def draw(shape: tuple[int, ...], seed: int = 0, offset: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * 2 + offset
    weight = torch.rand(shape[1], generator=generator) + 0.5
    bias = torch.randn(shape[1], generator=generator)
    return x, weight, bias, torch.randn(shape, generator=generator)


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("slope", [0.01, 1.0])
@pytest.mark.parametrize("channels_last", [True, False])
def test_value_and_gradients_equal_the_two_operations(
    shape: tuple[int, ...], slope: float, channels_last: bool
) -> None:
    x, weight, bias, grad = draw(shape)
    x = x.contiguous(memory_format=LAYOUT[len(shape)]) if channels_last else x
    ours = [t.clone().requires_grad_() for t in (x, weight, bias)]
    exact = [t.double().requires_grad_() for t in (x, weight, bias)]
    y = instance_norm_leaky_relu(*ours, 1e-5, slope)
    expected = reference(*exact, slope)
    y.backward(grad)
    expected.backward(grad.double())
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours, exact, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=2e-3)


@needs_kernels
@pytest.mark.parametrize("shape", SHAPES[1:4])
def test_bfloat16_is_rounded_and_no_worse(shape: tuple[int, ...]) -> None:
    x, weight, bias, grad = draw(shape)
    x16 = x.bfloat16().requires_grad_()
    y = instance_norm_leaky_relu(x16, weight, bias, 1e-5, 0.01)
    assert y.dtype == torch.bfloat16
    y.backward(grad.bfloat16())
    exact = x16.detach().double().requires_grad_()
    expected = reference(exact, weight.double(), bias.double(), 0.01)
    expected.backward(grad.bfloat16().double())
    assert x16.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(y.double(), expected, rtol=2**-8, atol=1e-2)
    torch.testing.assert_close(x16.grad.double(), exact.grad, rtol=2**-6, atol=2e-2)


@needs_kernels
def test_a_mean_far_from_zero_does_not_cancel() -> None:
    x, weight, bias, _ = draw((1, 4, 16, 16, 16), offset=1000.0)
    y = instance_norm_leaky_relu(x.clone().requires_grad_(), weight, bias, 1e-5, 0.01)
    torch.testing.assert_close(
        y.double(), reference(x.double(), weight.double(), bias.double(), 0.01), rtol=1e-2, atol=5e-3
    )


@needs_kernels
def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    import numba

    x, weight, bias, grad = draw((2, 8, 20, 28, 30))
    results = []
    before = numba.get_num_threads()
    for threads in (1, before):
        numba.set_num_threads(threads)
        leaf = x.clone().requires_grad_()
        y = instance_norm_leaky_relu(leaf, weight, bias, 1e-5, 0.01)
        y.backward(grad)
        results.append((y.detach(), leaf.grad))
    numba.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_constant_channels_become_their_bias() -> None:
    x = torch.full((1, 3, 4, 4, 4), 5.0)
    bias = torch.tensor([1.0, 0.0, 2.0])
    y = instance_norm_leaky_relu(x, torch.ones(3), bias, 1e-5, 0.01)
    torch.testing.assert_close(y, bias[None, :, None, None, None].expand_as(y), rtol=1e-3, atol=1e-3)


def test_without_kernels_the_plain_operations_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_activation, "HAVE_KERNELS", False)
    x, weight, bias, _ = draw((2, 4, 3, 4, 5))
    torch.testing.assert_close(instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01), reference(x, weight, bias, 0.01))


def test_double_precision_runs_unfused() -> None:
    x, weight, bias, _ = (t.double() for t in draw((2, 4, 3, 4, 5)))
    torch.testing.assert_close(instance_norm_leaky_relu(x, weight, bias, 1e-5, 0.01), reference(x, weight, bias, 0.01))
