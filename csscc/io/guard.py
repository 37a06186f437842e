"""What is looked at in a stranger's model before any library works on it: sizes, types, and how much there is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import onnx
from google.protobuf.message import Message
from onnx import AttributeProto, TensorProto, helper

from csscc import limits
from csscc.errors import RefusedError
from csscc.io.ambiguous import refuse_ambiguous
from csscc.io.trial import try_out

_ELEMENTS = {  # fields in which a tensor of each type may hold its values, where not in raw_data
    "float_data": (TensorProto.FLOAT, TensorProto.COMPLEX64),
    "double_data": (TensorProto.DOUBLE, TensorProto.COMPLEX128),
    "int64_data": (TensorProto.INT64,),
    "uint64_data": (TensorProto.UINT32, TensorProto.UINT64),
    "string_data": (TensorProto.STRING,),
}
_KNOWN = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
_VALUES = frozenset(("f", "i", "s", "t", "g", "floats", "ints", "strings", "tensors", "graphs"))  # of an attribute
_LISTS = {
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
}


def refuse_hostile(model: onnx.ModelProto, where: str, *, tried: bool) -> None:
    """Refuse a model that is not what it claims, or that is too much, or that onnx and onnxruntime do not survive.

    Args:
        model: any model.
        where: what messages call it.
        tried: whether a child process is to find out what the libraries survive.

    Raises:
        RefusedError: what is wrong, with the name of what it is about.
    """
    try:
        _refuse_broken_text(model)
        _refuse_types(model)
        _refuse_two_versions(model)
        spiking = any(n.domain.startswith("csscc") for n in model.graph.node)
        _refuse_too_many(model, limits.SPIKING_NODES if spiking else limits.NODES)
        _refuse_weights(model.graph)
        _refuse_references(model.graph)
        for node in _nodes(model.graph.node, *(f.node for f in model.functions)):
            for attribute in node.attribute:
                _refuse_attribute(attribute, node)
                for graph in (attribute.g, *attribute.graphs):
                    _refuse_weights(graph)
        refuse_ambiguous(model)
        if tried:
            try_out(model, runs=not spiking)
    except RefusedError as error:
        raise RefusedError(f"{where}: {error}") from error


def _refuse_two_versions(model: onnx.ModelProto) -> None:
    """Refuse two versions of one domain: no operator of it would have a meaning."""
    for owner in (model, *model.functions):
        versions = dict[str, int]()
        for entry in owner.opset_import:
            domain = "ai.onnx" if entry.domain == "" else entry.domain
            if versions.setdefault(domain, entry.version) != entry.version:
                stated = f"{versions[domain]} and {entry.version} of the operators of '{domain}'"
                raise RefusedError(f"it imports the versions {stated}; export it with one")


def _nodes(*lists: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their subgraphs."""
    for nodes in lists:
        for node in nodes:
            yield node
            yield from _nodes(*(g.node for a in node.attribute for g in (a.g, *a.graphs)))


def _refuse_broken_text(message: Message) -> None:
    """Refuse text fields that hold bytes that are no UTF-8, which protobuf hands out as bytes."""
    for field, value in message.ListFields():
        values = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
        if field.type == field.TYPE_STRING and any(isinstance(v, bytes) for v in values):
            raise RefusedError("not a readable ONNX model (a name in it is no text); export the network again")
        if field.type == field.TYPE_MESSAGE:
            for inner in values:
                _refuse_broken_text(inner)


def _refuse_types(model: onnx.ModelProto) -> None:
    """Refuse inputs and outputs that are no tensors or sequences, or of types that nobody knows."""
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            kind = value.type.WhichOneof("value")
            if kind not in ("tensor_type", "sequence_type", None):
                verb = "feeds" if what == "input" else "reads"
                message = f"{what} '{value.name}' is of the kind {kind}; csscc {verb} tensors: export it as one"
                raise RefusedError(message)
            if what == "input" and any(d.HasField("dim_value") and d.dim_value == 0 for d in _sizes(value)):
                sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in _sizes(value)]
                raise RefusedError(f"input '{value.name}' of shape {sizes} takes no data; export with positive sizes")
            element = value.type.tensor_type.elem_type
            if kind == "tensor_type" and element not in (*_KNOWN, TensorProto.UNDEFINED):
                raise RefusedError(
                    f"{what} '{value.name}' is of data type {element}, which ONNX lacks; export it again"
                )
            if what == "input" and kind == "tensor_type" and element and not _feedable(element):
                name = TensorProto.DataType.Name(element)
                raise RefusedError(f"input '{value.name}' is of data type {name}, which NumPy lacks; make it FLOAT")


