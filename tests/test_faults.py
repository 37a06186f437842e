"""A few of each fault; any number by hand: ``python -m tests.fuzz.faults --seed S --times N``."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from tests.fuzz.commands import left, reported
from tests.fuzz.faults import FAULTS
from tests.fuzz.same_bytes import elsewhere

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.parametrize("fault", ["vanished folder"])
def test_nothing_is_lost_and_nothing_left(fault: str) -> None:
    assert FAULTS[fault]()(random.Random(f"2026/{fault}"), 0) == ""


def test_the_same_bytes_whatever_process_makes_them() -> None:
    first, second = (elsewhere(2026, number) for number in range(2))
    assert len(first) == 6
    assert first == second


def test_what_was_lost_or_left_is_noticed(tmp_path: Path) -> None:
    before, old, new = {"m.onnx": b"model"}, {"out": b"old"}, {"out": b"new", "out.data": b"values"}
    for name, content in {**before, **new}.items():
        (tmp_path / name).write_bytes(content)
    assert left(tmp_path, before, (old, new)) == ""
    assert "neither old nor new" in left(tmp_path, before, (old,))
    (tmp_path / ".out.tmp").write_bytes(b"half")
    assert "neither old nor new" in left(tmp_path, before, (old, new))
    assert left(tmp_path, before, (old, new), strict=False) == ""
    (tmp_path / "m.onnx").write_bytes(b"")
    assert "what the command reads was changed" in left(tmp_path, before, (old, new), strict=False)
    assert "exit code 70" in reported(70, "csscc failed inside", (0, 3))
    assert "without a word" in reported(3, "", (0, 3))
    assert "exit code 0" in reported(0, "Traceback (most recent call last)", (0, 3))
