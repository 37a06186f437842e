"""Indices into a vector of all samples' elements, by which each sample takes from its own.

    Gather(Reshape(x, [-1]), Range(0, batch) * length + k)      k the same for each sample

is how a strided view of x is exported. What the indices are is computed for two sizes of the batch, and compared.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

from csscc.dialect.adapter import MIN_OPSET
from csscc.dialect.rewrite import sizes_after_batch

BATCHES = (2, 3)
MAX_NODES = 40


def own_indices(graph: gs.Graph, indices: gs.Tensor, length: int) -> NDArray[np.int64] | None:
    """The indices of each sample into its own `length` elements; None where they are no such indices."""
    found = []
    for batch in BATCHES:
        values = _computed(graph, indices, batch)
        if values is None or values.ndim < 1 or values.shape[0] != batch or values.dtype.kind != "i":
            return None
        found += [np.asarray(own, np.int64) - sample * length for sample, own in enumerate(values)]
    same = all(np.array_equal(f, found[0]) for f in found)
    own = found[0]
    return own if same and own.size and own.min() >= 0 and own.max() < length else None


def _computed(graph: gs.Graph, result: gs.Tensor, batch: int) -> NDArray[np.generic] | None:
    """Values of a tensor that depends on the batch of inputs alone."""
    nodes = _makers(graph, result)
    if nodes is None:
        return None
    read = {t.name: t for n in nodes for t in n.inputs if t.name}
    feeds = {}
    for name, tensor in read.items():
        if tensor.inputs or isinstance(tensor, gs.Constant):
            continue
        sizes = sizes_after_batch(tensor.shape)
        if sizes is None:
            return None
        feeds[name] = np.zeros((batch, *sizes), tensor.dtype)
    constants = [onnx.numpy_helper.from_array(t.values, n) for n, t in read.items() if isinstance(t, gs.Constant)]
    inputs = [onnx.ValueInfoProto(name=n, type=onnx.TypeProto()) for n in feeds]
    outputs = [onnx.ValueInfoProto(name=result.name, type=onnx.TypeProto())]
    made = onnx.helper.make_graph([OnnxExporter.export_node(n) for n in nodes], "indices", inputs, outputs, constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", MIN_OPSET)])
    try:
        (values,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception:
        return None
    return np.asarray(values)


def _makers(graph: gs.Graph, result: gs.Tensor) -> list[gs.Node] | None:
    """The nodes after the shapes of inputs that make a tensor, in order; None where there are others, or many."""
    wanted: dict[int, gs.Node] = {}
    open_tensors = [result]
    while open_tensors:
        for node in open_tensors.pop().inputs:
            if id(node) in wanted:
                continue
            wanted[id(node)] = node
            if len(wanted) > MAX_NODES or node.domain:
                return None
            if node.op != "Shape":
                open_tensors += node.inputs
    whole = all(n.op != "Shape" or not n.inputs[0].inputs for n in wanted.values())
    read = {id(t) for n in wanted.values() if n.op != "Shape" for t in n.inputs}
    if not whole or any(id(t) in read for t in graph.inputs):
        return None
    return [n for n in graph.nodes if id(n) in wanted]
