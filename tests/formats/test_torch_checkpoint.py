from __future__ import annotations

import os
import pickle
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from delineate.errors import ModelError, UnsafeModelError
from delineate.formats.torch_checkpoint import read_checkpoint, read_nnunet_checkpoint


class Payload:
    """Creates a file when a careless reader unpickles it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def nnunet_like() -> dict:
    """Everything that nnU-Net's `save_checkpoint` writes, in small."""
    network = torch.nn.Conv2d(1, 2, 3)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    network(torch.ones(1, 1, 4, 4)).sum().backward()
    optimizer.step()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.25)],
            "dice_per_class_or_region": [[np.float64(0.125), np.float64(np.nan)]],
            "counts": [np.int64(-3), np.uint8(200), np.bool_(True)],
            "lrs": [0.01],
        },
        "_best_ema": np.float64(0.75),
        "current_epoch": 2,
        "init_args": {
            "plans": {"plans_name": "nnUNetPlans"},
            "configuration": "3d_fullres",
            "fold": 0,
            "dataset_json": {"labels": {"background": 0, "a": 1}},
            "device": torch.device("cuda"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint_final.pth"
    torch.save(nnunet_like(), path)
    return path


def rewrite(path: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Replace one member of an archive, checksums and all."""
    with zipfile.ZipFile(path) as archive:
        content = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(name, change(data) if name.endswith(member) else data)


def test_everything_of_nnunet_comes_back_as_plain_types(checkpoint) -> None:
    expected, content = nnunet_like(), read_checkpoint(checkpoint)
    assert content.keys() == expected.keys()
    log = content["logging"]
    assert log["mean_fg_dice"] == [0.5, 0.25]
    assert [type(value) for value in log["mean_fg_dice"]] == [float, float]
    assert log["counts"] == [-3, 200, True]
    assert np.isnan(log["dice_per_class_or_region"][0][1])
    assert content["_best_ema"] == 0.75
    assert content["init_args"]["device"] == torch.device("cuda")
    assert isinstance(content["network_weights"], OrderedDict)
    assert content["optimizer_state"]["state"][0]["momentum_buffer"].shape == (2, 1, 3, 3)
    assert content["grad_scaler_state"] == expected["grad_scaler_state"]


def test_values_are_exact(checkpoint) -> None:
    weights = torch.load(checkpoint, weights_only=False)["network_weights"]
    assert all(torch.equal(read_checkpoint(checkpoint)["network_weights"][name], weights[name]) for name in weights)


def test_numpy_scalars_of_numpy_1(checkpoint) -> None:
    rewrite(checkpoint, "data.pkl", lambda data: data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_checkpoint(checkpoint)["_best_ema"] == 0.75


def test_big_endian_scalars(tmp_path) -> None:
    torch.save({"value": np.dtype(">f8").type(1.5), "swapped": np.array([2.5], dtype=">f4")[0]}, tmp_path / "a.pth")
    assert read_checkpoint(tmp_path / "a.pth") == {"value": 1.5, "swapped": 2.5}


def test_shared_tensors_stay_shared(tmp_path) -> None:
    tensor = torch.ones(3)
    torch.save({"a": tensor, "b": tensor}, tmp_path / "a.pth")
    content = read_checkpoint(tmp_path / "a.pth")
    assert content["a"].data_ptr() == content["b"].data_ptr()


def test_nnunet_checkpoint(checkpoint) -> None:
    found = read_nnunet_checkpoint(checkpoint)
    assert found.trainer_name == "nnUNetTrainer"
    assert found.configuration == "3d_fullres"
    assert found.mirror_axes == (0, 1, 2)
    assert set(found.weights) == {"weight", "bias"}
    assert found.init_args["plans"]["plans_name"] == "nnUNetPlans"


def test_nnunet_checkpoint_without_mirroring(tmp_path) -> None:
    content = nnunet_like()
    del content["inference_allowed_mirroring_axes"]
    torch.save(content, tmp_path / "a.pth")
    assert read_nnunet_checkpoint(tmp_path / "a.pth").mirror_axes is None


@pytest.mark.parametrize("lost", ["network_weights", "init_args"])
def test_foreign_checkpoints_are_no_nnunet(tmp_path, lost) -> None:
    content = nnunet_like()
    del content[lost]
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="An nnU-Net checkpoint must hold"):
        read_nnunet_checkpoint(tmp_path / "a.pth")


class TestMaliciousFiles:
    @pytest.fixture
    def victim(self, tmp_path) -> Path:
        return tmp_path / "owned"

    @pytest.mark.parametrize("hidden_in", ["top", "logging", "init_args"])
    def test_a_command_is_never_run(self, tmp_path, victim, hidden_in) -> None:
        payload = Payload(os.system, f"touch {victim}")
        content = nnunet_like()
        (content if hidden_in == "top" else content[hidden_in])["extra"] = payload
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(UnsafeModelError, match=r"a\.pth.*system"):
            read_checkpoint(tmp_path / "a.pth")
        assert not victim.exists()

    def test_the_payload_is_real(self, tmp_path, victim) -> None:
        """The same file does its harm when it is opened carelessly; otherwise the tests above would prove nothing."""
        torch.save({"x": Payload(os.system, f"touch {victim}")}, tmp_path / "a.pth")
        torch.load(tmp_path / "a.pth", weights_only=False)
        assert victim.exists()

    @pytest.mark.parametrize("function", [eval, exec])
    def test_python_code_is_never_run(self, tmp_path, victim, function) -> None:
        torch.save({"x": Payload(function, f"open({str(victim)!r}, 'w')")}, tmp_path / "a.pth")
        with pytest.raises(UnsafeModelError, match=function.__name__):
            read_checkpoint(tmp_path / "a.pth")
        assert not victim.exists()

    @pytest.mark.parametrize("protocol", [0, 2, 5])
    def test_a_bare_pickle_is_never_run(self, tmp_path, victim, protocol) -> None:
        path = tmp_path / "a.pth"
        path.write_bytes(pickle.dumps({"x": Payload(os.system, f"touch {victim}")}, protocol))
        with pytest.raises(UnsafeModelError, match=r"bare pickle.*system"):
            read_checkpoint(path)
        assert not victim.exists()

    @pytest.mark.parametrize("protocol", [3, 4, 5])
    def test_a_newer_pickle_in_an_archive_is_never_run(self, tmp_path, victim, protocol) -> None:
        path = tmp_path / "a.pth"
        torch.save({"x": Payload(os.system, f"touch {victim}")}, path, pickle_protocol=protocol)
        with pytest.raises(UnsafeModelError):
            read_checkpoint(path)
        assert not victim.exists()

    def test_a_class_of_somebody_elses_is_refused(self, tmp_path) -> None:
        torch.save({"path": Path("x")}, tmp_path / "a.pth")
        with pytest.raises(UnsafeModelError, match="Path"):
            read_checkpoint(tmp_path / "a.pth")

    def test_a_program_is_refused(self, tmp_path) -> None:
        """A TorchScript archive is told by its constants."""
        path = tmp_path / "a.pth"
        torch.save({"x": 1}, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a/constants.pkl", b"\x80\x02).")
            archive.writestr("a/code/program.py", b"")
        with pytest.raises(UnsafeModelError, match="TorchScript"):
            read_checkpoint(path)

    def test_numpy_objects_are_no_numbers(self, tmp_path) -> None:
        torch.save({"x": np.float64(1.0)}, tmp_path / "a.pth")
        rewrite(
            tmp_path / "a.pth", "data.pkl", lambda data: data.replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8")
        )
        with pytest.raises(UnsafeModelError, match="O8"):
            read_checkpoint(tmp_path / "a.pth")

    def test_the_allow_list_of_torch_is_left_as_it_was(self, checkpoint) -> None:
        before = torch.serialization.get_safe_globals()
        read_checkpoint(checkpoint)
        assert set(torch.serialization.get_safe_globals()) == set(before)


class TestDamagedFiles:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.99])
    def test_truncated(self, checkpoint, share) -> None:
        data = checkpoint.read_bytes()
        checkpoint.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelError) as caught:
            read_checkpoint(checkpoint)
        assert not isinstance(caught.value, UnsafeModelError)
        assert str(checkpoint) in str(caught.value)

    def test_missing(self, tmp_path) -> None:
        with pytest.raises(ModelError, match="No such file"):
            read_checkpoint(tmp_path / "none.pth")

    def test_a_folder(self, tmp_path) -> None:
        with pytest.raises(ModelError, match="cannot be read"):
            read_checkpoint(tmp_path)

    @pytest.mark.parametrize("data", [b"nothing of the kind" * 20, bytes(1000), b"\x80\x02}q\x00."])
    def test_something_else(self, tmp_path, data) -> None:
        (tmp_path / "a.pth").write_bytes(data)
        with pytest.raises(ModelError, match="no torch checkpoint"):
            read_checkpoint(tmp_path / "a.pth")

    def test_another_archive(self, tmp_path) -> None:
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(tmp_path / "a.pth")

    def test_a_flipped_bit_in_a_tensor(self, checkpoint) -> None:
        with zipfile.ZipFile(checkpoint) as archive:
            name = next(info for info in archive.infolist() if "/data/0" in info.filename)
            payload = archive.read(name)
        data = bytearray(checkpoint.read_bytes())
        data[data.find(payload)] ^= 1
        checkpoint.write_bytes(data)
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(checkpoint)

    def test_a_cut_pickle_in_a_whole_archive(self, checkpoint) -> None:
        rewrite(checkpoint, "data.pkl", lambda data: data[:-40])
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(checkpoint)

    def test_a_lost_tensor(self, checkpoint) -> None:
        rewrite(checkpoint, "/data/0", lambda data: data[:4])
        with pytest.raises(ModelError, match="damaged"):
            read_checkpoint(checkpoint)

    def test_no_dictionary(self, tmp_path) -> None:
        torch.save(torch.ones(3), tmp_path / "a.pth")
        with pytest.raises(ModelError, match="holds a Tensor"):
            read_checkpoint(tmp_path / "a.pth")


def test_two_threads_read_at_the_same_time(checkpoint) -> None:
    failures: list[Exception] = []

    def read() -> None:
        try:
            for _ in range(10):
                read_checkpoint(checkpoint)
        except ModelError as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
