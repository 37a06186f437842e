"""``python -m tests.fuzz.faults --seed S --times N [--fault F]``: break what csscc stands on, and see what is left.

A command that is to replace an old file is killed at a random moment, finds the disk full or read-only, loses its
folder, or races another one. Afterwards the old file or the new one is there, byte for byte, and nothing else. What is
new is known from a run that nothing disturbed.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.commands import (
    ENDED,
    JOBS,
    SIGNALS,
    SWEEP,
    Files,
    Job,
    ended,
    files,
    fill,
    left,
    made,
    place,
    reported,
    start,
)


def killed(job: Job) -> Callable[[random.Random, int], str]:
    """A command that gets a signal at a random moment; what SIGKILL leaves is gone behind the next command."""
    old, _ = made(job, job.old)
    new, seconds = made(job, job.new)
    assert old != new

    def once(rng: random.Random, number: int) -> str:
        sent = SIGNALS[number % len(SIGNALS)]
        with place() as folder:
            before = files(folder)
            for name, content in old.items():
                (folder / name).write_bytes(content)
            running = start((*job.new, "-o", "out.onnx"), folder, two_files=job.two_files)
            _wait_until_it_listens(running)
            time.sleep(rng.uniform(0, 1.1) * seconds)
            running.send_signal(sent)
            code, err = ended(running)
            wrong = reported(code, err, (0, *ENDED[sent])) or left(
                folder, before, (old, new), strict=sent != signal.SIGKILL
            )
            if wrong or sent != signal.SIGKILL or len(files(folder)) == len(before | old):
                return wrong
            again = reported(*ended(start((*job.old, "-o", "out.onnx"), folder, two_files=job.two_files)), (0,))
            return again or left(folder, before, (old,))

    return once


def _wait_until_it_listens(running: subprocess.Popen[str]) -> None:
    """Before, the interpreter itself starts, which is not csscc's."""
    for _ in range(500):
        try:
            status = Path(f"/proc/{running.pid}/status").read_text()
        except OSError:
            return
        caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
        if int(caught, 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


def _rows(folder: Path) -> list[tuple[str, ...]]:
    """What a sweep found, without the times that it took."""
    with (folder / "sw/results.csv").open() as file:
        return sorted(
            tuple(v for k, v in row.items() if "milliseconds" not in k and "seconds" not in k)
            for row in csv.DictReader(file)
        )


def killed_sweep() -> Callable[[random.Random, int], str]:
    """A sweep that gets a signal, and is continued: it finds what an undisturbed one finds."""
    arguments = (*SWEEP, "-o", "sw")
    with place() as folder:
        began = time.perf_counter()
        code, err = ended(start(arguments, folder))
        assert code == 0, err
        rows, seconds = _rows(folder), time.perf_counter() - began

    def once(rng: random.Random, number: int) -> str:
        sent = SIGNALS[number % len(SIGNALS)]
        with place() as folder:
            before = files(folder)
            running = start((*arguments, "--jobs", str(rng.choice((1, 2)))), folder)
            _wait_until_it_listens(running)
            time.sleep(rng.uniform(0, 1.1) * seconds)
            running.send_signal(sent)
            code, err = ended(running)
            if wrong := reported(code, err, (0, *ENDED[sent])) or _orphans(running.pid):
                return wrong
            stray = [n for n in files(folder).keys() - before.keys() if not n.startswith("sw/")]
            if wrong := f"left: {stray}" if stray else reported(*ended(start(arguments, folder)), (0,)):
                return wrong
            hidden = [n for n in files(folder) if Path(n).name.startswith(".")]
            return (
                f"left: {hidden}" if hidden else "" if _rows(folder) == rows else "continued, it finds something else"
            )

    return once


def _orphans(session: int) -> str:
    """Whether processes of a session go on."""
    for _ in range(100):
        alive = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = entry.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                alive.append(entry.parent.name)
        if not alive:
            return ""
        time.sleep(0.05)
    return f"processes go on: {alive}"


def full_disk() -> Callable[[random.Random, int], str]:
    """A disk without room: a small tmpfs where one can be mounted (for root), or a limit to the size of a file."""
    jobs = {name: (job, made(job, job.old)[0], made(job, job.new)[0]) for name, job in JOBS.items()}

    def once(rng: random.Random, number: int) -> str:
        job, old, new = jobs[list(jobs)[number % len(jobs)]]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            mounted = number % 2 == 0 and os.geteuid() == 0 and _mounted(folder)
            try:
                before = filled(folder, old)
                if mounted:
                    _take_all_but(folder, rng.randrange(0, sum(map(len, new.values()))))
                    before = {**before, "ballast": (folder / "ballast").read_bytes()}
                most = None if mounted else rng.randrange(0, max(map(len, new.values())))
                code, err = ended(start((*job.new, "-o", "out.onnx"), folder, two_files=job.two_files, most=most))
                return reported(code, err, (0, 3)) or left(folder, before, (new,) if code == 0 else (old,))
            finally:
                if mounted:
                    subprocess.run(["umount", folder], check=True)

    return once


def filled(folder: Path, old: Files) -> Files:
    """A folder with what commands read, and with results of before; the files that it has without those."""
    fill(folder)
    before = files(folder)
    for name, content in old.items():
        (folder / name).write_bytes(content)
    return before


def _mounted(folder: Path) -> bool:
    return (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True).returncode == 0
    )


