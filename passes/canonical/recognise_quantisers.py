"""Make one node of what rounds an activation to steps of a scale and cuts it off: a staircase.

    before:  x -> QuantizeLinear -> (Clip) -> DequantizeLinear -> y           or in floats
             x -> Div(scale) -> (Add(zero)) -> Round, Clip -> (Sub(zero)) -> Mul(scale) -> y
    after:   x -> Quantise(x, 1 / scale, scale, low, high) -> y         y = scale * clip(round(x / scale), low, high)

`low` and `high` are the least and largest whole numbers after the zero point. A pair in front of the core or after it
acts on values and stays as it is. Operators that move whole numbers, between the two nodes of a pair, come to
stand after it.

A pair stays, and is refused, where its scale or zero point is computed, differs between the two nodes, or where its
zero point varies along an axis, or its scale along the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    attribute,
    constant,
    is_output,
    producer,
    rank_of,
    replace_readers,
    set_inputs,
    unique_name,
)
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.canonical.float_quantisers import Staircase, staircase_around
from csscc.passes.linear.core import core_nodes, core_of

MOVES = ("MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Identity")
JOINS = ("Concat",)


@dataclass(frozen=True)
class RecogniseQuantisers(BasePass):
    """Replace quantisers of the core by one node each."""

    name: ClassVar[str] = "recognise-quantisers"

    def apply(self, network: Network) -> int:
        """Return the number of quantisers recognised."""
        graph = network.graph
        while any(_after(graph, n) for n in list(graph.nodes) if n.op == "DequantizeLinear" and n.outputs):
            tidy(graph)
        _one_each(graph)
        found = 0
        for node in core_nodes(graph):
            if node.op == "DequantizeLinear" and not node.domain:
                found += _pair(network, node)
        _, after_weights, core = core_of(graph)
        for node in list(graph.nodes):
            epilogue = id(node) in after_weights and id(node) not in core
            if node.op == "Round" and node.outputs and not epilogue:
                found += _decomposed(graph, node)
        tidy(graph)
        return found


def _after(graph: gs.Graph, node: gs.Node) -> int:
    """Dequantise in front of an operator that moves whole numbers, and not after it."""
    mover = producer(node.inputs[0])
    if mover is None or mover.domain or mover.op not in (*MOVES, *JOINS):
        return 0
    readers = [r for t in mover.outputs for r in t.outputs]
    same = all(r.op == "DequantizeLinear" and _parameters_of(r) == _parameters_of(node) for r in readers)
    if not same or any(is_output(graph, t) for t in mover.outputs) or "axis" in node.attrs:
        return 0
    for index in range(len(mover.inputs) if mover.op in JOINS else 1):
        tensor = mover.inputs[index]
        if isinstance(tensor, gs.Constant):
            return 0
    for index in range(len(mover.inputs) if mover.op in JOINS else 1):
        tensor = mover.inputs[index]
        value = gs.Variable(unique_name(graph, f"{tensor.name}_float"), dtype=np.float32, shape=tensor.shape)
        name = unique_name(graph, f"{node.name}_{index}")
        inputs = [tensor, *node.inputs[1:]]
        graph.nodes.append(gs.Node("DequantizeLinear", name, dict(node.attrs), inputs=inputs, outputs=[value]))
        mover.inputs[index] = value
    for position, tensor in enumerate(list(mover.outputs)):
        made = gs.Variable(unique_name(graph, f"{tensor.name}_float"), dtype=np.float32, shape=tensor.shape)
        for reader in list(tensor.outputs):
            result = reader.outputs[0]
            if is_output(graph, result):
                made.name = unique_name(graph, f"{made.name}_inner")
                reader.op, reader.attrs = "Identity", {}
                set_inputs(reader, [made])
            else:
                replace_readers(result, made)
                reader.outputs.clear()
        mover.outputs[position] = made
    return 1


def _parameters_of(node: gs.Node) -> tuple[object, ...]:
    """What identifies a quantiser's scale and zero point."""
    values = [constant(node, i) for i in (1, 2)]
    if values[0] is None:
        return (id(node),)
    zero = 0 if values[1] is None else values[1].astype(np.int64).reshape(-1).tolist()
    flat = [zero] if isinstance(zero, int) else zero
    return (values[0].reshape(-1).tolist(), flat, node.attrs.get("axis", 1) if values[0].size > 1 else None)


