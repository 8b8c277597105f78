"""The whole window: fake networks with known answers, memory that runs out, stops, and nnunetv2 as the oracle."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_networks import COUNTED, Constant, Counting, Identity, Pointwise, Ramp

from delineate import inference
from delineate.errors import Interrupted, ModelError, ResourceError, UsageError
from delineate.execution.progress import Cancellation
from delineate.inference import Tiling, make_ensemble, predict_logits
from delineate.inference.gaussian import gaussian_weights
from delineate.inference.sliding_window import automatic_batch, cut_tile
from delineate.inference.tiling import lay_tiles, tile_starts
from delineate.networks import build_network, to_nnunet
from delineate.planning.plan import Architecture

SHAPES = [(20, 9, 7), (5, 6, 7), (8, 8, 8), (17, 30, 12)]
PATCHES = [(8, 8, 8), (8, 8)]


def volume(shape, channels=1, seed=0):
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("settings", [{}, {"mirror_axes": (0, 1)}, {"gaussian": False}, {"step": 0.3, "batch_size": 3}])
def test_a_network_that_looks_at_single_voxels_is_applied_exactly(shape, patch, settings):
    array = volume(shape, channels=2)
    matrix = np.array([[1.0, 0.5], [-2.0, 0.0], [0.0, 3.0]], np.float32)
    logits = predict_logits([Pointwise(matrix)], array, Tiling(patch_size=patch, **settings))
    assert logits.shape == (3, *shape)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, np.einsum("hc,czyx->hzyx", matrix, array), atol=2e-5)


@pytest.mark.parametrize("patch", PATCHES)
def test_constant_networks_give_their_mean_everywhere(patch):
    networks = [Constant(1.0, -2.0), Constant(2.0, 4.0)]
    logits = predict_logits(networks, volume((11, 19, 6)), Tiling(patch_size=patch, mirror_axes=(0,)))
    np.testing.assert_allclose(logits[0], 1.5, atol=1e-5)
    np.testing.assert_allclose(logits[1], 1.0, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_answers_land_where_their_tile_lies(axis):
    """A ramp over the tile, averaged by hand with the weights that nnU-Net's formula gives."""
    shape, patch = (19, 20, 21), (8, 10, 6)
    logits = predict_logits([Ramp(axis)], volume(shape), Tiling(patch_size=patch))
    weights = gaussian_weights(patch)
    total, count = np.zeros(shape), np.zeros(shape)
    ramp = np.arange(patch[axis]).reshape([-1 if a == axis else 1 for a in range(3)])
    for z in tile_starts(19, 8, 0.5):
        for y in tile_starts(20, 10, 0.5):
            for x in tile_starts(21, 6, 0.5):
                box = (slice(z, z + 8), slice(y, y + 10), slice(x, x + 6))
                total[box] += weights * ramp
                count[box] += weights
    np.testing.assert_allclose(logits[0], total / count, atol=1e-5)


def test_predictions_with_mirroring_are_mirror_equivariant():
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    array = volume((16, 12, 12))
    tiling = Tiling(patch_size=(8, 8, 8), mirror_axes=(0, 1, 2))
    straight = predict_logits([network], array, tiling)
    # an even patch has its Gaussian half a voxel off the middle; without it flipped tiles weigh the same
    even = Tiling(patch_size=(8, 8, 8), mirror_axes=(0, 1, 2), gaussian=False)
    turned = predict_logits([network], array[:, ::-1].copy(), even)[:, ::-1]
    np.testing.assert_allclose(turned, predict_logits([network], array, even), atol=1e-5)
    assert straight.shape == (2, 16, 12, 12)


def test_a_cut_patch_sees_less_padding():
    COUNTED.clear()
    array = volume((33, 41, 30))
    tiling = Tiling(patch_size=(40, 56, 40), fit_patch_to_image=True, divisor=(8, 8, 8))
    logits = predict_logits([Counting(Identity())], array, tiling)
    assert COUNTED == [(1, 1, 40, 48, 32)]
    np.testing.assert_array_equal(logits, array)


