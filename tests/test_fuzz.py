"""A short run of the fuzzer, and that it notices what it is to notice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import csscc
from csscc import cli
from tests.fuzz.case import Case, Outcome, judged, outcomes
from tests.fuzz.spiking import accuracy
from tests.helpers import small_classifier

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_some_cases_of_each_class() -> None:
    """Other seeds and numbers by hand: ``python -m tests.fuzz --seed S --cases N``."""
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "2026", "--cases", "15"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def leaves(name: str) -> int:
    Path(name).write_text("left")
    return 0


def makes_a_child() -> int:
    if os.fork() == 0:
        os._exit(0)
    return 0


def sleeps() -> int:
    time.sleep(60)
    return 0


def fails() -> int:
    raise ValueError("inside")


def takes() -> int:
    return len(bytearray(2**33)) * 0


ENDS: dict[str, tuple[Callable[[], object], str]] = {
    "abort": (os.abort, r"ended the process \(-6\)"),
    "exit code": (lambda: 70, "exit code 70"),
    "exception": (fails, "uncaught: ValueError: inside"),
    "another file": (lambda: leaves("other"), "'other' was changed"),
    "a file beside": (lambda: leaves("../beside"), "written beside the working folder"),
    "a file of an input": (lambda: leaves("m.onnx"), "'m.onnx' was changed"),
    "a temporary file": (lambda: leaves("../tmp/left"), "left in the folder of temporary files"),
    "a child": (makes_a_child, "a child process was left"),
    "no words": (lambda: 3, "without a word"),
    "memory": (takes, "uncaught: MemoryError"),
    "too long": (sleeps, "took more than 1 s"),
}


def made(index: int) -> Case:
    Path("m.onnx").write_text("model")
    return Case(("inspect", "m.onnx"))


@pytest.mark.parametrize("name", ENDS)
def test_what_does_not_hold_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    does, reported = ENDS[name]

    def main() -> None:
        sys.exit(does())

    monkeypatch.setattr(cli, "main", main)
    results = list(outcomes(made, [0, 1], tmp_path, seconds=1.0))
    assert [r.index for r in results] == [0, 1]
    for result in results:
        with pytest.raises(AssertionError, match=reported):
            assert_holds(result)


def assert_holds(result: Outcome) -> None:
    assert not result.wrong, result.wrong


def test_what_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cli, "main", lambda: sys.exit(leaves("out.onnx")))
    results = list(outcomes(made, range(45), tmp_path))
    assert [(r.index, r.code, r.wrong) for r in results] == [(i, 0, "") for i in range(45)]


def test_the_truth_about_a_stream_is_that_of_the_other_forms() -> None:
    """All send the same spikes; samples turned around are no longer what the labels say."""
    ann, given = small_classifier(32)
    x, y = given["x"], given["y"]
    files = [
        csscc.compile(ann, x, T=4, beta=2, form=form, check_samples=0).file.SerializeToString()
        for form in ("unrolled", "stream")
    ]
    assert {accuracy(file, x, y) for file in files} == {100.0}
    (turned,) = {accuracy(file, -x, y) for file in files}
    assert turned < 80


def test_how_a_command_may_end() -> None:
    assert judged(Case(()), 3, "", "Error: the model is refused\n") == ""
    assert "a traceback" in judged(Case(()), 3, "Traceback (most recent call last):", "words")
    assert "command a terminal" in judged(Case(()), 3, "", "Error: \x1b[2J")
    assert judged(Case((), check=lambda out: f"says {out}"), 0, "100 %", "") == "says 100 %"
