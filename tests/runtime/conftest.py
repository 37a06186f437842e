"""Native kernels, compiled once for all tests that ask for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from csscc.errors import RefusedError
from csscc.passes.lower.nchwc import lanes_of_blocks
from csscc.runtime import native


@pytest.fixture(scope="session")
def cache_with_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder with the native kernels, compiled once for all tests; skips, or fails, where they cannot be."""
    folder = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
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
