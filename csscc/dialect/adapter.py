"""The one place where onnx-graphsurgeon meets ONNX: import, export, shapes, and what the library loses.

On export the graph library drops model and node metadata and the types of sequences and maps, and knows nothing of the
csscc functions; all are added back here. Nothing else imports or exports a graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.logger import G_LOGGER

from csscc.dialect import sizes
from csscc.dialect.model import define_operators
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import Shape, replace_readers, subgraphs
from csscc.dialect.spiking import DOMAIN, DOMAIN_VERSION
from csscc.errors import RefusedError
from csscc.io.weights import is_large

G_LOGGER.severity = G_LOGGER.ERROR

MIN_OPSET = 20
TRACEBACK = 'File "'  # of Python, which exporters write to nodes: it has the folders of the machine they ran on
SHAPE_OF_INPUT = frozenset(["GroupNormalization", "Imputer", "Binarizer"])  # onnx infers nothing for these
ODD = (ValueError, TypeError, IndexError, RuntimeError)  # what else the inference raises, as on types that are none
FLOATS_OF_INPUT = frozenset(["Scaler", "Normalizer"])  # nor for these, which make floats of any numbers


def import_model(model: onnx.ModelProto, weights: Mapping[str, onnx.TensorProto] | None = None) -> Network:
    """Network of an ONNX model whose local functions are inlined. Node names are made unique.

    Args:
        model: the model.
        weights: values of initializers that `model` lacks; they get the types that it gives them.
    """
    network = Network(graph=gs.import_onnx(model))
    given = weights or {}
    for graph in (network.graph, *(g for node in network.graph.nodes for g in subgraphs(node))):
        for name, declared in graph.tensors().items():
            if name in given and isinstance(declared, gs.Constant) and declared.data_location is not None:
                declared.values = numpy_helper.to_array(given[name]).astype(declared.dtype, copy=False)
                declared.data_location = None
    borders = (*model.graph.input, *model.graph.output)
    network.types = {v.name: v.type for v in borders if v.type.WhichOneof("value") not in ("tensor_type", None)}
    network.metadata = {p.key: p.value for p in model.metadata_props}
    name_uniquely(network.graph)
    _type_constants(network.graph)
    for node, proto in zip(network.graph.nodes, model.graph.node, strict=True):
        kept = {p.key: p.value for p in proto.metadata_props if TRACEBACK not in p.value}
        if kept:
            network.node_metadata[node.name] = kept
    return network


_CONSTANTS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def _type_constants(graph: gs.Graph) -> None:
    """Give ``Constant`` nodes tensors: the library takes Python's numbers for 64-bit floats, an empty list for none."""
    for node in graph.nodes:
        for subgraph in (v for v in node.attrs.values() if isinstance(v, gs.Graph)):
            _type_constants(subgraph)
        for attribute, kind in _CONSTANTS.items():
            if node.op == "Constant" and attribute in node.attrs:
                values = np.asarray(node.attrs[attribute], kind)
                node.attrs = {"value": gs.Constant(f"{node.name}_value", values)}


def _name_nodes(graph: gs.Graph, taken: set[str]) -> None:
    for index, node in enumerate(graph.nodes):
        name = node.name or f"{node.op}_{index}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name
    for subgraph in (v for node in graph.nodes for v in node.attrs.values() if isinstance(v, gs.Graph)):
        _name_nodes(subgraph, taken)


