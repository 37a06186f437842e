"""What a neuron does at each step, as numbers: all that a program, a kernel or a runtime needs of a coding.

A schedule stands on every spiking node, so nobody who reads one raises beta to a power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from csscc.coding.thresholds import halves, reciprocals

ROOM = 8  # bits that merged steps may take from the grid of the weights
PRECISION = 16  # bits of the grid that merged steps and the levels of a value may take together


@dataclass(frozen=True)
class Schedule:
    """The weight of a spike at each step, when a neuron reads input, and when it may fire.

    Attributes:
        weights: what a spike at step t = 1..T counts, in units of theta; T numbers.
        silent: steps L for which a neuron only receives before it may fire; spike k is decided after step k + L.
        merged: ``w_1 .. w_m`` with ``w_m = 1`` and ``m <= L + 1``: a neuron receives the first m steps of its input as
            one sum, ``w_1 * z[1] + ... + w_m * z[m]``, of the weight ``weights[m]``; ``(1,)`` for none. The numbers are
            so short that the sum is exact.
        rounded: spikes that are decided after the last step of input, ``shared .. T``, share one target; together
            they send what is left, rounded to a whole number, halves to even. (Without it they do so as
            well, but for halves, which go either way.)
        negative: whether spikes of -1 are sent.
        burst: whether two spikes of either sign may be sent at a step, besides one or none: as many as are nearest to
            the product of the potential and the reciprocal of twice the threshold, halves to even.
        thresholds: the potential above which each spike is sent, in units of theta; T numbers; half of
            `weights` if left out.
        constant: of an encoder: it sends the same part of its value at each step, ``1 / levels``, not spikes.
        most: the largest magnitude, in units of theta, that is to be sent; what lies above it is cut off.
    """

    weights: tuple[float, ...]
    silent: int = 0
    merged: tuple[float, ...] = (1.0,)
    rounded: bool = False
    negative: bool = True
    burst: bool = False
    thresholds: tuple[float, ...] = ()
    constant: bool = False
    most: float = math.inf

    def __post_init__(self) -> None:
        """Thresholds that are left out are half of the weights of spikes.

        Raises:
            ValueError: there is not one threshold a step.
        """
        if not self.thresholds:
            object.__setattr__(self, "thresholds", halves(self.weights))
        if len(self.thresholds) != len(self.weights):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.weights)} steps")

    @property
    def T(self) -> int:  # noqa: N802 (the field's name for it)
        """Coding steps."""
        return len(self.weights)

    @property
    def shared(self) -> int:
        """The first spike, from 1, that is decided after the last step of input, as are all after it."""
        return max(1, self.T - self.silent)

    @property
    def levels(self) -> float:
        """Largest encodable value in units of theta, ``sum(weights)`` or `most`; twice that for bursts."""
        return min(float(sum(self.weights)), self.most) * self.counts[1]

    @property
    def counts(self) -> tuple[float, float]:
        """The least and the largest number of spikes at a step, by which the weight of one is multiplied."""
        most = 2.0 if self.burst else 1.0
        return (-most if self.negative else 0.0, most)

    @property
    def decides(self) -> tuple[float, ...]:
        """What decides at each step: the threshold, or of bursts what the potential is multiplied by, in float32."""
        return reciprocals(self.thresholds) if self.burst else self.thresholds

    def whole(self, first: int) -> tuple[float, float]:
        """The least and the largest whole number of units of theta that the spikes from number `first` on can send."""
        each, (least, most) = float(sum(self.weights[first - 1 :])), self.counts
        return (least * each, most * each)

    def head(self, merged: tuple[float, ...] | None = None) -> Head:
        """The first steps of a neuron's input that it reads as one sum: those of `merged`, or fewer."""
        weights = self.merged if merged is None else merged
        return Head(weights, self.most / self.weights[len(weights) - 1])


@dataclass(frozen=True)
class Head:
    """The first steps of a train as one sum.

    Attributes:
        weights: of the spikes of each step, see `Schedule.merged`.
        most: the largest magnitude that the sum can have, if that is less than the sum of all weights.
    """

    weights: tuple[float, ...]
    most: float = math.inf

    @property
    def largest(self) -> float:
        """The largest magnitude of the sum."""
        return min(sum(self.weights), self.most)

    @property
    def bits(self) -> float:
        """Bits, not rounded up, that the sum takes: of its magnitude over its resolution."""
        return math.log2(self.largest / resolution(self.weights))


def resolution(weights: Sequence[float]) -> float:
    """The largest power of two of which every number is a whole multiple."""
    parts = [float(w).as_integer_ratio() for w in weights]
    common = max(denominator for _, denominator in parts)
    divisor = math.gcd(*(numerator * (common // denominator) for numerator, denominator in parts))
    return float(divisor & -divisor) / common
