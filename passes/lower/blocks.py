"""A neuron in the layout of onnxruntime's convolutions: products and sums as depthwise convolutions of one element.

On a CPU, onnxruntime convolves in a layout of its own, channels in blocks of 8 or 16, and brings tensors into that
layout and back wherever an operator stands that does not know it. Of a neuron's usual operators it knows few. But it
knows convolutions, and a depthwise convolution with windows of one element is a product with a number and a sum with
another. So neurons whose channels fill whole blocks are written in those, and nothing is brought back:

    a = Conv <group = C> (z, q)            q * z
    y = Conv <group = C> (x, k, b)         k * x + b, where the product is rounded before the sum, as everywhere here

Every operation still is one IEEE operation on one element, the same as in `csscc.dialect.plain`, or one that decides
alike, so the spikes are the same bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from csscc.coding.activations import ACTIVATIONS
from csscc.coding.program import Train
from csscc.coding.schedule import Schedule, resolution
from csscc.dialect.plain import NeuronSignature, apply
from csscc.dialect.text import Body

LANES = 16  # channels of a block, or of two, on any processor
MAGIC = 1.5 * 2.0**23  # adding it rounds what is small to a whole number, halves to the even one
SHARP = 2.0**25  # makes the least difference between a potential and a threshold, 2**-24, larger than 1
_CONV = "Conv <group : int = @channels, kernel_shape = [1, 1]>"


class Depthwise:
    """Depthwise convolutions of one element over names of tensors ``[B, C, H, W]``; C is the attribute ``channels``.

    Args:
        body: gets the lines.
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        number, one = body.once("channels", "Constant <value_int : int = @channels> ()"), body.integers(1)
        self._count = body.once("count", f"Reshape({number}, {body.integers(-1)})")
        self._row = body.once("row", f"Concat <axis = 0> ({self._count}, {one}, {one})")
        self._filter = body.once("filter", f"Concat <axis = 0> ({self._row}, {one})")

    def vector(self, constant: str) -> str:
        """One number a channel, of a constant that is that or one number; an offset of `affine`."""
        return self._body.once("vector", f"Reshape({self._each(constant)}, {self._body.integers(-1)})")

    def scaled(self, x: str, constant: str) -> str:
        """A product with a constant that is one number, or one a channel."""
        filters = self._body.once("filters", f"Reshape({self._each(constant)}, {self._filter})")
        return self._body.add("y", f"{_CONV} ({x}, {filters})")

    def every(self, x: str, rows: int, columns: int) -> str:
        """Every n-th row and column."""
        ones = self._spread(1.0, self._filter)
        return self._body.add("y", f"{_CONV[:-1]}, strides = [{rows}, {columns}]> ({x}, {ones})")

    def placed(self, x: str, before: int, channels: int) -> str:
        """An image's channels after `before` others of zeros, `channels` in all."""
        rows = self._body.once("row", f"Concat <axis = 0> ({self._body.integers(channels)}, {self._count})")
        ones = self._body.once("ones", f"EyeLike <dtype = 1, k = {-before}> ({self._spread(0.0, rows)})")
        filters = self._body.once("filters", f"Unsqueeze({ones}, {self._body.integers(-2, -1)})")
        return self._body.add("y", f"Conv <kernel_shape = [1, 1]> ({x}, {filters})")

    def affine(self, x: str, factor: float, offset: float | str | None = None) -> str:
        """``factor * x + offset``, the product rounded before the sum."""
        given = [x, self._spread(factor, self._filter)]
        if offset is not None:
            given.append(offset if isinstance(offset, str) else self._spread(offset, self._count))
        return self._body.add("a", f"{_CONV} ({', '.join(given)})")

    def sum(self, product: str, other: str) -> str:
        """A sum; `product` is one of `affine` without an offset, which adds the other."""
        return self._body.add("sum", f"Sum({product}, {other})")

    def clip(self, x: str, least: float, most: float) -> str:
        """`x` within bounds."""
        return self._body.add("cut", f"Clip({x}, {self._body.number(least)}, {self._body.number(most)})")

    def _spread(self, value: float, shape: str) -> str:
        return self._body.once("spread", f"Expand({self._body.number(value)}, {shape})")

    def _each(self, constant: str) -> str:
        """A constant with one number a channel."""
        rows = self._body.once("rows", f"Reshape({constant}, {self._body.integers(-1, 1, 1)})")
        return self._body.once("each", f"Expand({rows}, {self._row})")


