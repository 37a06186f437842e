"""Which axis of a tensor holds channels: where the last weighted operator before it put them."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS, Scope
from csscc.dialect.rewrite import attribute, producer, rank_of, shape_of
from csscc.passes.linear import LINEAR
from csscc.passes.linear.layout import permutation
from csscc.passes.linear.weighted import WeightedOp

MIN_POSITIONS = 16
MOST_FEATURES = 1024
_KEEP_LAYOUT = {
    "Add",
    "Sub",
    "Sum",
    "Mul",
    "Div",
    "Neg",
    "AveragePool",
    "GlobalAveragePool",
    "Resize",
    "Slice",
    "Pad",
    "Concat",
    "Identity",
}


def channel_axis(tensor: gs.Tensor) -> int:
    """Channel axis of a core tensor of known rank; 1 where nothing else is known, the last if that is free."""
    axis = _found(tensor) % rank_of(tensor)
    return axis if isinstance(shape_of(tensor)[axis], int) else rank_of(tensor) - 1


def amplitude_axis(tensor: gs.Tensor, scope: Scope) -> int | None:
    """The axis along which neurons of that scope that send `tensor` may have an amplitude each; None for one a layer.

    The units of a dense layer, seen once a sample, share one: so few values have no tail.
    """
    if scope == "row" or not many_positions(tensor):
        return None
    axis = channel_axis(tensor)
    mixed = axis != 1 and scope == "window"  # a window spans every axis after the first two
    free = not isinstance(shape_of(tensor)[axis], int)
    return None if axis == 0 or mixed or free else axis


def many_positions(tensor: gs.Tensor) -> bool:
    """Whether a channel is seen often enough in one sample for statistics of its own."""
    shape = shape_of(tensor)
    if len(shape) < 3:
        return False
    known = [d for d in shape[2:] if isinstance(d, int)]
    return len(known) < len(shape) - 2 or int(np.prod(known)) >= MIN_POSITIONS


def is_features(tensor: gs.Tensor) -> bool:
    """Whether a tensor is a vector of features a sample, of known number and few enough for statistics of each."""
    shape = shape_of(tensor)
    return len(shape) == 2 and isinstance(shape[1], int) and shape[1] <= MOST_FEATURES


def input_channel_axis(readers: list[gs.Node], tensor: gs.Tensor) -> int:
    """Channel axis of an analog tensor, from the weighted operator that reads it; 1 where none does."""
    for reader in readers:
        rule = LINEAR.get(reader.op)
        if isinstance(rule, WeightedOp):
            return rule.input_axis(reader) % rank_of(tensor)
    return 1


def weight_axis(node: gs.Node, rank: int) -> int:
    """The axis of the weights that meets the channels of the data."""
    if node.op == "MatMul":
        return rank - 2
    return 1 if node.op == "Conv" or attribute(node, "transB", 0) else 0


def _found(tensor: gs.Tensor) -> int:
    node = producer(tensor)
    if node is None:
        return 1
    rule = LINEAR.get(node.op)
    if isinstance(rule, WeightedOp) and any(isinstance(t, gs.Constant) for t in node.inputs[:2]):
        return rule.output_axis(node)
    source = next((t for t in node.inputs if not isinstance(t, gs.Constant)), None)
    if source is None or source.shape is None or rank_of(source) != rank_of(tensor):
        return 1
    if node.op == "Transpose":
        before = _found(source) % rank_of(source)
        return permutation(node).index(before)
    if node.op in _KEEP_LAYOUT or (node.op in ACTIVATIONS and ACTIVATIONS[node.op].scope != "row"):
        return _found(source)
    return 1
