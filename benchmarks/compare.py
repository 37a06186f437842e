"""Compare two results: which figures became worse by more than noise explains.

Times are compared as ratios to the dense limit of their own run, so two runs may come from machines of different
speed. A ratio's noise is that of a median, from its quartiles: the standard error of the median of normal values is
1.2533 * deviation / sqrt(n), and the deviation is the interquartile range over 1.349.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SIGMAS = 3.0
LEAST = {"time": 0.05, "compile": 0.5, "session": 0.5, "memory": 0.1, "size": 0.02, "passes": 0.001}


@dataclass(frozen=True)
class Figure:
    """A measured number; less is better.

    Attributes:
        kind: a key of `LEAST`, the relative change that is never a regression.
        value: the number.
        noise: its relative standard error.
    """

    kind: str
    value: float
    noise: float = 0.0


@dataclass(frozen=True)
class Change:
    """A figure in two results."""

    name: str
    before: float
    after: float
    bound: float

    @property
    def factor(self) -> float:
        """How many times the figure before."""
        return self.after / self.before

    @property
    def regressed(self) -> bool:
        """Whether it became worse by more than noise."""
        return self.factor > 1 + self.bound


def figures(result: dict[str, Any]) -> dict[str, Figure]:
    """All comparable figures of a result, by name."""
    return dict(_figures(result))


def _figures(result: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    for network, all_codings in result["networks"].items():
        unit = all_codings["ann_seconds"]
        for coding, row in all_codings["codings"].items():
            name = f"{network}, {coding}"
            yield f"{name}, compile: time", Figure("compile", row["compile"]["seconds"] / unit)
            yield f"{name}, compile: peak memory", Figure("memory", row["compile"]["peak_mb"])
            yield f"{name}, session: time", Figure("session", row["session_seconds"] / unit)
            yield f"{name}, file: bytes", Figure("size", row["files"]["snn_bytes"])
            yield f"{name}, file: nodes", Figure("size", row["files"]["snn_nodes"])
            yield f"{name}, convolution passes", Figure("passes", row["costs"]["passes"])
            for batch, cases in row["batches"].items():
                for what, case in cases.items():
                    if what not in ("ANN", "dense limit"):
                        spread = (case["high"] - case["low"]) / 1.349 / case["ratio"]
                        noise = 1.2533 * spread / np.sqrt(case["turns"])
                        yield f"{name}, batch {batch}: {what}", Figure("time", case["ratio"], float(noise))


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """The figures that both results have, in order.

    Raises:
        ValueError: they have none in common, or were measured with different threads or calibrations.
    """
    for key in ("threads", "calibration"):
        if before["settings"][key] != after["settings"][key]:
            raise ValueError(f"not comparable: {key} is {before['settings'][key]} and {after['settings'][key]}")
    if any("codings" not in result["settings"] for result in (before, after)):
        raise ValueError("not comparable: a result of an older benchmark, which measured one coding")
    old, new = figures(before), figures(after)
    shared = [name for name in old if name in new]
    if not shared:
        raise ValueError("not comparable: the two results have no figure in common")
    changes = []
    for name in shared:
        a, b = old[name], new[name]
        bound = max(LEAST[a.kind], SIGMAS * float(np.hypot(a.noise, b.noise)))
        changes.append(Change(name, a.value, b.value, bound))
    return changes
