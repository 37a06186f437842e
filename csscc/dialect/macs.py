"""What one sample takes: multiply-accumulates of the weighted operators, memory of the largest tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from csscc.dialect import sizes
from csscc.dialect.model import attributes_of
from csscc.dialect.spiking import spiking_nodes
from csscc.io.weights import without_weights

MIN_SAMPLES = 8
LARGEST_TENSOR = 32 << 20  # bytes, over all samples and time steps that run at once
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Shape = Sequence[int | str | None] | None


def after_batch(shape: Shape) -> int:
    """Elements of one sample; 0 where a dimension is not known."""
    if shape is None or not all(isinstance(d, int) for d in shape[1:]):
        return 0
    return int(np.prod([d for d in shape[1:] if isinstance(d, int)], dtype=np.int64))


def samples_at_once(model: onnx.ModelProto, steps: int, limit: int = 32) -> int:
    """How many samples of a spiking network may run at once so that no tensor exceeds `LARGEST_TENSOR`.

    Args:
        model: the network, with the shapes of its tensors.
        steps: coding steps T, which multiply a tensor's size.
        limit: at most so many.
    """
    largest = 4 * steps * max((after_batch(s) for s in shapes_of(model).values()), default=0)
    return max(1, min(limit, LARGEST_TENSOR // max(largest, 1)))


def multiply_accumulates(
    op: str, attributes: dict[str, Any], data: Shape, result: Shape, weights: Sequence[int]
) -> int:
    """Multiply-accumulates of one node for one sample; 0 where shapes are not known.

    Args:
        op: Conv, ConvTranspose, Gemm or MatMul.
        attributes: of the node.
        data: shape of the input that is not the weights, batch first.
        result: shape of the output.
        weights: shape of the weights.
    """
    if op == "Conv":
        return after_batch(result) * int(np.prod(weights[1:]))
    if op == "ConvTranspose":
        return after_batch(data) * int(np.prod(weights[1:]))
    if op == "Gemm":
        return int(np.prod(weights))
    if data is None or not isinstance(data[-1], int):
        return 0
    contracted = data[-1] if data[-1] == weights[-2] else data[-2]
    return after_batch(result) * int(contracted) if isinstance(contracted, int) else 0


def multiply_accumulates_of(nodes: Iterable[Any], shapes: Mapping[str, Shape] = MappingProxyType({})) -> int:
    """Multiply-accumulates of those nodes of an onnx-graphsurgeon graph that have constant weights, for one sample.

    Those of whole numbers (ConvInteger, MatMulInteger) count too. `shapes`, by tensor, stand in for those of a graph
    that leaves sizes free.
    """
    total = 0
    for node in nodes:
        op = node.op.removesuffix("Integer")
        if op not in WEIGHTED or len(node.inputs) < 2:
            continue
        index = next((i for i in (1, 0) if getattr(node.inputs[i], "values", None) is not None), None)
        if index is not None:
            data, result = (shapes.get(t.name, t.shape) for t in (node.inputs[1 - index], node.outputs[0]))
            total += multiply_accumulates(op, dict(node.attrs), data, result, list(node.inputs[index].shape))
    return total


@dataclass(frozen=True)
class Weighted:
    """A node with constant weights.

    Attributes:
        node: the node.
        data: name of the input that is not the weights.
        cells: elements of that input for one sample.
        macs: multiply-accumulates for one sample.
        weights: numbers that it holds.
        trains: how many trains side by side send a value that it reads; it has its weights once for each.
    """

    node: onnx.NodeProto
    data: str
    cells: int
    macs: int
    weights: int
    trains: int = 1


def weighted_nodes(model: onnx.ModelProto) -> list[Weighted]:
    """The nodes of a time-folded network that have constant weights, in order."""
    shapes = shapes_of(model)
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    trains = {n.output[0]: view.trains for n, view in spiking_nodes(model.graph)}
    found = []
    for node in model.graph.node:
        if node.domain or node.op_type not in WEIGHTED:
            continue
        index = next((i for i in (1, 0) if node.input[i] in weights), None)
        if index is not None:
            data, shape = node.input[1 - index], weights[node.input[index]]
            result = shapes.get(node.output[0])
            macs = multiply_accumulates(node.op_type, attributes_of(node), shapes.get(data), result, shape)
            cells, size = after_batch(shapes.get(data)), int(np.prod(shape))
            found.append(Weighted(node, data, cells, macs, size, trains.get(data, 1)))
    return found


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Shapes of the tensors, at the sizes that the model was calibrated with where it leaves some free."""
    known = sizes.read({p.key: p.value for p in model.metadata_props})
    if known:
        return sizes.at_sizes(without_weights(model)[0], known)
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {
        v.name: [d.dim_value if d.HasField("dim_value") else None for d in v.type.tensor_type.shape.dim]
        for v in values
        if v.type.tensor_type.HasField("shape")
    }


def affordable_samples(
    graph: Any,
    steps: int,
    limit: int,
    budget: float,
    *,
    fewest: int = MIN_SAMPLES,
    shapes: Mapping[str, Shape] = MappingProxyType({}),
) -> int:
    """How many samples, from `fewest` to `limit`, a network of `steps` steps runs on within `budget` MACs."""
    per_sample = multiply_accumulates_of(graph.nodes, shapes) * steps
    return min(limit, max(fewest, int(budget / max(per_sample, 1))))
