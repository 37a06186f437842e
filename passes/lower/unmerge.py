"""The way back from merged steps: tensors that hold all T steps, as passes and tools see a network."""

from __future__ import annotations

import re

import onnx

from csscc.coding.program import EVERY_STEP
from csscc.dialect.model import copy_of, define_operators, refuse_other_version
from csscc.dialect.spiking import MERGE, operator_of, set_reads, set_sends, spiking_nodes

MERGED_AXIS = re.compile(r"_of_\d+_merged$")  # see `csscc.passes.lower.merge_silence`


def unmerged(model: onnx.ModelProto) -> onnx.ModelProto:
    """The folded spiking network `model` with a tensor for every step of every train; any other model as it is.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    refuse_other_version(model)
    if not any(view.reads > 1 or view.sends != EVERY_STEP for _, view in spiking_nodes(model.graph)):
        return model
    made = copy_of(model)
    sources: dict[str, str] = {}
    kept = []
    for node in made.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = sources.get(name, name)
        if operator_of(node) == MERGE:
            sources[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    for node, view in [(n, v) for n, v in spiking_nodes(made.graph) if not v.is_merge]:
        if not view.is_readout:
            set_sends(node, EVERY_STEP)
        if not view.is_encoder:
            set_reads(node, 1)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    for value in made.graph.value_info:
        for dim in value.type.tensor_type.shape.dim[:1]:
            if dim.HasField("dim_param"):
                dim.dim_param = MERGED_AXIS.sub("", dim.dim_param)
    values = [v for v in made.graph.value_info if v.name not in sources]
    del made.graph.value_info[:]
    made.graph.value_info.extend(values)
    return define_operators(made)
