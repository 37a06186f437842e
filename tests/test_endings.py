"""How commands end when somebody ends them: a closed pipe, Ctrl-C, SIGTERM, a parent that is gone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from csscc.models import digits_data, digits_model
from tests.helpers import parse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
COMMAND = [sys.executable, "-m", "csscc"]
NETWORK = """g (float[N,4] x) => (float[N,3] y) <float[4,5] w, float[5,3] v>
{ a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"""
SLOW = """g (float[N,4096] x) => (float[N,4096] y) <int64[2] size = {4096, 4096}>
{ w = ConstantOfShape(size) a = MatMul(x, w) b = MatMul(a, w) c = MatMul(b, w) d = MatMul(c, w) e = MatMul(d, w)
  f = MatMul(e, w) h = MatMul(f, w) y = MatMul(h, w) }"""


def start(*arguments: object, folder: Path, **options: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], cwd=folder, text=True, start_new_session=True,
        stdout=options.get("stdout", subprocess.PIPE), stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(parse(NETWORK), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4))
    return tmp_path


@pytest.mark.parametrize("arguments", [("inspect", "m.onnx"), ("inspect", "m.onnx", "--json"), ("--help",)])
def test_a_closed_pipe_is_no_error(folder: Path, arguments: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    running = start(*arguments, folder=folder, stdout=write)
    os.close(write)
    assert (running.communicate()[1], running.returncode) == ("", 0)


def test_a_closed_pipe_hides_no_failure(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    start("compile", "m.onnx", "--T", 1, "--silent", 0, "-q", "-o", "snn.onnx", folder=folder).communicate()
    data = ("--data", "x.npy", "--max-loss", 0)
    running = start("evaluate", "m.onnx", "snn.onnx", *data, folder=folder, stdout=write)
    os.close(write)
    assert "exceeds the budget" in running.communicate()[1]
    assert running.returncode == 1


def test_a_full_disk_under_standard_output_is_reported(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        running = start("inspect", "m.onnx", "--json", folder=folder, stdout=full.fileno())
    assert "cannot be written (No space left on device)" in running.communicate()[1]
    assert running.returncode == 3


def wait_until_it_listens(running: subprocess.Popen[str]) -> None:
    """Before, the interpreter itself starts, which is not csscc's."""
    for _ in range(200):
        status = Path(f"/proc/{running.pid}/status")
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:")).split()[1]
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_at_any_moment(folder: Path, number: signal.Signals) -> None:
    """In imports, and in the passes of a compilation: no traceback, and nothing is left behind."""
    before = sorted(p.name for p in folder.iterdir())
    for seconds in (0, 0.2, 0.8):
        running = start("compile", digits_model(), "--T", 3, "-o", "snn.onnx", folder=folder)
        wait_until_it_listens(running)
        time.sleep(seconds)
        running.send_signal(number)
        _, err = running.communicate(timeout=10)
        assert running.returncode == 128 + number, err
        assert err.strip() == "interrupted; no file is half-written"
        assert sorted(p.name for p in folder.iterdir()) == before


def test_a_signal_ends_the_command_within_onnxruntime(tmp_path: Path) -> None:
    onnx.save(parse(SLOW), tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((2048, 4096), np.float32))
    running = start("run", "m.onnx", "--data", "x.npy", "--batch", 2048, "-q", folder=tmp_path)
    time.sleep(2.5)
    assert running.poll() is None, "the run was to take longer"
    began = time.perf_counter()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err.strip()) == (130, "interrupted; no file is half-written")
    assert time.perf_counter() - began < 2


FEW = ("--limit", 50, "--samples", 16)
SWEEP = ("sweep", digits_model(), "--data", digits_data(), *FEW, "--jobs", 2, "-q", "-o", "sweep")


def members(session: int) -> Iterator[int]:
    """Processes of a session that have not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                yield int(entry.name)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_sweep_leaves_no_orphans(tmp_path: Path, number: signal.Signals) -> None:
    running = start(*SWEEP, folder=tmp_path)
    while len(list(members(running.pid))) < 4:  # parent, two workers, and what tracks their resources
        time.sleep(0.05)
        assert running.poll() is None
    time.sleep(1)
    if number == signal.SIGINT:  # which a terminal sends to all
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    _, err = running.communicate(timeout=20)
    assert "Traceback" not in err
    assert running.returncode == (-9 if number == signal.SIGKILL else 128 + number), err
    if number != signal.SIGKILL:
        assert re.fullmatch(r"interrupted; \d of 32 settings are kept: the same command goes on\n", err)
    for _ in range(100):
        if not list(members(running.pid)):
            return
        time.sleep(0.05)
    pytest.fail("processes of the sweep go on without it")


MAKES = {  # what makes a file or a folder, and how csscc has it made
    "mkstemp": "from csscc.io.files import replacing as make\nwhere = 'out'",
    "mkdtemp": "from csscc.io.files import temporary_folder as make\nwhere = __import__('pathlib').Path('.')",
}


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("moment", ["while it is made", "before it is made"])
def test_what_is_just_made_is_not_left(name: str, moment: str, tmp_path: Path) -> None:
    """A signal between the making of a temporary file and the note that it is there, and an end that takes its time."""
    script = f"""if True:
    import os, signal, tempfile, threading, time
    from csscc import interrupts
    {MAKES[name].replace(chr(10), chr(10) + "    ")}
    original, before = tempfile.{name}, {moment == "before it is made"}

    def slow(**arguments):
        made = original(**arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        return made

    def end():
        os.kill(os.getpid(), signal.SIGTERM)
        begun.wait()

    def last():
        begun.set()
        time.sleep(0.3)

    begun = threading.Event()
    interrupts.listen()
    if before:
        with interrupts.before_end(last):
            end()
            with make(where):
                time.sleep(60)
    tempfile.{name} = slow
    with make(where):
        time.sleep(60)
    """
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stderr) == (143, "interrupted; no file is half-written\n")
    assert list(tmp_path.iterdir()) == []
