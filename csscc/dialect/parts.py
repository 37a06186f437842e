"""A part of a model: what is computed from given tensors on."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

from csscc.dialect.model import copy_of


def from_tensors(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The model with these tensors, of float32, as inputs after its own, and without what only they need."""
    given = list(names)
    wanted = {o.name for o in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if wanted & ({*node.output} - {*given}):
            kept.append(node)
            wanted |= _read(node)
    made = copy_of(model)
    del made.graph.node[:]
    made.graph.node.extend(reversed(kept))
    weights = [t for t in model.graph.initializer if t.name in wanted]
    del made.graph.initializer[:]
    made.graph.initializer.extend(weights)
    made.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given)
    return made


def _read(node: onnx.NodeProto) -> set[str]:
    """Names that the node reads, those in its subgraphs among them."""
    inner = [n for a in node.attribute for n in a.g.node]
    returned = {o.name for a in node.attribute for o in a.g.output}
    return {*node.input} | returned | {name for n in inner for name in _read(n)}