def _one_each(graph: gs.Graph) -> None:
    """Let readers of equal dequantisers of one tensor read the first of them."""
    for tensor in list(graph.tensors().values()):
        first: list[gs.Node] = []
        for reader in list(tensor.outputs):
            if reader.op != "DequantizeLinear" or reader.inputs[0] is not tensor or not reader.outputs:
                continue
            twin = next((f for f in first if _parameters_of(f) == _parameters_of(reader)), None)
            if twin is None or is_output(graph, reader.outputs[0]):
                first.append(reader)
            else:
                replace_readers(reader.outputs[0], twin.outputs[0])
                reader.outputs.clear()
    tidy(graph)


def _pair(network: Network, last: gs.Node) -> int:
    graph = network.graph
    middle = producer(last.inputs[0])
    clip = middle if middle is not None and middle.op == "Clip" else None
    first = producer(clip.inputs[0]) if clip is not None else middle
    if first is None or first.op != "QuantizeLinear" or first.domain:
        reason = "a quantiser (DequantizeLinear) whose whole numbers no QuantizeLinear makes"
    else:
        reason = _unlike(first, last)
    if reason:
        network.report(RecogniseQuantisers.name, last.name, reason)
        return 0
    assert first is not None
    scale, zero = constant(first, 1), constant(first, 2)
    assert scale is not None
    none = np.zeros((), np.uint8)
    zero = none if zero is None else zero
    limits = np.iinfo(zero.dtype)
    low, high = float(limits.min), float(limits.max)
    if clip is not None:
        bounds = [constant(clip, i) for i in (1, 2)]
        low = low if bounds[0] is None else max(low, float(bounds[0].item()))
        high = high if bounds[1] is None else min(high, float(bounds[1].item()))
    offset = float(zero.reshape(-1)[0])
    if scale.size > 1:
        rank, axis = rank_of(first.inputs[0]), attribute(first, "axis", 1)
        scale = scale.reshape([-1 if i == axis % rank else 1 for i in range(1, rank)])
    stairs = Staircase(np.asarray(scale, np.float32), low - offset, high - offset)
    _replace(graph, first.inputs[0], last, stairs)
    return 1


def _unlike(first: gs.Node, last: gs.Node) -> str:
    """Why the pair is no staircase; empty if it is."""
    if any(n.inputs[i].name and constant(n, i) is None for n in (first, last) for i in range(1, len(n.inputs))):
        return "a quantiser whose scale or zero point is computed while the network runs"
    if _parameters_of(first) != _parameters_of(last):
        return "a quantiser that reads whole numbers with another scale or zero point than it writes them"
    scale, zero = constant(first, 1), constant(first, 2)
    assert scale is not None
    if zero is not None and (zero.dtype.kind not in "iu" or (zero != zero.reshape(-1)[0]).any()):
        return "a quantiser to numbers with an exponent, or with a zero point that varies along an axis"
    if first.attrs.get("output_dtype", 2) != 2 and zero is None:
        return "a quantiser without a zero point, to a type that is not uint8"
    if scale.size > 1 and (attribute(first, "axis", 1) % rank_of(first.inputs[0]) == 0 or "block_size" in first.attrs):
        return "a quantiser whose scale varies along the batch, or within an axis"
    return ""


def _decomposed(graph: gs.Graph, node: gs.Node) -> int:
    found = staircase_around(graph, node)
    if found is None:
        return 0
    source, last, stairs = found
    _replace(graph, source, last, stairs)
    return 1


def _replace(graph: gs.Graph, source: gs.Tensor, last: gs.Node, stairs: Staircase) -> None:
    """Let `last` be the staircase of `source`."""
    last.op, last.domain, last.attrs = "Quantise", ACTIVATION_DOMAIN, {}
    set_inputs(last, [source, *stairs.parameters(graph, last.name)])

