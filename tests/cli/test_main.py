from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from delineate.cli.live_progress import LiveProgress, PlainProgress
from delineate.cli.main import main
from delineate.execution.quantities import read_budget, read_memory, spoken_seconds

COMMANDS = ("run", "verify", "plan", "preprocess", "train", "predict", "evaluate", "report", "doctor", "phantoms")


def run_in_process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "delineate.cli.main", *words], capture_output=True, text=True)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom delineate.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'SimpleITK', 'numba'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["verify", "nowhere"], 3, "nowhere"),
        (["run", "nowhere", "--budget", "soon", "--out", "x"], 2, "soon"),
        (["run", "nowhere", "--fold", "first", "--out", "x"], 2, "first"),
        (["predict", "nowhere", "-i", "x", "-o", "y"], 5, "nowhere"),
        (["train", "nowhere"], 2, "delineate plan"),
    ],
)
def test_errors_are_one_readable_sentence_and_an_exit_code(
    words: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    message = capsys.readouterr().err
    assert told in message
    assert "Traceback" not in message


def test_the_whole_way_on_the_command_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert run_in_process("phantoms", str(data), "--cases", "5", "--held-out", "1", "--scale", "2.5").returncode == 0
    verified = run_in_process("verify", str(data), "--json")
    assert verified.returncode == 0, verified.stderr
    assert isinstance(json.loads(verified.stdout), list)
    planned = run_in_process("plan", str(data), "--budget", "30s", "--out", str(tmp_path / "run"))
    assert planned.returncode == 0, planned.stderr
    assert "Chosen" in planned.stdout
    prepared = run_in_process("preprocess", str(tmp_path / "run"), "--jobs", "2")
    assert prepared.stdout.startswith("5 cases prepared"), prepared.stderr
    assert run_in_process("preprocess", str(tmp_path / "run")).stdout.startswith("0 cases prepared")
    trained = run_in_process("train", str(tmp_path / "run"))
    assert trained.returncode == 0, trained.stderr
    model, out = str(tmp_path / "run" / "model"), str(tmp_path / "masks")
    predicted = run_in_process("predict", model, "-i", str(data / "imagesTs"), "-o", out, "--no-mirroring")
    assert predicted.returncode == 0, predicted.stderr
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 1


@pytest.mark.slow
def test_control_c_in_the_middle_and_the_same_command_again(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "run"
    assert run_in_process("phantoms", str(data), "--cases", "5", "--held-out", "1", "--scale", "2.5").returncode == 0
    words = ["run", str(data), "--budget", "40s", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "delineate.cli.main", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("preprocess"):
            break
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert (out / "fold_0" / "checkpoint_latest.pt").is_file()
    assert not list(out.rglob(".partial-*"))
    again = run_in_process(*words)
    assert again.returncode == 0, again.stderr
    assert "mean Dice" in again.stdout


def test_quantities() -> None:
    assert read_budget("20min") == 1200
    assert read_budget("1.5h") == 5400
    assert read_budget("standard") is None
    assert read_memory("8GB") == 8_000_000_000
    assert spoken_seconds(45) == "45 s"
    assert spoken_seconds(3900) == "65 min"
    assert spoken_seconds(7500) == "2 h 05 min"


class Recorder:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


def test_live_line_is_rewritten_and_the_last_stays() -> None:
    stream = Recorder()
    progress = LiveProgress(stream)  # type: ignore[arg-type]
    progress.start("count", 4)
    for _ in range(4):
        time.sleep(LiveProgress.REFRESH_SECONDS)
        progress.advance(note="going")
    progress.finish("done")
    assert "\r" in stream.text
    assert stream.text.rstrip().endswith("done")
    assert "4/4" in stream.text


def test_plain_progress_is_quiet_between_its_lines() -> None:
    stream = Recorder()
    progress = PlainProgress(stream)  # type: ignore[arg-type]
    progress.start("count", None)
    for _ in range(1000):
        progress.advance()
    progress.finish()
    assert stream.text.count("\n") == 1
    assert "1000" in stream.text
