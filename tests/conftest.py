"""Settings for all tests."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from csscc import cli
from csscc.runtime.session import set_threads
from tests.helpers import WORKERS


def pytest_configure() -> None:
    """Processes of pytest-xdist share the machine."""
    if WORKERS > 1:
        set_threads(1)


def pytest_collection_finish() -> None:
    """What is imported by now stays: compilations collect garbage often, and need not look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(20240817)


@pytest.fixture(scope="session", autouse=True)
def _cache_without_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder that stays empty: what a test runs does not depend on what was compiled before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs csscc; gives exit code, output and errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["csscc", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        return int(stop.value.code or 0), out.out, out.err

    return call


@pytest.fixture
def command(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Runs csscc in a folder that has samples ``x.npy``, ``[8, 4]``; gives exit code and errors, no traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CSSCC_TRACEBACK", raising=False)
    np.save("x.npy", np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4))

    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = run(*arguments)
        assert "Traceback" not in out + err
        return code, err

    return call
