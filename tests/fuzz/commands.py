"""Commands that the harness breaks, the folders they work in, and what must be there afterwards."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz.ground import ground

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ENDED = {  # an interpreter that ends is killed by what it receives no more
    signal.SIGKILL: (-9,),
    signal.SIGINT: (130, -2),
    signal.SIGTERM: (143, -15),
}
TWO_FILES = "from csscc.io import weights\nweights.MAX_BYTES, weights.LARGE = 8, 4\n"  # every network takes two
START = "from csscc.__main__ import main\nmain()\n"
SECONDS = 60  # that a command may take
COMPILE = ("compile", "m.onnx", "--calibration", "d.npz", "-q")
TUNE = ("tune", "m.onnx", "--calibration", "d.npz", "--max-loss", "50", "--samples", "16", "-q")
SWEEP = (
    "sweep", "m.onnx", "--data", "d.npz", "--T", "3,4", "--beta", "2", "--silent", "0,1", "--adjust", "off",
    "--limit", "8",
    "--samples", "16", "-q",
)  # fmt: skip
Files = dict[str, bytes]


@dataclass(frozen=True)
class Job:
    """A command that writes `out.onnx`: with one setting the old one, with the other the new one."""

    name: str
    old: tuple[str, ...]
    new: tuple[str, ...]
    two_files: bool = False


JOBS = {
    "compile": Job("compile", (*COMPILE, "--T", "3"), (*COMPILE, "--T", "4")),
    "two files": Job("two files", (*COMPILE, "--T", "3"), (*COMPILE, "--T", "4"), two_files=True),
    "tune": Job("tune", (*COMPILE, "--T", "3"), (*TUNE, "--T", "4,5")),
}


def start(
    arguments: tuple[str, ...], folder: Path, *, two_files: bool = False, most: int | None = None
) -> subprocess.Popen[str]:
    """A process of csscc; `most`: bytes that a file may have, as on a disk that is full."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return subprocess.Popen(
        [sys.executable, "-c", (TWO_FILES if two_files else "") + START, *arguments], cwd=folder, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=bounded if most is not None else None,
        start_new_session=True,
    )  # fmt: skip


def ended(running: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and standard error."""
    try:
        err = running.communicate(timeout=SECONDS)[1]
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        return 99, f"took more than {SECONDS} s"
    return running.returncode, err


def files(folder: Path) -> Files:
    """Contents of all files, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def place(within: Path | None = None) -> Iterator[Path]:
    """A folder with a network and data."""
    with tempfile.TemporaryDirectory(dir=within) as name:
        fill(Path(name))
        yield Path(name)


def fill(folder: Path) -> None:
    g = ground()
    (folder / "m.onnx").write_bytes(g.classifier)
    np.savez(folder / "d.npz", x=g.samples, y=g.labels)


def made(job: Job, arguments: tuple[str, ...]) -> tuple[Files, float]:
    """What an undisturbed run writes, and the seconds that it takes."""
    with place() as folder:
        before, began = files(folder), time.perf_counter()
        code, err = ended(start((*arguments, "-o", "out.onnx"), folder, two_files=job.two_files))
        assert code in (0, 1), err
        seconds = time.perf_counter() - began
        return {name: content for name, content in files(folder).items() if name not in before}, seconds


def left(folder: Path, before: Files, versions: tuple[Files, ...], *, strict: bool = True) -> str:
    """What is wrong with a folder in which one of `versions` is to be, beside what was there `before`."""
    found = files(folder)
    if any(found.get(name) != content for name, content in before.items()):
        return "what the command reads was changed"
    written = {name: content for name, content in found.items() if name not in before}
    if any(written == version for version in versions):
        return ""
    if not strict and any(version.items() <= written.items() for version in versions):
        return ""
    return f"neither old nor new is there: {sorted(written)}"


def reported(code: int, err: str, codes: tuple[int, ...]) -> str:
    """What is wrong with how a command ended."""
    if code not in codes or "Traceback" in err or "failed inside" in err:
        return f"exit code {code}: {err.strip()[-300:]}"
    return "" if code <= 0 or err.strip() else f"exit code {code} without a word"