class Blocks:
    """`csscc.coding.program.Algebra` over names of tensors ``[B, C, H, W]``; C is the node's attribute ``channels``.

    What was sent is kept with its sign turned, so that a Sum subtracts it. In a sum, a depthwise convolution without an
    offset comes first: onnxruntime lets it add the other. It must not be a convolution of the network, which would add
    in the midst of its own sum, nor one with an offset, which would add that last. A Sum, since where there are no
    blocks, it would make one matrix product of such a convolution, an Add and a Relu, and round once.
    """

    def __init__(self, body: Body, schedule: Schedule, sends: Train, signature: NeuronSignature) -> None:
        self._body, self._schedule, self._sends, self._signature = body, schedule, sends, signature
        self._convolve = Depthwise(body)
        self._vectors: set[str] = set()
        self._positive: set[str] = set()  # potentials that are never negative
        self._first: dict[str, tuple[str, float]] = {}  # potential and threshold of a spike not made before it is read
        self._large: dict[str, str] = {}  # of bursts that are made once they are read, `MAGIC` more
        self._made: dict[str, str] = {}
        self._potentials = 0
        self._powers = all(math.frexp(w)[0] == 0.5 for w in schedule.weights)

    def bias(self, constant: str) -> str:
        """A bias as `plus` takes it, of one number or one a channel."""
        vector = self._convolve.vector(constant)
        self._vectors.add(vector)
        return vector

    def plus(self, before: str | None, value: str, factor: float) -> str:
        """A convolution that adds."""
        if before in self._vectors:
            return self._convolve.affine(value, factor, before)
        product = self._convolve.affine(value, factor)
        return product if before is None else self._convolve.sum(product, before)

    def target(self, membranes: Sequence[str]) -> str:
        """The activation, which is homogeneous."""
        target = apply(self._body, self._signature, membranes)
        if not math.isinf(self._schedule.most):
            target = self._convolve.clip(target, -self._schedule.most, self._schedule.most)
        if ACTIVATIONS[self._signature.op].positive and not self._schedule.burst:
            self._positive.add(target)
        return target

    def potential(self, target: str, sent: str | None) -> str:
        """A convolution that adds, which is faster; an Add where the target is read again, and would be copied."""
        self._potentials += 1
        s = self._schedule
        if sent is None:
            return target
        if s.shared <= self._potentials < s.T and not s.rounded:
            return self._body.add("potential", f"Add({target}, {sent})")
        return self._convolve.sum(self._convolve.affine(sent, 1.0), target)

    def fire(self, potential: str, decides: float) -> str:
        """See `csscc.coding.oracle.fire`.

        Where a float32 is close enough to ``1 / 2c`` for a threshold c, a potential is multiplied by it, and rounded by
        an addition. Elsewhere its distance to each threshold is made larger than any spike, and cut off. So is it where
        potentials are never negative: what such a spike subtracts needs no spike. Bursts are rounded as well.
        """
        if self._schedule.burst:
            burst = self._body.name("burst")
            self._large[burst] = self._large_rounded(potential, decides, *self._schedule.counts)
            return burst
        threshold = float(np.float32(decides))
        per_twice, negative = reciprocal(2 * threshold), self._schedule.negative
        if potential in self._positive and threshold < SHARP / 2:  # or float32 would overflow
            spike = self._body.name("spike")
            self._first[spike] = potential, threshold
            return spike
        if negative and per_twice is not None:
            return self._rounded(potential, per_twice, -1.0, 1.0)
        positive = self._above(potential, threshold, 1.0)
        if not negative:
            return positive
        below = self._convolve.clip(self._convolve.affine(potential, SHARP, threshold * SHARP), -1.0, 0.0)
        return self._body.add("spike", f"Add({positive}, {below})")

    def with_spike(self, sent: str | None, spike: str, weight: float) -> str:
        """A convolution that adds."""
        if spike in self._first:
            assert sent is None, "only the first spike is of a target alone"
            return self._above(*self._first[spike], -weight)
        if spike in self._large and self._powers:  # then what was sent is a multiple of `weight`, and all is exact
            value = self._convolve.affine(self._large[spike], -weight, MAGIC * weight)
        else:
            value = self._convolve.affine(self.step(spike), -weight)
        return value if sent is None else self._convolve.sum(value, sent)

    def left(self, rest: str, spike: str, weight: float) -> str:
        """A convolution that adds."""
        return self._convolve.sum(self._convolve.affine(self.step(spike), -weight), rest)

    def nearest(self, value: str, per: float, least: float, most: float) -> str:
        """Rounded by an addition: thirds of whole numbers are far enough from halves to be multiplied by 1/3."""
        return self._rounded(value, 1 / per, least, most)

    def share(self, sent: str | None, weight: float, extra: str | None) -> str:
        """A product with the reciprocal, rounded to what the sum can be where that is not exact by itself."""
        if sent is None:
            assert extra is not None
            return extra
        if self._divides(weight):
            share = self._convolve.affine(sent, -1 / weight)
        else:
            coarse = MAGIC * resolution(self._sends.merged)
            share = self._convolve.affine(self._convolve.affine(sent, -1 / weight, coarse), 1.0, -coarse)
        return share if extra is None else self._convolve.sum(self._convolve.affine(share, 1.0), extra)

    def step(self, spike: str) -> str:
        """A spike is a float32 already, but for those that are made here."""
        if spike in self._large:
            if spike not in self._made:
                self._made[spike] = self._convolve.affine(self._large[spike], 1.0, -MAGIC)
            return self._made[spike]
        if spike not in self._first:
            return spike
        return self._above(*self._first[spike], 1.0)

    def _above(self, potential: str, threshold: float, value: float) -> str:
        """`value` where a potential is above a threshold, else 0: a distance of either sign, larger than any value."""
        sharp = SHARP * 2.0 ** math.ceil(math.log2(abs(value))) * (1 if value > 0 else -1)
        bounds = (0.0, value) if value > 0 else (value, 0.0)
        return self._convolve.clip(self._convolve.affine(potential, sharp, -threshold * sharp), *bounds)

    def _divides(self, weight: float) -> bool:
        """Whether the product with ``1 / weight`` of all that the first steps can have sent is what they send."""
        if weight == 1:
            return True
        finest = resolution(self._sends.merged)
        most = self._schedule.counts[1] * sum(self._sends.merged)
        share = (np.arange(round(most / finest) + 1) * finest).astype(np.float32)
        return bool((share * np.float32(weight) * np.float32(1 / weight) == share).all())

    def _rounded(self, value: str, factor: float, least: float, most: float) -> str:
        return self._convolve.affine(self._large_rounded(value, factor, least, most), 1.0, -MAGIC)

    def _large_rounded(self, value: str, factor: float, least: float, most: float) -> str:
        """The whole number nearest to ``factor * value``, within bounds, and `MAGIC`."""
        large = self._convolve.affine(value, factor, MAGIC)
        return large if math.isinf(most) else self._convolve.clip(large, MAGIC + least, MAGIC + most)


def reciprocal(twice: float) -> float | None:
    """A float32 whose rounded product with a float32 is above 1/2 exactly where that is above half of `twice`.

    Products grow with what is multiplied, so the two numbers next to the threshold decide. None if there is no such
    number: the floats are then too coarse about ``1 / twice``.
    """
    half = np.float32(twice / 2)
    above = np.nextafter(half, np.float32(np.inf))
    nearest = np.float32(1 / twice)
    for number in (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(np.inf))):
        if half * number <= np.float32(0.5) < above * number:
            return float(number)
    return None