def name_uniquely(graph: gs.Graph) -> None:
    """Give every node a name of its own, and every tensor: branches of several ``If`` may use the same ones."""
    _name_nodes(graph, set())
    named = {t.name: t for t in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        for tensor in (*node.outputs, *node.inputs):
            name = tensor.name
            while name and named.setdefault(name, tensor) is not tensor:
                name = f"{name}_{node.name}"
            tensor.name = name


def export_model(network: Network, *, weights: bool = True) -> onnx.ModelProto:
    """ONNX model of the network's graph, with the csscc functions it uses and its metadata.

    Args:
        network: the network; its graph is sorted in place.
        weights: False leaves large initializers out and declares them as inputs, for checks that need no values.
    """
    graph = network.graph
    toposort(graph)
    constants = [t for t in graph.tensors().values() if isinstance(t, gs.Constant)]
    left_out = [t for t in constants if is_large(t.shape) or _is_text(t)]
    model = _export_without(graph, left_out) if left_out else gs.export_onnx(graph)
    if weights:
        del model.graph.input[len(graph.inputs) :]
        for tensor in left_out:  # not earlier: each further step of the export would copy them
            made = numpy_helper.from_array(tensor.values, tensor.name) if _is_text(tensor) else None
            model.graph.initializer.add().CopyFrom(made or OnnxExporter.export_tensor_proto(tensor))
    model.ir_version = max(8, min(model.ir_version, 10))
    for value in (*model.graph.input, *model.graph.output):
        if value.name in network.types:
            value.type.CopyFrom(network.types[value.name])
    for node in model.graph.node:
        for key, text in network.node_metadata.get(node.name, {}).items():
            node.metadata_props.add(key=key, value=text)
    for entry in model.opset_import:
        if entry.domain == DOMAIN:
            entry.version = DOMAIN_VERSION  # the library writes 1
    define_operators(model)
    onnx.helper.set_model_props(model, {**network.metadata, **sizes.written(network.sizes)})
    return model


def _is_text(constant: gs.Constant) -> bool:
    """Whether its values are strings, which the graph library takes for raw bytes once it has looked at them."""
    return constant.dtype == np.dtype(object)


def _export_without(graph: gs.Graph, constants: list[gs.Constant]) -> onnx.ModelProto:
    """Export with `constants` declared as inputs: meanwhile, their readers see placeholders."""
    shown = [(c, gs.Variable(c.name, dtype=c.dtype, shape=list(c.shape))) for c in constants]
    inputs = graph.inputs
    graph.inputs = [*inputs, *(placeholder for _, placeholder in shown)]
    try:
        for constant, placeholder in shown:
            replace_readers(constant, placeholder)
        return gs.export_onnx(graph)
    finally:
        graph.inputs = inputs
        for constant, placeholder in shown:
            replace_readers(placeholder, constant)


def infer_shapes(network: Network) -> None:
    """Write inferred element types and shapes of an ANN's graph onto its tensors.

    An output whose shape cannot be inferred, as after an `If` whose branches differ in rank, keeps the declared one.

    Raises:
        RefusedError: the graph is inconsistent.
    """
    graph = network.graph
    known = {id(t) for t in graph.inputs}
    known |= {id(t) for n in graph.nodes for t in n.outputs if t.name in network.types}
    declared = [(t, t.shape) for t in graph.outputs if isinstance(t, gs.Variable)]
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and id(tensor) not in known:
            tensor.shape = None
    model = export_model(network, weights=False)
    for node in model.graph.node:
        if node.op_type in SHAPE_OF_INPUT:
            node.op_type, node.domain = "Identity", ""
            del node.input[1:], node.attribute[:]
        elif node.op_type in FLOATS_OF_INPUT:
            node.op_type, node.domain = "Cast", ""
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
    try:
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        # Not at once: checking types makes the inference tolerate operators whose shapes it cannot infer.
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, *ODD) as error:
        raise RefusedError(
            f"the model's types and shapes contradict each other ({' '.join(str(error).split())}); export it again"
        ) from error
    tensors = graph.tensors()
    for info in (*model.graph.value_info, *model.graph.output):
        inferred = tensors.get(info.name)
        if isinstance(inferred, gs.Variable) and info.type.HasField("tensor_type"):
            kind = info.type.tensor_type
            if kind.elem_type:
                inferred.dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            if kind.HasField("shape"):
                inferred.shape = [_size(d) for d in kind.shape.dim]
    for tensor, shape in declared:
        tensor.shape = shape if tensor.shape is None else tensor.shape


def _size(dimension: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """A size as the graph library has it; one that is not known under a name that inference does not give again.

    onnxruntime infers shapes once more, and takes tensors whose sizes have one name for equally large. onnx's inference
    may hand on the -1 of a Reshape as a size.
    """
    if dimension.HasField("dim_value"):
        return dimension.dim_value if dimension.dim_value >= 0 else None
    return dimension.dim_param.replace("unk__", "size_") or None


def sized_shapes(network: Network) -> dict[str, Shape]:
    """Shapes of the graph's tensors at `Network.sizes`, by name; none where it leaves no size free."""
    return dict(sizes.at_sizes(export_model(network, weights=False), network.sizes)) if network.sizes else {}


def single_node_model(node: gs.Node, dtype: np.dtype[Any]) -> onnx.ModelProto:
    """Model of one standard node whose input 0 is the model's input ``data`` and whose others are constants."""
    proto = OnnxExporter.export_node(node)
    proto.input[0] = "data"
    data = onnx.helper.make_tensor_value_info("data", onnx.helper.np_dtype_to_tensor_dtype(dtype), None)
    outputs = [onnx.helper.make_tensor_value_info(name, data.type.tensor_type.elem_type, None) for name in proto.output]
    constants = {t.name: t for t in node.inputs[1:] if isinstance(t, gs.Constant)}
    initializers = [numpy_helper.from_array(t.values, name) for name, t in constants.items()]
    opset = [onnx.helper.make_opsetid("", MIN_OPSET)]
    return onnx.helper.make_model(
        onnx.helper.make_graph([proto], "node", [data], outputs, initializers), opset_imports=opset
    )


def evaluate_nodes(nodes: list[gs.Node], source: gs.Tensor, result: gs.Tensor, values: np.ndarray) -> np.ndarray | None:
    """Value of tensor `result` that the standard `nodes` make of `source` = `values`; None where they cannot run."""
    protos = [OnnxExporter.export_node(n) for n in nodes]
    constants = {t.name: t for n in nodes for t in n.inputs if isinstance(t, gs.Constant)}
    data, output = (onnx.helper.make_tensor_value_info(t.name, onnx.TensorProto.FLOAT, None) for t in (source, result))
    initializers = [numpy_helper.from_array(t.values, name) for name, t in constants.items()]
    graph = onnx.helper.make_graph(protos, "nodes", [data], [output], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", MIN_OPSET)])
    try:
        with np.errstate(all="ignore"):
            (made,) = ReferenceEvaluator(model).run(None, {source.name: values})
    except Exception:
        return None
    return np.asarray(made) if np.shape(made) == values.shape else None