def test_flips_and_tiles_share_batches():
    COUNTED.clear()
    array = volume((6, 8, 8))
    predict_logits([Counting(Identity())], array, Tiling(patch_size=(8, 8), mirror_axes=(0, 1), batch_size=8))
    assert [shape[0] for shape in COUNTED] == [8, 8, 8]


def test_tiles_are_read_one_by_one():
    class Lazy:
        shape = (1, 20, 20, 20)

        def __getitem__(self, key):
            return volume(self.shape[1:])[key].astype(np.float64)

    np.testing.assert_allclose(
        predict_logits([Identity()], Lazy(), Tiling(patch_size=(8, 8, 8))), volume((20,) * 3), atol=1e-5
    )


def test_padding_is_zero():
    grid = lay_tiles((3, 8, 8), Tiling(patch_size=(8, 8, 8)))
    tile = cut_tile(np.ones((1, 3, 8, 8), np.float32), grid, (0, 0, 0))
    assert tile.shape == (1, 8, 8, 8)
    np.testing.assert_array_equal(tile[0, :, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0])


def test_a_large_volume_is_a_temporary_file_with_the_same_numbers():
    array = volume((20, 20, 20))
    tiling = Tiling(patch_size=(8, 8, 8))
    mapped = predict_logits([Identity()], array, tiling, limit_bytes=1000)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, predict_logits([Identity()], array, tiling))


