"""A neuron in the layout of onnxruntime's convolutions, where the weights of its spikes are powers of two.

There a potential needs no factor before it is rounded: adding `MAGIC` times a power of two rounds to a multiple of that
power. So what was sent, p, is kept as what is left of such a large number, and one convolution that adds does both: it
subtracts what was sent, and rounds. ::

    rest[k] = MAGIC * q[k] - p[k-1]
    large   = rest[k] + f(h)                          rounded to a multiple of q[k]
    S[k]    = clip(large / q[k] - MAGIC)
    rest[k+1] = rest[k] - q[k] * S[k] + MAGIC * (q[k+1] - q[k])

Only the second line rounds. It rounds ``f(h) - p[k-1]`` once, where `csscc.coding.oracle` rounds it to a float32 before
it decides. Both decide alike: p is a multiple of ``2 * q[k]``, so that difference is a float32, or of more than
``q[k]`` with the sign of ``-p``, for which any such number sends the same spike. A burst may be of one or of two spikes
there: where p is ``2 * q[k]`` and f(h) the float32 above half of q[k], the oracle sends two, and this would send one.
"""

from __future__ import annotations

import math
from itertools import pairwise

from csscc.coding.program import Train
from csscc.coding.schedule import Schedule
from csscc.coding.thresholds import halves
from csscc.dialect.plain import NeuronSignature
from csscc.dialect.text import Body
from csscc.passes.lower.blocks import MAGIC, Blocks

LARGEST = 2.0**21  # times the least weight: as much may be sent, and a large number still rounds to multiples of it


def applies(schedule: Schedule) -> bool:
    """Whether neurons of a schedule can be written so."""
    weights = schedule.weights
    halved = all(math.frexp(w)[0] == 0.5 for w in weights) and all(a >= 2 * b for a, b in pairwise(weights))
    usual = schedule.thresholds == halves(weights) and not schedule.rounded and not schedule.burst
    return halved and usual and schedule.levels <= LARGEST * weights[-1]


class PowersOfTwo(Blocks):
    """`Blocks` in which a potential is summed and rounded at once.

    The first spike, before which nothing was sent, stays the large number that it was rounded to until it is read.
    """

    def __init__(self, body: Body, schedule: Schedule, sends: Train, signature: NeuronSignature) -> None:
        super().__init__(body, schedule, sends, signature)
        weights = schedule.weights
        self._weights = dict(zip(schedule.decides, weights, strict=True))
        self._next = dict(zip(weights, (*weights[1:], weights[-1]), strict=True))
        self._rounded_sums: set[str] = set()
        self._zero: dict[str, float] = {}  # which multiple of `MAGIC` stands for nothing, of large numbers

    def potential(self, target: str, sent: str | None) -> str:
        """A convolution that adds and rounds."""
        if sent is None:
            return target
        large = self._convolve.sum(self._convolve.affine(sent, 1.0), target)
        self._rounded_sums.add(large)
        return large

    def fire(self, potential: str, decides: float) -> str:
        """As many spikes as are nearest, halves to even."""
        weight, counts = self._weights[decides], self._schedule.counts
        if potential in self._rounded_sums:
            return self._convolve.clip(self._convolve.affine(potential, 1 / weight, -MAGIC), *counts)
        large = self._convolve.affine(potential, 1.0, MAGIC * weight)
        spike = self._convolve.clip(large, *(weight * (MAGIC + count) for count in counts))
        self._zero[spike] = weight
        return spike

    def with_spike(self, sent: str | None, spike: str, weight: float) -> str:
        """A convolution that adds: the rest of the next large number."""
        following = self._next[weight]
        if spike in self._zero:
            rest = self._convolve.affine(spike, -1.0, MAGIC * (weight + following))
        else:
            assert sent is not None, "only the first spike is of a target alone"
            rest = self._convolve.sum(self._convolve.affine(spike, -weight, MAGIC * (following - weight) or None), sent)
        self._zero[rest] = following
        return rest

    def share(self, sent: str | None, weight: float, extra: str | None) -> str:
        """A product, exact."""
        assert sent is not None, "what is left is not rounded"
        assert extra is None, "what is left is not rounded"
        return self._convolve.affine(sent, -1 / weight, MAGIC * self._zero[sent] / weight)

    def step(self, spike: str) -> str:
        """A spike is a float32 already, but for the first."""
        return self._convolve.affine(spike, 1 / self._zero[spike], -MAGIC) if spike in self._zero else spike
