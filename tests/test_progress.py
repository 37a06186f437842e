"""The display of progress, on a pseudo-terminal."""

from __future__ import annotations

import os
import re
import sys

import pytest

WORK = """
import time
from csscc.cli import progress
progress.APPEARS = 0
with progress.progress(False) as advance:
    for stage, total, times in (("reading on", None, 3), ("layers", 4, 4), ("rounds", 2, 4), ("reading on", None, 2)):
        for _ in range(times):
            advance(stage, 1, total)
            time.sleep(0.12)
    time.sleep(0.2)
"""


def shown(code: str) -> str:
    """What Python prints on a terminal of its own, without colours."""
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm", COLUMNS="100", LINES="30")
        os.execv(sys.executable, [sys.executable, "-c", code])
    parts = []
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # what Linux gives at the end
            break
        if not part:
            break
        parts.append(part)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())


@pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
def test_stages_count_end_and_go_on() -> None:
    lines = [line.strip() for line in shown(WORK).replace("\r", "\n").split("\n")]
    last = {line.rsplit(" ━", 1)[0].split(" ━")[0].strip(): line for line in lines if re.search(r"\d/[\d?]", line)}
    assert set(last) - {"reading"} == {"reading on", "layers", "rounds", "working"}
    assert " 5/?" in last["reading on"]
    assert any(" 3/3" in line for line in lines if line.startswith("reading on"))
    assert last["layers"].endswith(" 4/4 0:00:00")
    assert " 4/4" in last["rounds"]
    assert any(" 2/2" in line for line in lines if line.startswith("rounds"))
    assert any(re.search(r" [23]/4 0:00:0\d 0:00:0\d left", line) for line in lines if line.startswith("layers"))
