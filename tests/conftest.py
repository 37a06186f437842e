"""Settings for all tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

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
