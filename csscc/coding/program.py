"""The neuron's program over a schedule, written once: accumulate, target, subtract, fire, send.

Whatever executes a neuron as a graph writes these steps with operations of its own, an `Algebra`: one that writes plain
ONNX operators, one that stays in the layout of onnxruntime's convolutions, one that writes a single step with its
state. A value is whatever the algebra handles, such as the name of a tensor. `csscc.coding.oracle` states in NumPy, by
hand, which spikes must come of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from csscc.coding.schedule import Schedule, resolution

Value = TypeVar("Value")


class Algebra(Protocol[Value]):
    """The operations of a neuron; each rounds as one float32 operation on an element does, or not at all."""

    def plus(self, before: Value | None, value: Value, factor: float) -> Value:
        """``before + factor * value``, the product rounded before the sum; the product alone without `before`."""

    def target(self, membranes: Sequence[Value]) -> Value:
        """What the spikes should send, in units of theta, of the accumulated inputs."""

    def potential(self, target: Value, sent: Value | None) -> Value:
        """What is still to be sent: ``target - sent``."""

    def fire(self, potential: Value, decides: float) -> Value:
        """The spike that a potential causes, above a threshold or below minus that; or a burst, see `Schedule`."""

    def with_spike(self, sent: Value | None, spike: Value, weight: float) -> Value:
        """What was sent, with `spike`: ``sent + weight * spike``."""

    def left(self, rest: Value, spike: Value, weight: float) -> Value:
        """What is left of a value once `spike` is sent of it: ``rest - weight * spike``."""

    def nearest(self, value: Value, per: float, least: float, most: float) -> Value:
        """The whole number nearest to ``value / per``, halves to even, within ``least .. most``."""

    def share(self, sent: Value | None, weight: float, extra: Value | None) -> Value:
        """``sent / weight + extra``, both exact: the sum that the first steps of a train send."""

    def step(self, spike: Value) -> Value:
        """A spike as others read it."""


@dataclass(frozen=True)
class Train:
    """How a train of T steps is carried: its first steps as one sum, the others one by one.

    Attributes:
        merged: ``w_1 .. w_s`` with ``w_s = 1``: the first tensor is ``w_1 * S[1] + ... + w_s * S[s]``; (1,): every step
            is a tensor of its own.
    """

    merged: tuple[float, ...] = (1.0,)

    @property
    def steps(self) -> int:
        """How many steps the first tensor stands for."""
        return len(self.merged)


EVERY_STEP = Train()


def merged_head(ops: Algebra[Value], merged: Sequence[float], reads: int, slabs: Sequence[Value]) -> Value:
    """The first steps of a train as one sum, see `Schedule.merged`; the first `reads` of them come as one slab."""
    total = slabs[0] if merged[reads - 1] == 1 else ops.plus(None, slabs[0], merged[reads - 1])
    for t in range(reads + 1, len(merged) + 1):
        total = ops.plus(total, slabs[t - reads], merged[t - 1])
    return total


def between(ops: Algebra[Value], potential: Value, rounded: Value) -> Value:
    """Half way from a potential to the whole number next to it, where no threshold lies: see `Schedule.rounded`."""
    return ops.plus(ops.plus(None, rounded, 0.5), potential, 0.5)


def encoder(ops: Algebra[Value], s: Schedule, sends: Train, value: Value) -> list[Value]:
    """The slabs of the train of a value, in units of theta (Theorem 2)."""
    sender = _Sender(ops, s, sends)
    sender.digits(value)
    return sender.slabs


def neuron(
    ops: Algebra[Value],
    s: Schedule,
    sends: Train,
    currents: Sequence[Sequence[Value]],
    biases: Sequence[Value],
    *,
    reads: int = 1,
    residual: bool = False,
) -> tuple[list[Value], Value | None]:
    """A TSA neuron: the slabs that it sends, and its residual if asked for.

    Args:
        ops: writes the operations.
        s: when it receives and fires.
        sends: how the train it sends is carried.
        currents: the slabs of each input of its activation.
        biases: what each membrane holds from the start.
        reads: how many first steps of the inputs come as one slab, at most as many as the schedule merges.
        residual: whether what stays unsent is wanted too.
    """
    sender, received = _Sender(ops, s, sends), len(s.merged)
    first = s.weights[received - 1]
    inputs = list(zip(currents, biases, strict=True))
    membranes = [ops.plus(bias, merged_head(ops, s.merged, reads, slabs), first) for slabs, bias in inputs]
    target: Value | None = None
    for k in range(1, s.T + 1):
        while received < min(k + s.silent, s.T):
            slab, weight, target = received + 1 - reads, s.weights[received], None
            membranes = [ops.plus(h, slabs[slab], weight) for h, slabs in zip(membranes, currents, strict=True)]
            received += 1
        target = ops.target(membranes) if target is None else target
        potential = ops.potential(target, sender.sent)
        if s.rounded and k == s.shared:
            sender.group(potential, track=residual)
            break
        sender.send(potential, track=k < s.T or residual)
    assert target is not None
    return sender.slabs, ops.potential(target, sender.sent) if residual else None


class _Sender(Generic[Value]):
    """What a neuron has sent so far, and the slabs that carry it.

    Attributes:
        sent: the value of all spikes so far, where it was kept up.
        slabs: the head, and the steps after it.
    """

    def __init__(self, ops: Algebra[Value], s: Schedule, sends: Train) -> None:
        self.sent: Value | None = None
        self.slabs: list[Value] = []
        self._ops, self._s, self._train, self._merged = ops, s, sends, sends.steps
        self._count = 0

    def send(self, potential: Value, *, track: bool) -> Value:
        """Decide the next spike; with `track`, keep up what was sent."""
        weight = self._s.weights[self._count]
        spike = self._ops.fire(potential, self._s.decides[self._count])
        self._count += 1
        in_head = self._merged > 1 and self._count <= self._merged
        if track or in_head:
            self.sent = self._ops.with_spike(self.sent, spike, weight)
        if not in_head:
            self.slabs.append(self._ops.step(spike))
        elif self._count == self._merged:
            self.slabs.append(self._head(weight, None))
        return spike

    def digits(self, rest: Value, *, track: bool = False) -> None:
        """Send all spikes that are left of one value."""
        while self._count < self._s.T:
            spike = self.send(rest, track=track)
            if self._count < self._s.T:
                rest = self._ops.left(rest, spike, self._s.weights[self._count - 1])

    def group(self, potential: Value, *, track: bool) -> None:
        """Send all spikes of a potential, rounded to a whole number, at once where the slabs allow it.

        The last digit to a base of three is what rounding a third of the number leaves; to a base of two there are
        several ways to write a number.
        """
        T, merged, weights, ops = self._s.T, self._merged, self._s.weights, self._ops
        at_once = merged > self._count and (merged == T or weights[-2] == 3 * weights[-1])
        least, most = self._s.whole(self._count + 1)
        rounded = ops.nearest(potential, 1.0, least, most)
        if track or not at_once:
            return self.digits(between(ops, potential, rounded), track=track)
        tail: list[Value] = []
        for _ in range(T - merged):
            most = (most - self._s.counts[1]) / 3
            bounds = (-most, most) if self._s.burst else (-math.inf, math.inf)
            higher = ops.nearest(rounded, 3.0, *bounds)
            tail.append(ops.left(rounded, higher, 3.0))
            rounded = higher
        self.slabs += [self._head(weights[merged - 1], rounded), *reversed(tail)]

    def _head(self, weight: float, extra: Value | None) -> Value:
        """The first steps as one sum, exactly: what they sent, in units of `weight`, and `extra`.

        Where what they sent needs more bits than a float32 number has, it was rounded. The sum needs fewer: it is a
        whole number of steps that are a power of two, and the nearest of these is the right one.
        """
        sent, first = self.sent, self._s.weights[: self._merged]
        most = sum(first) * self._s.counts[1]
        if sent is None or weight == 1 or most / resolution(first) <= 2**24:
            return self._ops.share(sent, weight, extra)
        steps = 1 / resolution(self._train.merged)
        return self._ops.share(self._ops.nearest(sent, weight / steps, -math.inf, math.inf), steps, extra)
