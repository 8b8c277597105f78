"""Half-precision sums: what they are without rounding, and that they round as nnU-Net's do."""

from __future__ import annotations

import numpy as np
import pytest
from fake_networks import Pointwise
from test_sliding_window import CASES, HALF_CASES, oracle, unet, volume

from delineate.errors import Interrupted
from delineate.execution import Cancellation
from delineate.inference import Tiling, make_ensemble, predict_logits
from delineate.inference.half_sums import predict_logits_in_half

__all__ = ["oracle"]  # the fixture


@pytest.mark.parametrize(
    ("patch", "axes", "gaussian"), [((8, 8, 8), (0, 2), True), ((8, 6), (), True), ((8, 8, 8), (), False)]
)
def test_they_are_the_sums_but_for_rounding(patch, axes, gaussian) -> None:
    networks = [Pointwise([[1.0, 0.5], [0.0, -2.0]]), Pointwise([[0.0, 1.0], [3.0, 1.0]])]
    array, tiling = volume((13, 9, 7), channels=2), Tiling(patch_size=patch, mirror_axes=axes, gaussian=gaussian)
    half = predict_logits_in_half(make_ensemble(networks, device="cpu", precision="float32"), array, tiling)
    assert half.dtype == np.float16
    exact = predict_logits(networks, array, tiling)
    assert half.shape == exact.shape
    # at the corners of tiles the Gaussian underflows in half precision
    assert np.mean(np.abs(half - exact) < 0.01 * np.abs(exact).max()) > 0.98
    assert not np.array_equal(half.astype(np.float32), exact)


def test_a_request_to_stop_is_heard() -> None:
    cancellation = Cancellation()
    cancellation.request()
    ensemble = make_ensemble([Pointwise([[1.0]])], device="cpu", precision="float32")
    with pytest.raises(Interrupted):
        predict_logits_in_half(ensemble, volume((8, 8, 8)), Tiling(patch_size=(8, 8, 8)), cancellation=cancellation)


@pytest.mark.oracle
@pytest.mark.parametrize("name", HALF_CASES)
def test_they_are_nnunets(oracle, name) -> None:
    case = CASES[name]
    networks, _ = unet(len(case["patch"]), in_channels=2)
    ensemble = make_ensemble(networks[: case["members"]], device="cpu", precision="float32")
    tiling = Tiling(patch_size=case["patch"], mirror_axes=case["mirror_axes"])
    ours = predict_logits_in_half(ensemble, volume(case["shape"], channels=2), tiling)
    theirs = oracle[name, False].numpy()
    assert np.mean(ours == theirs) > 0.98
    assert np.mean(ours.argmax(0) == theirs.argmax(0)) >= 0.9995
