"""Small edits of a graph that several passes need, and questions they ask of its nodes and tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import ArrayLike, NDArray

Shape = Sequence[int | str | None]
T = TypeVar("T")


def shape_of(tensor: gs.Tensor) -> Shape:
    """The shape of a tensor whose rank is known, as it is of every core tensor."""
    assert tensor.shape is not None, f"the shape of '{tensor.name}' is not known"
    return tensor.shape


def rank_of(tensor: gs.Tensor) -> int:
    """Number of axes of a tensor whose rank is known, as it is of every core tensor."""
    return len(shape_of(tensor))


def sizes_after_batch(shape: Shape | None) -> list[int] | None:
    """All dimensions but the first as numbers; None where one is not known."""
    sizes = [d for d in (shape or [])[1:] if isinstance(d, int)]
    return sizes if shape is not None and len(sizes) == len(shape[1:]) else None


def is_foreign(domain: str | None) -> bool:
    """Whether operators of the domain are neither ONNX's own nor csscc's."""
    return (domain or "ai.onnx") != "ai.onnx" and not str(domain).startswith("csscc")


def attribute(node: gs.Node, name: str, default: T) -> T:
    """The node's attribute `name`, or else `default`, whose type it has: ONNX's checker has seen to that."""
    return cast(T, node.attrs.get(name, default))


def replace_input(node: gs.Node, old: gs.Tensor, new: gs.Tensor) -> None:
    """Let `node` read `new` wherever it reads `old`."""
    for index, tensor in enumerate(node.inputs):
        if tensor is old:
            node.inputs[index] = new


def replace_readers(old: gs.Tensor, new: gs.Tensor) -> None:
    """Let every node that reads `old` read `new`."""
    for reader in list(old.outputs):
        replace_input(reader, old, new)


def producer(tensor: gs.Tensor) -> gs.Node | None:
    """The node that makes `tensor`, or None for an input or a constant."""
    return tensor.inputs[0] if tensor.inputs else None


def is_output(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether `tensor` is an output of `graph`."""
    return any(tensor is t for t in graph.outputs)


def only_reader(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """The node that alone reads `tensor`, once; None if there are several or it is an output of the graph."""
    return tensor.outputs[0] if len(tensor.outputs) == 1 and not is_output(graph, tensor) else None


def constant(node: gs.Node, index: int) -> NDArray[Any] | None:
    """Values of the node's constant input `index`, or None where it is absent or computed."""
    if index >= len(node.inputs):
        return None
    tensor = node.inputs[index]
    return tensor.values if isinstance(tensor, gs.Constant) else None


def values_of(tensor: gs.Tensor) -> NDArray[np.generic]:
    """Values of a tensor that is constant."""
    assert isinstance(tensor, gs.Constant), f"'{tensor.name}' is computed"
    return tensor.values


def constant_tensor(graph: gs.Graph, name: str, values: ArrayLike) -> gs.Constant:
    """A new float32 or integer constant whose name starts with `name` and is not taken."""
    array = np.asarray(values)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return gs.Constant(unique_name(graph, name), np.ascontiguousarray(array))


def set_constant(graph: gs.Graph, node: gs.Node, index: int, values: ArrayLike) -> None:
    """Give the node a constant of its own at `index`; one that others share stays as it is."""
    old = node.inputs[index] if index < len(node.inputs) else None
    name = old.name if old is not None and old.name else f"{node.name}_input{index}"
    new = constant_tensor(graph, name, values)
    while len(node.inputs) < index:
        node.inputs.append(gs.Variable.empty())
    if index < len(node.inputs):
        node.inputs[index] = new
    else:
        node.inputs.append(new)
    if old is not None and not old.outputs:
        new.name = name


def set_inputs(node: gs.Node, tensors: Sequence[gs.Tensor]) -> None:
    """Let the node read `tensors` instead of its inputs."""
    node.inputs.clear()
    node.inputs.extend(tensors)


def subgraphs(node: gs.Node) -> Iterator[gs.Graph]:
    """The graphs in a node's attributes, and those in their nodes."""
    for graph in node.attrs.values():
        if isinstance(graph, gs.Graph):
            yield graph
            for inner in graph.nodes:
                yield from subgraphs(inner)


def unique_name(graph: gs.Graph, name: str) -> str:
    """A tensor or node name made from `name` that the graph does not use yet."""
    taken = graph.__dict__.get("csscc_names")
    if taken is None:
        given: list[gs.Tensor | gs.Node] = [*graph.tensors().values(), *graph.inputs, *graph.outputs, *graph.nodes]
        taken = graph.__dict__["csscc_names"] = {t.name for t in given}
    candidate, number = name, 1
    while candidate in taken:
        candidate, number = f"{name}.{number}", number + 1
    taken.add(candidate)
    return candidate


def insert_shaped(
    graph: gs.Graph,
    op: str,
    name: str,
    inputs: Sequence[gs.Tensor],
    shape: Sequence[int | str | None] | None,
    **attrs: object,
) -> gs.Variable:
    """`insert_node` where the result is not of the shape of the first input; None if its shape is not known."""
    output = insert_node(graph, op, name, inputs, domain=None, **attrs)
    output.shape = None if shape is None else list(shape)
    return output


def insert_node(
    graph: gs.Graph, op: str, name: str, inputs: Sequence[gs.Tensor], *, domain: str | None = None, **attrs: object
) -> gs.Variable:
    """Append a node and return its output, typed float32 with the shape of the first input."""
    output = gs.Variable(unique_name(graph, f"{name}_out"), dtype=np.float32, shape=inputs[0].shape)
    graph.nodes.append(
        gs.Node(op, unique_name(graph, name), attrs=attrs, inputs=inputs, outputs=[output], domain=domain)
    )
    return output
