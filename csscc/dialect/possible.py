"""What the node of a file cannot state of its coding: functions, kernels and NumPy would each read it otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

from csscc import limits
from csscc.coding.schedule import Schedule
from csscc.errors import RefusedError

View = TypeVar("View", bound=Any)
SAME = 1e-6  # relative difference of a merged step's weight, which float32 rounds


def possible(view: View) -> View:
    """The `csscc.dialect.spiking.Spiking` of a node whose attributes do not contradict each other.

    Raises:
        RefusedError: they do.
    """
    if fault := _impossible(view):
        raise RefusedError(f"node '{view.name}' ({view.op}) states {fault}; compile the network again")
    return view


def _impossible(view: Any) -> str:
    schedule: Schedule = view.schedule
    sends: Sequence[float] = view.sends.merged
    merged, T = schedule.merged, schedule.T
    most = limits.SPIKE_WEIGHT
    if not all(1 / most <= number <= most for number in (*schedule.weights, *schedule.thresholds)):  # nor NaN
        return "weights or thresholds of spikes that are not positive numbers"
    if schedule.weights[-1] != 1:
        return f"{schedule.weights[-1]:g} as the weight of the last spike, which is 1"
    if not schedule.most >= 1:
        return f"{schedule.most:g} as the largest value that it sends"
    if not (_fits(merged, schedule.weights) and _fits(sends, schedule.weights)):
        return "sums of steps whose weights are not those of its spikes"
    together = T if view.is_readout else len(merged)
    if not 1 <= view.reads <= together:
        return f"that {view.reads} steps come as one slab, of {together} that may"
    if view.is_neuron and not len(merged) - 1 <= schedule.silent <= T:
        return f"{schedule.silent} silent steps of {T}, and that {len(merged)} steps are one sum"
    if schedule.burst and not schedule.negative:
        return "bursts, and that no spike is negative"
    if schedule.constant and len(sends) > 1:
        return "the same value at each step, and sums of steps"
    return ""


def _fits(head: Sequence[float], weights: Sequence[float]) -> bool:
    """Whether the numbers of the first steps of a train are the weights of its spikes, in units of the last of them."""
    if not 1 <= len(head) <= len(weights):
        return False
    last = weights[len(head) - 1]
    return all(math.isclose(h * last, w, rel_tol=SAME) for h, w in zip(head, weights, strict=False))
