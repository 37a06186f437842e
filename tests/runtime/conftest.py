"""Native kernels, compiled once for all tests that ask for them."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from csscc.errors import RefusedError
from csscc.passes.lower.nchwc import lanes_of_blocks
from csscc.runtime import native
from tests.helpers import WORKERS


@pytest.fixture(scope="session")
def cache_with_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the native kernels, compiled once for all tests; skips, or fails, where they cannot be."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if WORKERS > 1 else root) / "kernels"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, (folder / "lock").open("w") as lock:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of pytest-xdist share the folder, and compile once
        try:
            native.build()
            native.library()
        except RefusedError as error:
            missing(str(error))
    return folder


@pytest.fixture
def kernels(cache_with_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> frozenset[str]:
    """The operators of the compiled library, which this test runs with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_with_kernels))
    return native.operators()


@pytest.fixture
def blocks(kernels: frozenset[str]) -> int:
    """Channels of a block in which onnxruntime convolves; skips, or fails, where it convolves in rows."""
    try:
        return lanes_of_blocks()
    except Exception as error:  # onnxruntime's own are of no common kind
        missing(f"onnxruntime has no blocks here: {error}")


def missing(reason: str) -> None:
    """Skip what needs native kernels, or fail where they are required."""
    (pytest.fail if os.environ.get("CSSCC_REQUIRE_NATIVE") == "1" else pytest.skip)(reason)
