"""Memory that nothing refers to goes back to the system, where there is enough of it."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from csscc import memory
from csscc.memory import GROWTH, release, resident


class Node:
    pass


def cycle() -> weakref.ref[Node]:
    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    return weakref.ref(node)


@pytest.fixture
def _collected_by_hand() -> object:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_collected_by_hand")
def test_collects_what_only_cycles_refer_to_once_memory_has_grown() -> None:
    memory._before = 0
    release()
    gone = cycle()
    release()
    assert gone() is not None
    held = np.ones(2 * GROWTH, np.uint8)
    assert resident() > held.nbytes
    release()
    assert gone() is None


@pytest.mark.usefixtures("_collected_by_hand")
def test_collects_always_where_memory_is_not_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "odd").write_text("one")
    for path in (tmp_path / "missing", tmp_path / "odd"):
        monkeypatch.setattr(memory, "RESIDENT", path)
        assert resident() == 0
        gone = cycle()
        release()
        assert gone() is None
