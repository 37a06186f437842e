"""The values that a quantised activation can have: whole numbers of steps of a scale, between bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.rewrite import constant, producer
from csscc.dialect.spiking import ACTIVATION_DOMAIN

QUANTISERS = {"Quantise": 1, "QuantiseSum2": 2, "QuantiseSum3": 3, "QuantiseSum4": 4}  # how many values each adds up
# What their results are selected from, unchanged: as many inputs as are given here, or all for 0.
SELECTIONS = {
    **dict.fromkeys(("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather"), 1),
    **dict.fromkeys(("Identity", "Dropout", "DepthToSpace", "SpaceToDepth", "Expand", "Tile", "Pad"), 1),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "Relu", "ReluMaxPool"), 1),
    **dict.fromkeys(("Concat", "Max", "Min"), 0),
}


@dataclass(frozen=True)
class Grid:
    """Whole numbers of steps.

    Attributes:
        scale: one step, in the ANN's units; a number, or an array that broadcasts after the batch axis.
        low: the least number of steps, e.g. -128.
        high: the largest, e.g. 127.
    """

    scale: NDArray[np.float64]
    low: float
    high: float

    @property
    def span(self) -> float:
        """The largest magnitude, in steps."""
        return max(abs(self.low), abs(self.high))

    @property
    def bits(self) -> int:
        """Bits that a spike train of that magnitude takes: ``2**bits - 1`` is at least the span."""
        return max(1, int(np.ceil(np.log2(self.span + 1))))

    def theta(self, levels: float, *, exact: bool) -> NDArray[np.float64]:
        """The amplitude of trains of so many levels: one step, where they reach the whole range, else a part of it.

        One step only of trains that send every whole number: `exact`.
        """
        return self.scale if exact and levels >= self.span else self.scale * self.span / levels

    def same_as(self, other: Grid) -> bool:
        """Whether the steps are the same."""
        return np.array_equal(self.scale, other.scale)


def grid_of(
    tensor: gs.Tensor, known: Mapping[str, Grid] = MappingProxyType({}), found: dict[int, Grid | None] | None = None
) -> Grid | None:
    """The grid on which the values of a tensor lie, since a quantiser made them, or what selects from one's.

    Args:
        tensor: of an ANN's graph.
        known: grids by the name of the tensor, where the graph does not show them.
        found: grids by the id of the tensor, of a graph that does not change; what is found here is added.
    """
    found = {} if found is None else found
    if id(tensor) not in found:
        found[id(tensor)] = _grid_of(tensor, known, found)
    return found[id(tensor)]


def _grid_of(tensor: gs.Tensor, known: Mapping[str, Grid], found: dict[int, Grid | None]) -> Grid | None:
    node = producer(tensor)
    if node is None or tensor.name in known:
        return known.get(tensor.name)
    if node.domain == ACTIVATION_DOMAIN and node.op in QUANTISERS:
        scale, low, high = node.inputs[2 * QUANTISERS[node.op] :]
        return Grid(_after_batch(_values(scale)), float(_values(low)), float(_values(high)))
    if node.op == "DequantizeLinear" and not node.domain:
        return _dequantised(node)
    if node.op not in SELECTIONS or (node.op == "Pad" and np.any(constant(node, 2))):
        return None
    grids = [grid_of(t, known, found) for t in node.inputs[: SELECTIONS[node.op] or len(node.inputs)]]
    first = grids[0]
    if first is None or first.scale.ndim or any(g is None or not g.same_as(first) for g in grids):
        return None
    lows, highs = zip(*((g.low, g.high) for g in grids if g is not None), strict=True)
    least, most = min(lows), max(highs)
    if node.op.startswith("Relu") or node.op == "Pad":
        least, most = (max(least, 0.0) if node.op != "Pad" else min(least, 0.0)), max(most, 0.0)
    return Grid(first.scale, least, most)


def _dequantised(node: gs.Node) -> Grid | None:
    """The grid of what a DequantizeLinear makes, if one scale serves all."""
    scale, zero, kind = constant(node, 1), constant(node, 2), node.inputs[0].dtype
    if scale is None or scale.size != 1 or kind is None or np.dtype(kind).kind not in "iu":
        return None
    if len(node.inputs) > 2 and (zero is None or zero.size != 1):
        return None
    offset = 0.0 if zero is None else float(zero.reshape(-1)[0])
    limits = np.iinfo(np.dtype(kind))
    low, high, clip = float(limits.min), float(limits.max), producer(node.inputs[0])
    if clip is not None and clip.op == "Clip":
        bounds = [constant(clip, i) for i in (1, 2)]
        low, high = (b if v is None else float(v.item()) for b, v in zip((low, high), bounds, strict=True))
    return Grid(np.asarray(scale, np.float64).reshape(()), low - offset, high - offset)


def _values(tensor: gs.Tensor) -> NDArray[np.float64]:
    assert isinstance(tensor, gs.Constant)
    return np.asarray(tensor.values, np.float64)


def _after_batch(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without a first axis of one, which stands for the batch in arrays of the rank of the tensor."""
    return values.reshape(()) if values.size == 1 else values