def test_half_precision_logits():
    array = volume((20, 20, 20))
    logits = predict_logits([Identity()], array, Tiling(patch_size=(8, 8, 8)), dtype="float16")
    assert logits.dtype == np.float16
    np.testing.assert_allclose(logits, array, atol=2e-3)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("out"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_a_batch_that_does_not_fit_is_halved(error):
    COUNTED.clear()
    array = volume((9, 8, 8))
    network = Counting(Identity(), most=2, error=error)
    logits = predict_logits([network], array, Tiling(patch_size=(8, 8), batch_size=8))
    np.testing.assert_array_equal(logits, array)
    assert [shape[0] for shape in COUNTED] == [2, 2, 2, 2, 1]


def test_memory_that_does_not_suffice_for_one_tile_is_told():
    network = Counting(Identity(), most=0, error=torch.OutOfMemoryError("out"))
    with pytest.raises(ResourceError, match=r"one tile of \(8, 8, 8\) voxels.*bfloat16"):
        predict_logits([network], volume((8, 8, 8)), Tiling(patch_size=(8, 8, 8), batch_size=4))


def test_other_errors_go_on_their_way():
    network = Counting(Identity(), most=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict_logits([network], volume((8, 8, 8)), Tiling(patch_size=(8, 8, 8)))


def test_nan_is_told():
    with pytest.raises(ModelError, match="Network 1 of 1"):
        predict_logits([Constant(float("nan"))], volume((8, 8, 8)), Tiling(patch_size=(8, 8, 8)))


def test_a_volume_without_channels_is_told():
    with pytest.raises(UsageError, match=r"got shape \(8, 8, 8\)"):
        predict_logits([Identity()], volume((8, 8, 8))[0], Tiling(patch_size=(8, 8, 8)))


class Watcher:
    """Progress that stops the work after some tiles."""

    def __init__(self, stop_after=None):
        self.cancellation = Cancellation()
        self.total, self.done, self.finished, self.stop_after = None, 0, False, stop_after

    def start(self, what, total):
        self.total = total

    def advance(self, steps=1, note=""):
        self.done += steps
        if self.done == self.stop_after:
            self.cancellation.request()

    def finish(self, note=""):
        self.finished = True


def test_progress_counts_tiles():
    watcher = Watcher()
    predict_logits([Identity()], volume((20, 8, 8)), Tiling(patch_size=(8, 8, 8)), progress=watcher)
    assert watcher.total == watcher.done == 4
    assert watcher.finished


def test_a_stop_is_heard_between_batches():
    watcher = Watcher(stop_after=2)
    tiling = Tiling(patch_size=(8, 8, 8), batch_size=1)
    with pytest.raises(Interrupted):
        predict_logits([Identity()], volume((20, 8, 8)), tiling, progress=watcher, cancellation=watcher.cancellation)
    assert watcher.done == 2


def test_no_global_state_changes():
    def state():
        return (
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.backends.cudnn.benchmark,
            torch.random.get_rng_state().sum().item(),
            threading.active_count(),
        )

    before = state()
    predict_logits([Identity()], volume((20, 8, 8)), Tiling(patch_size=(8, 8, 8), precision="bfloat16"))
    assert state() == before


def test_an_ensemble_is_used_as_it_is():
    ensemble = make_ensemble([Constant(1.0)], precision="bfloat16")
    logits = predict_logits(ensemble, volume((8, 8, 8)), Tiling(patch_size=(8, 8, 8)))
    np.testing.assert_array_equal(logits, 1)


def test_the_batch_is_chosen_by_the_patch():
    cpu = torch.device("cpu")
    assert automatic_batch((512, 512, 512), cpu) == 1
    assert automatic_batch((40, 56, 40), cpu) > 8
    assert automatic_batch((64, 64, 64), torch.device("cuda")) > automatic_batch((64, 64, 64), cpu)


def test_public_names():
    functions = {"gather_logits", "make_ensemble", "predict_logits", "stream_logits"}
    assert set(inference.__all__) == {"LIMIT_BYTES", "EmptyTiles", "Ensemble", "Tiling"} | functions
    assert all(hasattr(inference, name) for name in inference.__all__)


def unet(dims, in_channels=1, heads=3):
    architecture = Architecture(
        kind="plain_unet",
        dims=dims,
        features=(8, 12, 16),
        kernel_sizes=((3,) * dims,) * 3,
        strides=((1,) * dims, (2,) * dims, (2,) * dims),
        encoder_blocks=(2,) * 3,
        decoder_convs=(2,) * 2,
    )
    return [build_network(architecture, in_channels=in_channels, heads=heads, seed=s) for s in range(2)], architecture


def test_bfloat16_stays_near_float32():
    networks, _ = unet(3)
    array = volume((20, 20, 20))
    exact = predict_logits(networks[:1], array, Tiling(patch_size=(16, 16, 16)))
    rounded = predict_logits(networks[:1], array, Tiling(patch_size=(16, 16, 16), precision="bfloat16"))
    assert np.abs(rounded - exact).mean() < 0.02 * exact.std()


CASES = {
    "3d": {"patch": (16, 16, 16), "shape": (20, 25, 11), "mirror_axes": (), "members": 1},
    "3d mirrored": {"patch": (16, 16, 16), "shape": (20, 17, 11), "mirror_axes": (0, 1, 2), "members": 1},
    "3d small": {"patch": (16, 24, 16), "shape": (9, 20, 15), "mirror_axes": (0, 2), "members": 1},
    "3d folds": {"patch": (16, 16, 16), "shape": (20, 18, 16), "mirror_axes": (1,), "members": 2},
    "2d": {"patch": (32, 24), "shape": (5, 40, 30), "mirror_axes": (), "members": 1},
    "2d mirrored": {"patch": (32, 24), "shape": (3, 20, 50), "mirror_axes": (0, 1), "members": 2},
}
HALF_CASES = ("3d mirrored", "2d")
"""Asked of nnU-Net as it is too; all cases are asked with its sums in float32."""
STARTS = [((110, 64, 200), (64, 64, 64), 0.5), ((37, 51, 35), (32, 48, 32), 0.5), ((99, 100, 101), (20, 33, 7), 0.3)]
GAUSSIANS = [(40, 56, 40), (16, 20, 9), (64, 48)]


def questions():
    asked = {}
    for name, case in CASES.items():
        networks, architecture = unet(len(case["patch"]), in_channels=2)
        for exact in (True, False) if name in HALF_CASES else (True,):
            asked[name, exact] = {
                "kind": "predict",
                "float32_sums": exact,
                "step": 0.5,
                "in_channels": 2,
                "heads": 3,
                "patch": case["patch"],
                "mirror_axes": case["mirror_axes"] or None,
                "weights": [to_nnunet(n.state_dict()) for n in networks[: case["members"]]],
                "array": torch.from_numpy(volume(case["shape"], channels=2)),
                **{key: getattr(architecture, key) for key in ("features", "kernel_sizes", "strides")},
                **{key: getattr(architecture, key) for key in ("encoder_blocks", "decoder_convs")},
            }
    for shape, patch, step in STARTS:
        asked["starts", shape] = {"kind": "starts", "shape": shape, "patch": patch, "step": step}
    for patch in GAUSSIANS:
        asked["gaussian", patch] = {"kind": "gaussian", "patch": patch}
    return asked


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    interpreter = os.environ.get("DELINEATE_ORACLE_PYTHON")
    if not interpreter:
        pytest.skip("DELINEATE_ORACLE_PYTHON is not set")
    folder = tmp_path_factory.mktemp("oracle")
    torch.save(questions(), folder / "questions.pt")
    script = Path(__file__).with_name("inference_oracle_script.py")
    command = [interpreter, str(script), str(folder / "questions.pt"), str(folder / "answers.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "answers.pt", weights_only=True)


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_whole_predictions_equal_nnunets(oracle, name):
    case = CASES[name]
    networks, _ = unet(len(case["patch"]), in_channels=2)
    tiling = Tiling(patch_size=case["patch"], mirror_axes=case["mirror_axes"])
    ours = predict_logits(networks[: case["members"]], volume(case["shape"], channels=2), tiling)
    exact = oracle[name, True].numpy()
    np.testing.assert_allclose(ours, exact, atol=2e-5)
    assert np.mean(ours.argmax(0) == exact.argmax(0)) >= 0.9999


@pytest.mark.oracle
@pytest.mark.parametrize("name", HALF_CASES)
def test_whole_predictions_are_near_nnunets_own_sums(oracle, name):
    """nnU-Net sums in float16: three digits remain, fewer at the corners, where its Gaussian underflows."""
    case = CASES[name]
    networks, _ = unet(len(case["patch"]), in_channels=2)
    tiling = Tiling(patch_size=case["patch"], mirror_axes=case["mirror_axes"])
    ours = predict_logits(networks[: case["members"]], volume(case["shape"], channels=2), tiling)
    half = oracle[name, False].numpy()
    assert np.mean(np.abs(ours - half) < 5e-3 * np.abs(ours).max()) > 0.97
    assert np.mean(ours.argmax(0) == half.argmax(0)) >= 0.995


@pytest.mark.oracle
@pytest.mark.parametrize(("shape", "patch", "step"), STARTS)
def test_tile_positions_equal_nnunets(oracle, shape, patch, step):
    ours = [list(tile_starts(s, p, step)) for s, p in zip(shape, patch, strict=True)]
    assert ours == oracle["starts", shape]


@pytest.mark.oracle
@pytest.mark.parametrize("patch", GAUSSIANS)
def test_gaussian_equals_nnunets(oracle, patch):
    np.testing.assert_allclose(gaussian_weights(patch), oracle["gaussian", patch].numpy(), rtol=1e-5, atol=1e-9)


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_resident_memory_stays_bounded_for_a_large_volume():
    """24 heads of 240 x 96 x 96 are 202 MiB of logits; a row of tiles is 7 MiB, several of them live at a time."""

    def resident():
        status = Path("/proc/self/status").read_text()
        return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(("RssAnon", "RssFile")))

    highest = []

    class Look:
        def start(self, what, total): ...
        def finish(self, note=""): ...
        def advance(self, steps=1, note=""):
            highest.append(resident())

    array = np.zeros((1, 240, 96, 96), np.float32)
    tiling = Tiling(patch_size=(8, 96, 96), step=1.0, batch_size=1)
    before = resident()
    logits = predict_logits([Constant(*range(24))], array, tiling, limit_bytes=2**20, progress=Look())
    assert max(highest) - before < 0.5 * logits.nbytes / 1024
