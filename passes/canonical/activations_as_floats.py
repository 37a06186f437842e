"""Let products of dynamically quantised activations take the activations themselves.

    before:  x -> DynamicQuantizeLinear -> q, scale, zero -> MatMulInteger(q, w, zero, wz) -> Cast -> Mul(scale * ws)
    after:   MatMul(x, w - wz) -> Mul(ws)

The scale of such an activation is known only once its values are there, so there is no grid for spikes to be on: the
network is one of floats, with weights of few bits. Any range that calibration finds serves as well. A bias that is made
whole by the same scale is a float again too. It does not fire where the whole numbers go elsewhere, or where the
weights are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant, constant_tensor, is_output, replace_readers, set_inputs, unique_name
from csscc.passes.base import BasePass


@dataclass(frozen=True)
class ActivationsAsFloats(BasePass):
    """Take dynamic quantisation away from activations."""

    name: ClassVar[str] = "activations-as-floats"

    def apply(self, network: Network) -> int:
        """Return the number of activations that are floats again."""
        graph = network.graph
        dynamic = [n for n in graph.nodes if n.op == "DynamicQuantizeLinear"]
        found = [node.name for node in dynamic if _static(graph, node)]
        if found:
            text = "activations are quantised while the network runs: spikes send the values, not their rounding"
            network.report(self.name, found[0], f"{len(found)} {text}")
        tidy(graph)
        return len(found)


def _static(graph: gs.Graph, node: gs.Node) -> bool:
    """Let products of dynamically quantised activations take the activations themselves."""
    values, scale, zero = node.outputs
    products = [r for r in values.outputs if r.op in ("MatMulInteger", "ConvInteger") and r.inputs[0] is values]
    plain = [r for r in values.outputs if r.op == "DequantizeLinear"]
    if len(products) + len(plain) < len(values.outputs) or any(_weights(p) is None for p in products):
        return False
    if any(r not in (*products, *plain) for r in zero.outputs) or any(is_output(graph, t) for t in node.outputs):
        return False
    sums = [_with_bias(graph, p) for p in products]
    if any(is_output(graph, s) or any(r.op != "Cast" for r in s.outputs) for s in sums):
        return False
    for reader in plain:
        replace_readers(reader.outputs[0], node.inputs[0])
        reader.outputs.clear()
    for product, total in zip(products, sums, strict=True):
        weights = _weights(product)
        assert weights is not None
        product.op = product.op.removesuffix("Integer")
        set_inputs(product, [node.inputs[0], constant_tensor(graph, f"{product.name}_weights", weights)])
        product.outputs[0].dtype = np.float32
        if total is not product.outputs[0]:
            bias = _bias(product)
            assert bias is not None
            for made in _roundings(bias):
                made.op, made.attrs = "Identity", {}
                made.outputs[0].dtype = np.float32
            bias.dtype = total.dtype = np.float32
        for cast in [r for r in total.outputs if r.op == "Cast"]:
            cast.op, cast.attrs = "Identity", {}
    replace_readers(scale, gs.Constant(unique_name(graph, f"{node.name}_one"), np.ones((), np.float32)))
    node.outputs.clear()
    return True


def _with_bias(graph: gs.Graph, product: gs.Node) -> gs.Variable:
    """The sum of a product of whole numbers and a rounded bias, where that alone reads it; else the product."""
    made = product.outputs[0]
    bias = _bias(product)
    return made.outputs[0].outputs[0] if bias is not None and _roundings(bias) and not is_output(graph, made) else made


def _bias(product: gs.Node) -> gs.Variable | None:
    """What an Add that alone reads the product adds to it."""
    readers = product.outputs[0].outputs
    if len(readers) != 1 or readers[0].op != "Add":
        return None
    bias = readers[0].inputs[1 if readers[0].inputs[0] is product.outputs[0] else 0]
    return bias if isinstance(bias, gs.Variable) else None


def _roundings(bias: gs.Tensor | None) -> list[gs.Node]:
    """The nodes that make whole numbers of a bias over the scales, as older quantisers of onnxruntime write it.

    bias -> Div(scale * ws) -> Floor -> Cast(int32) -> Reshape; empty for anything else.
    """
    found = list[gs.Node]()
    while bias is not None and len(bias.inputs) == 1 and len(bias.outputs) == 1:
        node = bias.inputs[0]
        if node.op == "Div":
            return found if {n.op for n in found} >= {"Cast"} else []
        if node.op in ("Floor", "Round", "Cast"):
            found.append(node)
        elif node.op not in ("Reshape", "Unsqueeze"):
            return []
        bias = node.inputs[0]
    return []


def _weights(product: gs.Node) -> NDArray[np.float32] | None:
    """Weights of a product of whole numbers, less their zero points."""
    weights, zero = constant(product, 1), constant(product, 3)
    if weights is None or (len(product.inputs) > 3 and product.inputs[3].name and zero is None):
        return None
    less = np.zeros((), np.int32) if zero is None else zero.astype(np.int32)
    if product.op == "ConvInteger" and less.size > 1:
        less = less.reshape(-1, *(1,) * (weights.ndim - 1))
    return (weights.astype(np.int32) - less).astype(np.float32)
