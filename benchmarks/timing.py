"""Times that can be compared although the machine is not quiet: taken in turn, quoted as ratios within a turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Clock = Callable[[], float]
FEWEST = 3
REST = 0.2  # seconds; threads of OpenBLAS, OpenMP and onnxruntime spin for tens of milliseconds behind their work
STEADY = 0.1  # seconds of runs after which a processor that rested has its speed again
LONG = 2.0  # seconds of a run that need no other before it


def seconds_of(work: Callable[[], Any]) -> Clock:
    """A clock that does `work` once and returns the seconds it took."""

    def clock() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return clock


def interleaved(cases: Mapping[str, Clock], repeats: int, budget: float = 60.0) -> dict[str, list[float]]:
    """Seconds of every case in each of up to `repeats` turns, behind one turn that warms up.

    Turns end early once they have taken `budget` seconds, but there are at least three.
    """
    for clock in cases.values():
        clock()
    times: dict[str, list[float]] = {name: [] for name in cases}
    start = time.perf_counter()
    for turn in range(repeats):
        if turn >= FEWEST and time.perf_counter() - start > budget:
            break
        for name, clock in cases.items():
            times[name].append(_undisturbed(clock))
    return times


def _undisturbed(clock: Clock) -> float:
    """Seconds of a case whatever ran before it: behind a rest and runs that warm up, the mean of as many short ones."""
    time.sleep(REST)
    warm = clock()
    if warm > LONG:
        return warm
    while warm < STEADY:
        warm += clock()
    taken = [clock()]
    while sum(taken) < STEADY:
        taken.append(clock())
    return statistics.fmean(taken)


def summary(times: Mapping[str, list[float]], unit: str) -> dict[str, dict[str, float]]:
    """Of each case: median seconds, and the ratio to case `unit` in the same turn, as median and quartiles."""
    result = {}
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(taken, times[unit], strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        seconds = statistics.median(taken)
        result[name] = {"seconds": seconds, "ratio": ratio, "low": low, "high": high, "turns": len(taken)}
    return result
