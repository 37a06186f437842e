"""One case: a command in a folder, run where it can end nothing else, and judged."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import select
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 30.0  # of one case
BYTES = 3 * 2**30  # of memory that one case may add
BATCH = 20  # cases of one child; the rest goes to another where a case ends it
CODES = (0, 1, 2, 3)
UNHEALTHY = ("Traceback (most recent", "csscc failed inside", "there is not enough memory")
COMMANDS_OF_TERMINALS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x9b]")


@dataclass
class Case:
    """A command whose files are in the working folder.

    Attributes:
        arguments: of the command line.
        outputs: names in the folder that it may write, what begins with them included.
        check: given standard output of a command that ended with 0, says what is wrong with it, or nothing.
    """

    arguments: Sequence[str]
    outputs: Sequence[str] = ("out",)
    check: Callable[[str], str] = lambda out: ""


Make = Callable[[int], Case]


@dataclass(frozen=True)
class Outcome:
    """What became of one case; `wrong` is empty where everything holds."""

    index: int
    code: int
    wrong: str
    seconds: float = 0.0
    bytes: int = 0


def outcomes(make: Make, indices: Sequence[int], folder: Path, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Run cases in children of this process, many to a child, each in an empty folder of its own."""
    todo = list(indices)
    while todo:
        batch, done = todo[:BATCH], 0
        for outcome in _batch(make, batch, folder, seconds):
            done += 1
            yield outcome
        todo = todo[done:]


def _batch(make: Make, indices: Sequence[int], folder: Path, seconds: float) -> Iterator[Outcome]:
    """Outcomes of cases in one child, up to the one that ends it."""
    reported, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reported)
            _work(make, indices, folder, tell)
        finally:
            os._exit(0)
    os.close(tell)
    left, text, came = list(indices), "", 0
    while left:
        ready = select.select([reported], [], [], seconds)[0]
        piece = os.read(reported, 65536).decode() if ready else ""
        if not piece:
            break
        text += piece
        while "\n" in text:
            line, _, text = text.partition("\n")
            code, spent, most, wrong = line.split("\t", 3)
            yield Outcome(left.pop(0), int(code), wrong, float(spent), int(most))
            came += 1
    os.close(reported)
    if left:
        os.kill(child, signal.SIGKILL) if not ready else None
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        yield Outcome(left[0], code, f"took more than {seconds:g} s" if not ready else f"ended the process ({code})")
    else:
        os.waitpid(child, 0)


def _work(make: Make, indices: Sequence[int], folder: Path, tell: int) -> None:
    """What the child does: each case, one line each."""
    os.setsid()
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _memory("VmSize") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    log = os.open(folder / "log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    out = os.open(folder / "stdout", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(log, 2)
    sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115 (until the process ends)
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    for index in indices:
        for stream in (out, log):
            os.ftruncate(stream, 0)
            os.lseek(stream, 0, os.SEEK_SET)
        began = time.perf_counter()
        code, wrong, added = _one(make, index, folder)
        line = f"{code}\t{time.perf_counter() - began:.3f}\t{added}\t" + " ".join(wrong.split())
        os.write(tell, line.encode(errors="backslashreplace") + b"\n")


def _one(make: Make, index: int, folder: Path) -> tuple[int, str, int]:
    """Exit code of a case, what is wrong, and the memory that it added."""
    from csscc import cli

    place, temporary = folder / "case", folder / "tmp"
    for each in (place, temporary):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir()
    os.chdir(place)
    try:
        case = make(index)
    except Exception as error:  # not csscc's
        return 0, f"the case could not be made: {type(error).__name__}: {error}", 0
    os.environ["TMPDIR"] = str(temporary)
    before = contents(place)
    used = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    sys.argv = ["csscc", *case.arguments]
    code = 99
    try:
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        sys.stderr.write(f"csscc failed inside, uncaught: {type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    added = _memory("VmHWM") - used
    wrong = judged(
        case, code, (folder / "stdout").read_text(errors="replace"), (folder / "log").read_text("utf8", "replace")
    )
    return code, wrong or _left(before, place, temporary, case.outputs), added


def judged(case: Case, code: int, out: str, err: str) -> str:
    """What is wrong with how a command ended; nothing where all is well."""
    shown = err.strip()[-300:]
    if code not in CODES:
        return f"exit code {code}: {shown}"
    if any(words in out + err for words in UNHEALTHY):
        return f"a traceback, a defect, or out of memory: {shown}"
    if code and not out.strip() + shown:
        return f"exit code {code} without a word"
    if COMMANDS_OF_TERMINALS.search(err):
        return f"bytes that command a terminal: {shown!r}"
    try:
        return case.check(out) if code == 0 else ""
    except Exception as error:  # as of onnxruntime, which does not load what a command took
        return f"cannot be checked: {type(error).__name__}: {error}"


def contents(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """What is in a folder, by name: mode, size, time of change, and which file it is."""
    found = {}
    for path in folder.rglob("*"):
        s = path.lstat()
        found[str(path.relative_to(folder))] = (
            s.st_mode,
            0 if stat.S_ISDIR(s.st_mode) else s.st_size,
            0 if stat.S_ISDIR(s.st_mode) else s.st_mtime_ns,
            s.st_ino,
        )
    return found


def _left(before: dict[str, tuple[int, int, int, int]], place: Path, temporary: Path, outputs: Sequence[str]) -> str:
    after = contents(place)
    for name in before.keys() | after.keys():
        changed = before.get(name) != after.get(name)
        if changed and not (outputs and name.startswith(tuple(outputs))) and "__pycache__" not in name:
            return f"'{name}' was changed, removed or made"
    if beside := {p.name for p in place.parent.iterdir()} - {place.name, temporary.name, "log", "stdout"}:
        return f"written beside the working folder: {sorted(beside)[:3]}"
    if left := [p.name for p in temporary.iterdir()]:
        return f"left in the folder of temporary files: {left[:3]}"
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return ""
    return "a child process was left"


def _memory(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024
