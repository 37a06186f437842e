"""Operators of other domains than ONNX's own: what onnxruntime knows may stand in the prologue and the epilogue."""

from __future__ import annotations

import onnx
from onnx import helper

from csscc.dialect.adapter import export_model, infer_shapes
from csscc.dialect.model import copy_of, opset_of, with_outputs
from csscc.dialect.network import Network
from csscc.dialect.rewrite import is_foreign
from csscc.errors import Offender, RefusedModelError
from csscc.passes.canonical.true_causes import named_cause
from csscc.runtime.session import Session, known_operators, numpy_type

UNKNOWN = (
    "an operator of a foreign domain that no function in the model defines",
    "export the model with standard operators, or add the operator as a model-local function",
)


def refuse_unknown_operators(model: onnx.ModelProto) -> None:
    """Refuse operators that onnxruntime does not know, wherever they stand: calibration runs the whole network.

    Raises:
        RefusedModelError: there are such, all of them named.
    """
    foreign = [n for n in model.graph.node if is_foreign(n.domain)]
    known = known_operators() if foreign else frozenset()
    offenders = [
        Offender(n.name or n.output[0], f"{n.domain}::{n.op_type}", *(named_cause(n.op_type) or UNKNOWN))
        for n in foreign
        if (n.domain, n.op_type) not in known
    ]
    if offenders:
        raise RefusedModelError(offenders, opset_of(model))


def without_normalizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with each Normalizer by the norm L2 as the operator of ONNX itself that does the same.

    Where onnxruntime knows that input and output are equally large, it may write one over the other, and its Normalizer
    then loses the signs.
    """
    wanted = [n for n in model.graph.node if (n.domain, n.op_type) == ("ai.onnx.ml", "Normalizer") and _norm(n) == "L2"]
    if not wanted or not any(not entry.domain for entry in model.opset_import):
        return model
    made, nodes = copy_of(model), list[onnx.NodeProto]()
    for node in model.graph.node:
        if node not in wanted:
            nodes.append(node)
            continue
        floats = f"{node.output[0]}_floats"
        nodes.append(helper.make_node("Cast", node.input, [floats], f"{node.name}_cast", to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("LpNormalization", [floats], node.output, node.name, axis=-1, p=2))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _norm(node: onnx.NodeProto) -> str:
    return next((a.s.decode() for a in node.attribute if a.name == "norm"), "MAX")


def learn_shapes(network: Network) -> None:
    """Infer all shapes, and ask onnxruntime for those that its own operators make: onnx knows nothing of them.

    They go to `Network.types`, which `infer_shapes` takes as given until the shapes of the inputs change.
    """
    made = [t for n in network.graph.nodes if is_foreign(n.domain) for t in n.outputs if t.name]
    for tensor in made:
        if tensor.name not in network.types or network.types[tensor.name].HasField("tensor_type"):
            network.types.pop(tensor.name, None)
            tensor.shape = None
    infer_shapes(network)
    unknown = {t.name: t for t in made if t.shape is None and t.name not in network.types}
    if unknown:
        session = Session(with_outputs(export_model(network), unknown), optimise=False)
        for output in session.outputs:
            if output.name in unknown and output.shape:  # an unknown rank is given as none
                tensor, dtype = unknown[output.name], numpy_type(output.type)
                tensor.shape, tensor.dtype = output.shape, dtype
                kind = helper.np_dtype_to_tensor_dtype(dtype)
                network.types[output.name] = helper.make_tensor_type_proto(kind, output.shape)
