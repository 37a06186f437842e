"""Nothing of the user's is destroyed: what is written where, with which permissions, what is left when it fails."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest

import csscc
from csscc.errors import RefusedError
from csscc.io import weights
from csscc.io.files import replacing, save_model
from csscc.models import digits_data, digits_model
from tests.helpers import parse

Run = Callable[..., tuple[int, str]]
NETWORK = """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,3] v>
{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""


def network(seed: int = 0) -> onnx.ModelProto:
    return parse(NETWORK, seed=seed)


@pytest.fixture
def run(command: Run) -> Run:
    onnx.save(network(), "m.onnx")
    return command


COMPILE = ("compile", "m.onnx", "--calibration", "x.npy", "--T", 3, "-q", "-o")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("output", ["m.onnx", "x.npy", "linked", "hard", "inner/../m.onnx"])
def test_an_input_is_not_an_output(run: Run, tmp_path: Path, output: str) -> None:
    Path("linked").symlink_to("m.onnx")
    Path("hard").hardlink_to("x.npy")
    Path("inner").mkdir()
    before = contents(tmp_path)
    for command in (
        (*COMPILE, output),
        ("run", "m.onnx", "--data", "x.npy", "-q", "-o", output),
        ("tune", "m.onnx", "--calibration", "x.npy", "--max-loss", 1, "-q", "-o", output),
        ("tune", "m.onnx", "--calibration", "x.npy", "--max-loss", 1, "-q", "-o", "snn.onnx", "--plot", output),
    ):
        code, err = run(*command)
        assert (code, "would replace what is read" in err) == (2, True), err
    assert contents(tmp_path) == before


def test_weights_generators_images_and_labels_are_inputs_too(run: Run, tmp_path: Path) -> None:
    onnx.save(network(), "m.onnx", save_as_external_data=True, location="m.weights", size_threshold=0)
    Path("gen.py").write_text("import numpy as np\ndef f(): yield {'x': np.zeros((2, 4), np.float32)}\n")
    Path("images").mkdir()
    for name in ("images/a.png", "labels.csv"):
        Path(name).write_bytes(b"")
    before = contents(tmp_path)
    of_images = (("images", "images/a.png"), ("images", "labels.csv"))
    for data, output in (("x.npy", "m.weights"), ("gen.py:f", "gen.py"), *of_images):
        code, err = run("compile", "m.onnx", "--calibration", data, "--T", 3, "-q", "-o", output)
        assert (code, "would replace what is read" in err) == (2, True), (output, err)
    assert contents(tmp_path) == before


def test_a_folder_of_stages_or_of_results_replaces_no_input(run: Run, tmp_path: Path) -> None:
    assert run(*COMPILE, "snn.onnx", "--dump-ir", "stages")[0] == 0
    first = next(Path("stages").glob("00-*"))
    before = contents(tmp_path)
    code, err = run("compile", first, "--T", 3, "-q", "-o", "o.onnx", "--dump-ir", "stages")
    assert (code, "would replace" in err) == (2, True), err
    Path("results.json").write_bytes(Path("m.onnx").read_bytes())
    before = contents(tmp_path)
    code, err = run("sweep", "results.json", "--data", "x.npy", "-o", ".")
    assert (code, "would replace" in err) == (2, True), err
    assert contents(tmp_path) == before


def test_stages_that_cannot_be_written_are_reported(run: Run) -> None:
    Path("file").write_text("")
    code, err = run(*COMPILE, "snn.onnx", "--dump-ir", "file/stages")
    assert (code, "cannot be a folder" in err) == (3, True), err
    assert not Path("snn.onnx").exists()


@pytest.fixture
def special(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What is no regular file."""
    made = {"fifo": tmp_path / "fifo", "folder": tmp_path / "folder", "loop": tmp_path / "loop"}
    os.mkfifo(made["fifo"])
    made["folder"].mkdir()
    made["loop"].symlink_to(made["loop"])
    (tmp_path / "to_fifo").symlink_to(made["fifo"])
    with socket.socket(socket.AF_UNIX) as opened:
        os.chdir(tmp_path)  # the path of a socket is short
        opened.bind("socket")
        yield made | {"socket": tmp_path / "socket", "link": tmp_path / "to_fifo", "device": Path("/dev/null")}


@pytest.mark.parametrize("name", ["fifo", "folder", "loop", "socket", "link", "device"])
def test_what_is_no_file_is_refused_and_left(run: Run, special: dict[str, Path], name: str) -> None:
    path = special[name]
    before = path.lstat().st_mode
    code, err = run(*COMPILE, path)
    assert (code, "give the path of a file to write" in err) == (3, True), err
    with pytest.raises(RefusedError, match="give the path of a file to write"), replacing(path):
        pytest.fail("it was given a file")
    assert path.lstat().st_mode == before


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    real, link, dangling = tmp_path / "there" / "real.onnx", tmp_path / "link.onnx", tmp_path / "dangling.onnx"
    real.write_bytes(b"old")
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "there" / "new.onnx")
    for path in (link, dangling):
        save_model(network(), path)
        assert path.is_symlink()
        assert onnx.load(path) == network()
    assert sorted(p.name for p in real.parent.iterdir()) == ["new.onnx", "real.onnx"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_permissions_are_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "snn.onnx"
    path.write_bytes(b"old")
    path.chmod(mode)
    save_model(network(), path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_read_only_file_is_not_replaced(run: Run) -> None:
    Path("snn.onnx").write_bytes(b"old")
    Path("snn.onnx").chmod(0o444)
    code, err = run(*COMPILE, "snn.onnx")
    assert (code, "it is read-only" in err) == (3, True)
    assert Path("snn.onnx").read_bytes() == b"old"


def test_files_reach_the_disk_before_they_take_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, object]] = []
    fsync, replace = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        done.append(("flushed", os.fstat(handle).st_ino))
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        done.append(("replaced", self.stat().st_ino))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", replaced)
    save_model(network(), tmp_path / "snn.onnx")
    inode, folder = (tmp_path / "snn.onnx").stat().st_ino, tmp_path.stat().st_ino
    assert done == [("flushed", inode), ("replaced", inode), ("flushed", folder)]


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every network needs two files."""
    monkeypatch.setattr(weights, "MAX_BYTES", 8)
    monkeypatch.setattr(weights, "LARGE", 4)


class Killed(BaseException):
    """The process is gone."""


def opened(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    onnx.checker.check_model(model)
    return model


def weight(path: Path) -> np.ndarray:
    return onnx.numpy_helper.to_array(next(t for t in opened(path).graph.initializer if t.name == "w"))


@pytest.mark.parametrize("number", [2, 1], ids=["by another pair", "by one file"])
def test_a_pair_is_replaced_as_one_wherever_its_writer_stops(
    low: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """After any number of the calls that change the folder, the model opens with its own weights, old or new."""
    path = tmp_path / "snn.onnx"
    old, new = (onnx.numpy_helper.to_array(network(seed).graph.initializer[0]) for seed in (1, 2))
    replace, unlink = Path.replace, Path.unlink
    seen = set()
    for allowed in range(6):
        save_model(network(1), path)
        left = [allowed]

        def stop(action: Callable[..., object], left: list[int] = left) -> Callable[..., object]:
            def call(self: Path, *arguments: object, **options: object) -> object:
                if not left[0]:
                    raise Killed
                left[0] -= 1
                return action(self, *arguments, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop(replace))
            patch.setattr(Path, "unlink", stop(unlink))
            if number == 1:
                patch.setattr(weights, "MAX_BYTES", 2**31)
            with suppress(Killed):
                save_model(network(2), path)
        found = weight(path)
        assert np.array_equal(found, old) or np.array_equal(found, new)
        seen.add(np.array_equal(found, new))
    assert seen == {False, True}
    if number == 1:
        monkeypatch.setattr(weights, "MAX_BYTES", 2**31)
    save_model(network(2), path)
    assert len(list(tmp_path.iterdir())) == number, "what stopped writers left is gone"


def test_a_stale_second_file_goes(low: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "snn.onnx"
    (tmp_path / "snn.onnx.data").write_bytes(b"of somebody else")
    (tmp_path / "other.onnx.0123456789abcdef.data").write_bytes(b"of another network")
    first = save_model(network(1), path)
    assert [p.exists() for p in first] == [True, True]
    second = save_model(network(2), path)
    assert (first[1] != second[1], first[1].exists()) == (True, False)
    monkeypatch.setattr(weights, "MAX_BYTES", 2**31)
    assert save_model(network(3), path) == [path]
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["other.onnx.0123456789abcdef.data", "snn.onnx", "snn.onnx.data"]


def test_a_pair_is_not_written_through_a_link(low: None, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "snn.onnx").symlink_to(tmp_path / "there" / "snn.onnx")
    with pytest.raises(RefusedError, match="is a link, and the network takes two files"):
        save_model(network(), tmp_path / "snn.onnx")


WRITER = """
import sys
from csscc.io import weights
from csscc.io.files import save_model
import onnx
weights.MAX_BYTES, weights.LARGE = 8, 4
model = onnx.load(sys.argv[1])
print("begins", flush=True)
while True:
    save_model(model, sys.argv[2])
"""


def test_two_writers_and_kills_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out" / "snn.onnx"
    path.parent.mkdir()
    for seed in (1, 2):
        onnx.save(network(seed), tmp_path / f"{seed}.onnx")
    rng = np.random.default_rng(5)
    known = [onnx.numpy_helper.to_array(network(seed).graph.initializer[0]) for seed in (1, 2)]
    command = [[sys.executable, "-c", WRITER, str(tmp_path / f"{seed}.onnx"), str(path)] for seed in (1, 2)]
    for _ in range(2):
        writers = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in command]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        time.sleep(float(rng.uniform(0.05, 0.3)))
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        assert any(np.array_equal(weight(path), values) for values in known)
    save_model(network(3), path)
    assert [p.name for p in path.parent.iterdir()] == ["snn.onnx"]


def test_of_a_network_of_the_command_line(tmp_path: Path) -> None:
    """The file that `compile` writes opens in stock onnxruntime, whatever was there."""
    with np.load(digits_data()) as data:
        snn = csscc.compile(digits_model(), data["x_calib"][:16], T=3)
    (tmp_path / "snn.onnx").write_bytes(b"old")
    snn.save(tmp_path / "snn.onnx")
    assert csscc.load(tmp_path / "snn.onnx").latency == snn.latency