def _take_all_but(folder: Path, room: int) -> None:
    free = os.statvfs(folder)
    (folder / "ballast").write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - room)))


def read_only() -> Callable[[random.Random, int], str]:
    """A file, a folder or a file system that may not be written."""
    job = JOBS["compile"]
    old = made(job, job.old)[0]

    def once(rng: random.Random, number: int) -> str:
        arguments = rng.choice((JOBS["compile"].new, JOBS["tune"].new, ("run", "m.onnx", "--data", "d.npz", "-q")))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            root = os.geteuid() == 0
            mounted = number % 2 == 0 and root and _mounted(folder)
            try:
                before = filled(folder, old)
                if mounted:
                    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
                elif root or number % 4 == 1:
                    (folder / "out.onnx").chmod(0o444)
                else:
                    folder.chmod(0o555)
                code, err = ended(start((*arguments, "-o", "out.onnx"), folder))
                return reported(code, err, (3,)) or left(folder, before, (old,))
            finally:
                folder.chmod(0o755) if not mounted else subprocess.run(["umount", folder], check=True)

    return once


def two_writers() -> Callable[[random.Random, int], str]:
    """Two commands that replace one file: one of them is whole in the end."""
    jobs = {
        name: (JOBS[name], made(JOBS[name], JOBS[name].old)[0], made(JOBS[name], JOBS[name].new)[0])
        for name in ("compile", "two files")
    }

    def once(rng: random.Random, number: int) -> str:
        job, old, new = jobs[list(jobs)[number % 2]]
        with place() as folder:
            before = files(folder)
            running = []
            for arguments in (job.old, job.new):
                running.append(start((*arguments, "-o", "out.onnx"), folder, two_files=job.two_files))
                time.sleep(rng.choice((0, 0, rng.uniform(0, 0.3))))
            ends = [ended(each) for each in running]
            return next(filter(None, (reported(*end, (0,)) for end in ends)), "") or left(folder, before, (old, new))

    return once


def vanished() -> Callable[[random.Random, int], str]:
    """The folder to write to is removed at a random moment."""
    job = JOBS["compile"]
    seconds = made(job, job.new)[1]

    def once(rng: random.Random, number: int) -> str:
        job = JOBS[rng.choice(list(JOBS))]
        with place() as folder:
            before = files(folder)
            (folder / "sub").mkdir()
            running = start((*job.new, "-o", "sub/out.onnx"), folder, two_files=job.two_files)
            time.sleep(rng.uniform(0, 1.2) * seconds)
            shutil.rmtree(folder / "sub", ignore_errors=True)
            return reported(*ended(running), (0, 3)) or left(folder, before, ({},), strict=False)

    return once


FAULTS: dict[str, Callable[[], Callable[[random.Random, int], str]]] = {
    "kill compile": lambda: killed(JOBS["compile"]),
    "kill tune": lambda: killed(JOBS["tune"]),
    "kill two files": lambda: killed(JOBS["two files"]),
    "kill sweep": killed_sweep,
    "full disk": full_disk,
    "read-only": read_only,
    "two writers": two_writers,
    "vanished folder": vanished,
}


def main() -> int:
    """Exit code 1 if anything was lost or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=6, help="of each fault; the three signals take turns")
    parser.add_argument("--fault", choices=FAULTS, help="one fault only")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell, children would ignore it
    bad = Counter[str]()
    for name in [asked.fault] if asked.fault else FAULTS:
        once, began = FAULTS[name](), time.perf_counter()
        for number in range(asked.times):
            if wrong := once(random.Random(f"{asked.seed}/{name}/{number}"), number):
                bad[name] += 1
                print(f"  {name} {number} of seed {asked.seed}: {wrong}", flush=True)
        print(
            f"{name}: seed {asked.seed}, {asked.times} times in {time.perf_counter() - began:.0f} s, "
            f"{bad[name]} do not hold",
            flush=True,
        )
    return int(bad.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
