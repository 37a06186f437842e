"""Fold BatchNormalization, and the constants that stand for one, into the weights.

    BN(x) = scale * (x - mean) / sqrt(var + eps) + shift = a * x + b
    a = scale / sqrt(var + eps), b = shift - a * mean

    Conv, ConvTranspose, Gemm, MatMul -> BN     w' = a * w, bias' = a * bias + b      (per output channel)
    BN -> the same operators                    w' = w * a, bias' = bias + w @ b      (per input channel)
    any other BN                                Mul(a), Add(b): an affine of the core

The second form needs a BN that only this operator reads, and no padding, which would bring in zeros where b should
be. A BN in training mode computes its statistics and stays as it is. ``Mul``, ``Div``, ``Add`` and ``Sub`` of a
weighted operator's result and a constant per channel, as Keras and CNTK leave them, fold like the first form.
Neither fires where another node, or an output of the graph, reads the tensor in between.
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
    constant_tensor,
    insert_node,
    only_reader,
    producer,
    rank_of,
    replace_readers,
)
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Scale, operand_factor
from csscc.passes.linear.core import is_weighted
from csscc.passes.linear.factors import Factor, along, spread
from csscc.passes.linear.mixing import is_padded
from csscc.passes.linear.weighted import WeightedOp


@dataclass(frozen=True)
class FuseBatchNorm(BasePass):
    """Fold BatchNormalization and constant affines into weights."""

    name: ClassVar[str] = "fuse-batchnorm"

    def apply(self, network: Network) -> int:
        """Return the number of nodes folded or rewritten."""
        graph = network.graph
        changed = 0
        for node in list(graph.nodes):
            if node.op == "BatchNormalization":
                changed += self._fuse(network, node)
        tidy(graph)
        while True:
            folded = sum(_fold_affine(graph, node) for node in list(graph.nodes))
            tidy(graph)
            changed += folded
            if not folded:
                return changed

    def _fuse(self, network: Network, node: gs.Node) -> int:
        reason = _no_affine(node)
        if reason:
            network.report(self.name, node.name, f"not fused: {reason}")
            return 0
        scale, shift = affine(node)
        gamma, beta = (np.asarray(constant(node, i), np.float64) for i in (1, 2))
        network.statistics[node.outputs[0].name] = (beta, np.abs(gamma))
        before = _fuse_before(network.graph, node, scale, shift)
        if not before:
            return 1
        after = _fuse_after(network.graph, node, scale, shift)
        if not after:
            return 1
        _as_affine(network.graph, node, scale, shift)
        network.report(self.name, node.name, f"became a per-channel affine: {before}; {after}")
        return 1


def _no_affine(node: gs.Node) -> str:
    """Why the node is not a constant affine; empty if it is one."""
    if attribute(node, "training_mode", 0):
        return "it is in training mode and computes its statistics; export the model in evaluation mode"
    if any(constant(node, i) is None for i in range(1, 5)):
        return "its parameters are computed, not constant"
    if any(t.outputs for t in node.outputs[1:]):
        return "its statistics are read"
    return "" if node.inputs[0].shape is not None else "the rank of its input is not known"


def affine(node: gs.Node) -> tuple[Factor, Factor]:
    """Scale and shift per channel that an inference BatchNormalization applies, in float64."""
    gamma, beta, mean, variance = (np.asarray(constant(node, i), np.float64) for i in range(1, 5))
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return scale, beta - scale * mean


def _fuse_before(graph: gs.Graph, node: gs.Node, scale: Factor, shift: Factor) -> str:
    """Fold into the weighted operator that makes the input; returns why not, or nothing if done."""
    source = node.inputs[0]
    maker = producer(source)
    if maker is None or not is_weighted(maker):
        return "no weighted operator makes its input"
    if only_reader(graph, source) is not node:
        return "its input has a second reader"
    rank = rank_of(source)
    rule = LINEAR[maker.op]
    assert isinstance(rule, WeightedOp)
    if rule.output_axis(maker) % rank != 1:
        return f"the channels of {maker.op} '{maker.name}' lie along another axis"
    rule.pull(graph, maker, spread(scale, rank, 1))
    if not rule.add_bias(graph, maker, shift):
        node.outputs[0].shape = source.shape
        _as_sum(graph, node, shift)
        return ""
    _take_output(maker, node)
    return ""


def _fuse_after(graph: gs.Graph, node: gs.Node, scale: Factor, shift: Factor) -> str:
    """Fold into the weighted operator that reads the output; returns why not, or nothing if done."""
    output = node.outputs[0]
    reader = only_reader(graph, output)
    if reader is None or not is_weighted(reader):
        return "something else than one weighted operator reads its output"
    rule = LINEAR[reader.op]
    assert isinstance(rule, WeightedOp)
    rank = rank_of(node.inputs[0])
    if rule.data_index(reader) != 0 or rule.input_axis(reader) % rank != 1:
        return f"the channels of {reader.op} '{reader.name}' lie along another axis"
    if reader.op == "ConvTranspose" or (is_padded(reader) and np.any(shift)):
        return f"{reader.op} '{reader.name}' pads its input"
    bias = _through_weights(reader, shift)
    if bias is None or not rule.add_bias(graph, reader, bias):
        return f"{reader.op} '{reader.name}' has no bias"
    rule.push(graph, reader, 0, spread(scale, rank, 1))
    replace_readers(output, node.inputs[0])
    node.outputs.clear()
    return ""


def _through_weights(node: gs.Node, shift: Factor) -> Factor | None:
    """What a constant per input channel becomes after the weights."""
    weights = np.asarray(constant(node, 1), np.float64)
    if node.op == "Conv":
        group = attribute(node, "group", 1)
        per_output = np.repeat(shift.reshape(group, -1), weights.shape[0] // group, axis=0)
        return np.asarray((weights.reshape(*weights.shape[:2], -1).sum(axis=2) * per_output).sum(axis=1))
    if node.op == "Gemm":
        matrix = weights.T if attribute(node, "transB", 0) else weights
        return np.asarray(attribute(node, "alpha", 1.0) * (shift @ matrix))
    return shift @ weights if weights.ndim == 2 else None


def _as_affine(graph: gs.Graph, node: gs.Node, scale: Factor, shift: Factor) -> None:
    rank = rank_of(node.inputs[0])
    scaled = insert_node(
        graph,
        "Mul",
        f"{node.name}_scale",
        [node.inputs[0], constant_tensor(graph, f"{node.name}_scale", spread(scale, rank, 1))],
    )
    node.inputs[0] = scaled
    _as_sum(graph, node, shift)


def _as_sum(graph: gs.Graph, node: gs.Node, shift: Factor) -> None:
    """Turn a BatchNormalization whose scale is applied into an Add."""
    rank = rank_of(node.inputs[0])
    source = node.inputs[0]
    node.op = "Add"
    node.attrs.clear()
    node.inputs.clear()
    node.inputs.extend([source, constant_tensor(graph, f"{node.name}_shift", spread(shift, rank, 1))])
    while len(node.outputs) > 1:
        del node.outputs[-1]


def _take_output(maker: gs.Node, node: gs.Node) -> None:
    """Let `maker` make the output of `node`, which disappears."""
    output = node.outputs[0]
    node.outputs.clear()
    maker.outputs[0] = output


def _fold_affine(graph: gs.Graph, node: gs.Node) -> int:
    """Fold arithmetic with a constant into the weighted operator that makes the other operand."""
    if node.op not in ("Mul", "Div", "Add", "Sub") or not node.outputs:
        return 0
    index = next((i for i in (0, 1) if constant(node, i) is not None), None)
    if index is None or isinstance(node.inputs[1 - index], gs.Constant):
        return 0
    source = node.inputs[1 - index]
    maker = producer(source)
    if maker is None or not is_weighted(maker) or only_reader(graph, source) is not node or source.shape is None:
        return 0
    if node.op == "Div" and index == 0:
        return 0
    values, rank = constant(node, index), rank_of(source)
    assert values is not None
    if values.ndim > rank or (values.ndim == rank and values.shape[0] != 1) or node.outputs[0].shape != source.shape:
        return 0
    rule = LINEAR[maker.op]
    assert isinstance(rule, WeightedOp)
    axis = rule.output_axis(maker)
    if node.op in ("Mul", "Div"):
        if rule.pull(graph, maker, Scale().factor(node)) is None:
            return 0
    else:
        vector = along(operand_factor(node, index), rank, axis)
        if vector is None:
            return 0
        sign_data = -1.0 if node.op == "Sub" and index == 0 else 1.0
        sign_constant = -1.0 if node.op == "Sub" and index == 1 else 1.0
        if not rule.add_bias(graph, maker, sign_data * sign_constant * vector):
            return 0
        if sign_data < 0:
            LINEAR[maker.op].pull(graph, maker, np.asarray(-1.0))  # a MatMul has become a Gemm
    _take_output(maker, node)
    return 1
