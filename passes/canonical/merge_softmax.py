"""Undo what raising the opset does to a Softmax.

    before:  x [.., n] -> Flatten(axis=rank-1) -> Softmax -> Reshape (to the shape of x) -> y
    after:   x -> Softmax(axis=-1) -> y

Before opset 13, Softmax flattened its input; onnx's converter writes that out where it does not know the rank, and
states the batch size in doing so. It fires only where the flattening keeps the last axis alone and the Reshape gives
back the shape of x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import attribute, only_reader, rank_of
from csscc.passes.base import BasePass

ALONG_ROWS = ("Softmax", "LogSoftmax", "Hardmax")


@dataclass(frozen=True)
class MergeSoftmax(BasePass):
    """Let Softmax act on the last axis without reshaping."""

    name: ClassVar[str] = "merge-softmax"

    def apply(self, network: Network) -> int:
        """Return the number of Softmax nodes merged."""
        graph = network.graph
        merged = sum(_merge(graph, node) for node in list(graph.nodes))
        tidy(graph)
        return merged


def _merge(graph: gs.Graph, flatten: gs.Node) -> int:
    if flatten.op != "Flatten" or not flatten.outputs:
        return 0
    softmax = only_reader(graph, flatten.outputs[0])
    reshape = only_reader(graph, softmax.outputs[0]) if softmax is not None and softmax.op in ALONG_ROWS else None
    if softmax is None or reshape is None or reshape.op != "Reshape":
        return 0
    source, result = flatten.inputs[0], reshape.outputs[0]
    if source.shape is None or list(source.shape) != list(result.shape or []):
        return 0
    rank = rank_of(source)
    last = attribute(flatten, "axis", 1) % rank == rank - 1
    if not last or attribute(softmax, "axis", -1) not in (1, -1):
        return 0
    reshape.outputs.clear()
    softmax.inputs[0], softmax.outputs[0] = source, result
    softmax.attrs["axis"] = -1
    return 1