def _sizes(value: onnx.ValueInfoProto) -> list[Any]:
    return list(value.type.tensor_type.shape.dim)


def _feedable(element: int) -> bool:
    """Whether there is a NumPy type for it, or one that stands for it."""
    return element == TensorProto.BFLOAT16 or helper.tensor_dtype_to_np_dtype(element).isbuiltin == 1


def _refuse_too_many(model: onnx.ModelProto, most: int) -> None:
    """Count nodes with every function put in place of its calls, without doing so."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counted: dict[tuple[str, str, str], int] = {}

    def count(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        total = 0
        for node in _nodes(nodes):
            key = (node.domain, node.op_type, node.overload)
            if key in functions and key not in counted:
                if depth == limits.CALLS:
                    calls = f"is called by {limits.CALLS} others in a row, or by itself"
                    raise RefusedError(f"its function '{node.op_type}' {calls}; export it without such functions")
                counted[key] = count(functions[key].node, depth + 1)
            total += counted.get(key, 1)
            if total > most:
                raise RefusedError(f"it has more than {most:,} nodes, its functions put in place; use a part of it")
        return total

    count(model.graph.node, 0)


def _refuse_weights(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _refuse_tensor(tensor)
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        raise RefusedError(f"its weights '{name}' are stored as a sparse tensor; export them as an initializer")


def _refuse_references(graph: onnx.GraphProto) -> None:
    """Refuse what only the nodes of a function have: an attribute that stands for one of its call."""
    for node in _nodes(graph.node):
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                raise RefusedError(
                    f"attribute '{attribute.name}' of {node.op_type} '{node.name}' stands for one of a function, "
                    "which the node is not in; export the model again"
                )


def _refuse_attribute(attribute: AttributeProto, node: onnx.NodeProto) -> None:
    which = f"attribute '{attribute.name}' of {node.op_type} '{node.name}'"
    field, stated = _LISTS.get(attribute.type), not attribute.ref_attr_name
    if stated and attribute.type == AttributeProto.UNDEFINED:
        raise RefusedError(f"{which} has no type; export the model again")
    if len(_VALUES.intersection(field.name for field, _ in attribute.ListFields())) > 1:
        raise RefusedError(f"{which} holds values of several types; export the model again")
    if not attribute.name.isidentifier():
        raise RefusedError(f"{which} has a name that no attribute can have; export the model again")
    if stated and field is not None and not getattr(attribute, field) and node.op_type != "Constant":
        raise RefusedError(f"{which} is an empty list; leave it out, or give it values")
    try:
        b"".join((attribute.s, *attribute.strings)).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(f"{which} is no text (it is no UTF-8); export the model again") from error
    if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
        raise RefusedError(f"{which} is a sparse tensor; export it as a tensor")
    for tensor in (attribute.t, *attribute.tensors):
        if attribute.type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
            _refuse_tensor(tensor)


def _refuse_tensor(tensor: TensorProto) -> None:
    """Refuse a constant whose values are not as many as its shape needs."""
    if tensor.data_type not in _KNOWN:
        raise RefusedError(
            f"constant '{tensor.name}' is of data type {tensor.data_type}, which ONNX lacks; export it again"
        )
    if any(d < 0 for d in tensor.dims):
        raise RefusedError(f"constant '{tensor.name}' has negative sizes, {list(tensor.dims)}; export it again")
    if tensor.HasField("segment"):
        raise RefusedError(f"constant '{tensor.name}' is one segment of a larger one; export it in one piece")
    if tensor.data_location == TensorProto.EXTERNAL:
        return
    number = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        holds, takes, unit = len(tensor.raw_data), math.ceil(number * _bits(tensor.data_type) / 8), "bytes"
    else:
        field = next((f for f, kinds in _ELEMENTS.items() if tensor.data_type in kinds), "int32_data")
        parts = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
        packed = 2 if _bits(tensor.data_type) == 4 else 1
        holds, takes, unit = len(getattr(tensor, field)), math.ceil(number * parts / packed), "values"
    if holds != takes:
        of = f"constant '{tensor.name}' of shape {list(tensor.dims)}"
        raise RefusedError(f"{of} takes {takes:,} {unit}, but {holds:,} are there; export it again")


def _bits(data_type: int) -> int:
    name = TensorProto.DataType.Name(data_type)
    if "INT4" in name or "FLOAT4" in name:
        return 4
    if "INT2" in name:
        return 2
    return 8 * int(helper.tensor_dtype_to_np_dtype(data_type).itemsize)
