"""Find quantisers in floating point: arithmetic with constants around a Round.

    x -> Div(scale) -> (Add(zero)) -> Round, Clip -> (Sub(zero)) -> Mul(scale)        in any order that means the same
    x -> Clip(0, 1) -> Mul(15) -> Round -> Div(15)

In front of the Round, the value is an affine function of x between bounds, ``clip(a * x + b, low, high)``; after it,
one of the whole number k, ``c * k + d``. It is a staircase of scale c if b is a whole number, ``d = -c * b``, so that
zero stays zero, both bounds are finite, and ``a * c = 1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike, NDArray

from csscc.dialect.rewrite import constant, only_reader, producer, unique_name

Array = NDArray[np.float64]
LONGEST = 6
NEAR = 1e-5
UNBOUNDED = float("inf")


@dataclass(frozen=True)
class Staircase:
    """Steps of `scale`, a number or an array that broadcasts after the batch, from `low` to `high` of them."""

    scale: NDArray[np.float32]
    low: float
    high: float

    def parameters(self, graph: gs.Graph, name: str) -> list[gs.Constant]:
        """The constant inputs of a node ``Quantise``."""
        factor = 1 / np.asarray(self.scale, np.float64)
        values: dict[str, ArrayLike] = {"factor": factor, "scale": self.scale, "low": self.low, "high": self.high}
        return [parameter(graph, f"{name}_{k}", v) for k, v in values.items()]


def parameter(graph: gs.Graph, name: str, value: ArrayLike) -> gs.Constant:
    """A float32 constant; a number has no axes, as a Clip wants its bounds."""
    return gs.Constant(unique_name(graph, name), np.array(value, np.float32))


@dataclass(frozen=True)
class _Affine:
    """``clip(slope * x + offset, low, high)``."""

    slope: Array
    offset: Array
    low: Array
    high: Array

    def then(self, node: gs.Node) -> _Affine | None:
        """With a node's arithmetic after it; None where that is none of these."""
        index = next((i for i in range(min(2, len(node.inputs))) if constant(node, i) is not None), None)
        if node.op == "Relu":
            return self._between(np.zeros(()), np.full((), UNBOUNDED))
        if node.op == "Clip":
            bounds = [constant(node, i) for i in (1, 2)]
            least, most = (_or(v, s * UNBOUNDED) for v, s in zip(bounds, (-1, 1), strict=True))
            return self._between(least, most)
        if index is None or len(node.inputs) != 2:
            return None
        value = _or(constant(node, index), 0.0)
        if node.op == "Max":
            return self._between(value, np.full((), UNBOUNDED))
        if node.op == "Min":
            return self._between(np.full((), -UNBOUNDED), value)
        if node.op == "Add" or (node.op == "Sub" and index == 1):
            shift = value if node.op == "Add" else -value
            return _Affine(self.slope, self.offset + shift, self.low + shift, self.high + shift)
        if (node.op == "Mul" or (node.op == "Div" and index == 1)) and (value > 0).all():
            factor = value if node.op == "Mul" else 1 / value
            return _Affine(self.slope * factor, self.offset * factor, self.low * factor, self.high * factor)
        return None

    def _between(self, least: Array, most: Array) -> _Affine:
        low, high = (np.clip(v, least, most) for v in (self.low, self.high))
        return _Affine(self.slope, self.offset, low, high)


def _or(values: NDArray[np.generic] | None, otherwise: float) -> Array:
    return np.full((), otherwise) if values is None else _scalar(np.asarray(values, np.float64))


def _scalar(values: Array) -> Array:
    return values.reshape(()) if values.size == 1 else values


def _start(low: Array, high: Array) -> _Affine:
    return _Affine(np.ones(()), np.zeros(()), low, high)


def staircase_around(graph: gs.Graph, node: gs.Node) -> tuple[gs.Tensor, gs.Node, Staircase] | None:
    """What the staircase around a Round reads, its last node, and the staircase; None if there is none."""
    if not _is_computed(node):
        return None
    before, after = list(_before(graph, node)), list(_after(graph, node))
    for last in range(len(after), 0, -1):
        for first in range(len(before) + 1):
            stairs = _staircase(before[:first][::-1], after[:last])
            if stairs is not None:
                source = before[first - 1] if first else node
                return source.inputs[_data(source)], after[last - 1], stairs
    return None


def _is_computed(node: gs.Node) -> bool:
    """Whether a node reads more than constants: what cannot be folded, as it cannot be run, may read nothing else."""
    return any(constant(node, i) is None for i in range(len(node.inputs)))


def _data(node: gs.Node) -> int:
    return next(i for i in range(len(node.inputs)) if constant(node, i) is None)


def _before(graph: gs.Graph, node: gs.Node) -> Iterator[gs.Node]:
    """Nodes in front of one, the nearest first, that one tensor enters and nothing else reads."""
    for _ in range(LONGEST):
        maker = producer(node.inputs[_data(node)])
        if maker is None or only_reader(graph, maker.outputs[0]) is None or not _plain(maker):
            return
        if not _is_computed(maker):
            return
        yield maker
        node = maker


def _after(graph: gs.Graph, node: gs.Node) -> Iterator[gs.Node]:
    for _ in range(LONGEST):
        reader = only_reader(graph, node.outputs[0])
        if reader is None or not _plain(reader):
            return
        yield reader
        node = reader


def _plain(node: gs.Node) -> bool:
    if node.domain or node.op not in ("Add", "Sub", "Mul", "Div", "Clip", "Relu", "Min", "Max"):
        return False
    return sum(constant(node, i) is None and bool(t.name) for i, t in enumerate(node.inputs)) == 1


def _staircase(before: list[gs.Node], after: list[gs.Node]) -> Staircase | None:
    infinite = np.full((), UNBOUNDED)
    front = _through(_start(-infinite, infinite), before)
    if front is None:
        return None
    low, high = np.rint(front.low), np.rint(front.high)
    back = _through(_start(low, high), after)
    if back is None or not all(np.isfinite(v).all() for v in (back.low, back.high)):
        return None
    scale, zero = back.slope, np.rint(front.offset)
    levels = [_scalar(np.asarray(v / scale)) for v in (back.low, back.high)]
    rounded = [np.rint(v) for v in levels]
    if any(v.size > 1 and (v != v.reshape(-1)[0]).any() for v in (*rounded, zero)):
        return None
    near = [
        np.abs(front.offset - zero).max() <= NEAR,
        np.abs(back.offset / scale + zero).max() <= NEAR * max(1.0, float(np.abs(zero).max())),
        np.abs(front.slope * scale - 1).max() <= NEAR,
        max(float(np.abs(v - w).max()) for v, w in zip(levels, rounded, strict=True)) <= 1e-2,
    ]
    bounds = [float(v.reshape(-1)[0]) for v in rounded]
    return Staircase(scale.astype(np.float32), *bounds) if all(near) and bounds[0] < bounds[1] else None


def _through(value: _Affine | None, nodes: list[gs.Node]) -> _Affine | None:
    for node in nodes:
        value = None if value is None else value.then(node)
    return value
