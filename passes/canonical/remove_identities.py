"""Remove nodes that pass their input on.

``Identity``, ``Dropout`` in inference, ``Cast`` to the type its input has, ``Pad`` by nothing, ``Concat`` of one,
``Slice`` that takes all.
A node stays where its removal would join a graph input to a graph output, and where a second output is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.rewrite import constant, is_output, producer, replace_readers
from csscc.passes.base import BasePass

ENDLESS = 10**9  # what exporters write for the end of an axis, or more


@dataclass(frozen=True)
class RemoveIdentities(BasePass):
    """Remove nodes that pass their input on."""

    name: ClassVar[str] = "remove-identities"

    def apply(self, network: Network) -> int:
        """Return the number of nodes removed."""
        graph = network.graph
        removed = 0
        for node in list(graph.nodes):
            if passes_on(graph, node) and _bypass(graph, node):
                removed += 1
        graph.cleanup()
        return removed


def passes_on(graph: gs.Graph, node: gs.Node) -> bool:
    """Whether the node's first output is its first input, and nothing else of it is read."""
    if any(t.outputs or is_output(graph, t) for t in node.outputs[1:]):
        return False
    if node.op == "Identity":
        return True
    if node.op == "Dropout":
        training = node.inputs[2] if len(node.inputs) > 2 else None
        return training is None or (isinstance(training, gs.Constant) and not training.values.any())
    if node.op == "Cast":
        source = node.inputs[0].dtype
        return source is not None and onnx.helper.np_dtype_to_tensor_dtype(np.dtype(source)) == node.attrs["to"]
    if node.op == "Pad":
        pads = node.inputs[1]
        return isinstance(pads, gs.Constant) and not pads.values.any()
    if node.op == "Slice":
        return _takes_all(node)
    return node.op == "Concat" and len(node.inputs) == 1


def _takes_all(node: gs.Node) -> bool:
    """Whether a Slice goes from the front of each axis to its end, or so far that no axis is as long."""
    shape = node.inputs[0].shape
    starts, ends, axes, steps = (constant(node, i) for i in range(1, 5))
    given = [i for i, t in enumerate(node.inputs) if t.name]
    if shape is None or any(constant(node, i) is None for i in given[1:]) or starts is None or ends is None:
        return False
    axes, steps = np.arange(len(starts)) if axes is None else axes, np.ones(len(starts)) if steps is None else steps
    sizes = [size if isinstance(size := shape[int(axis)], int) else ENDLESS for axis in axes]
    return not starts.any() and bool((steps == 1).all()) and bool((ends >= sizes).all())


def _bypass(graph: gs.Graph, node: gs.Node) -> bool:
    source, output = node.inputs[0], node.outputs[0]
    if is_output(graph, output):
        made = producer(source)
        if made is None or is_output(graph, source):
            return False
        position = next(i for i, t in enumerate(made.outputs) if t is source)
        node.outputs.clear()
        made.outputs[position] = output
        replace_readers(source, output)
        return True
    replace_readers(output, source)
    node.outputs.clear()
    return True
