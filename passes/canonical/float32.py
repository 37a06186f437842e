"""Bring a network of 16-bit or 64-bit floats to 32 bits, its inputs and outputs keeping their types.

    before:  x (float16) -> Conv (float16) -> y (float16)
    after:   x (float16) -> Cast -> Conv (float32) -> Cast -> y (float16)

Spikes and membranes are float32; weights of fewer bits are float32 values already. Inputs and outputs in bfloat16
become float32 themselves: NumPy has no such type, so nobody could feed them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

OTHER_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model computing in float32; the same object if it does so already."""
    graph = model.graph
    if not any(t.data_type in OTHER_FLOATS for t in graph.initializer) and not any(
        _elem(v) in OTHER_FLOATS for v in (*graph.input, *graph.output)
    ):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    for tensor in graph.initializer:
        _to_float32(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                _to_float32(attribute.t)
            elif node.op_type in ("Cast", "EyeLike", "RandomNormal", "RandomUniform") and attribute.i in OTHER_FLOATS:
                attribute.i = TensorProto.FLOAT
    for value in (*graph.input, *graph.output):
        if _elem(value) == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    _cast_borders(graph)
    del graph.value_info[:]
    return changed


def _elem(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _to_float32(tensor: TensorProto) -> None:
    if tensor.data_type not in OTHER_FLOATS:
        return
    if tensor.data_location == TensorProto.EXTERNAL:  # its values, which are elsewhere, follow the type
        tensor.data_type = TensorProto.FLOAT
    else:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _cast_borders(graph: onnx.GraphProto) -> None:
    casts = {v.name: _elem(v) for v in graph.input if _elem(v) in OTHER_FLOATS}
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name in casts:
                node.input[i] = f"{name}_float32"
    before = [helper.make_node("Cast", [n], [f"{n}_float32"], f"{n}_to_float32", to=TensorProto.FLOAT) for n in casts]
    after = []
    outputs = {v.name: _elem(v) for v in graph.output if _elem(v) in OTHER_FLOATS}
    for node in graph.node:
        for names in (node.output, node.input):
            for i, name in enumerate(names):
                if name in outputs:
                    names[i] = f"{name}_float32"
    for name, kind in outputs.items():
        after.append(helper.make_node("Cast", [f"{name}_float32"], [name], f"{name}_from_float32", to=kind))
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
