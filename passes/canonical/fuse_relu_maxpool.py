"""Make one neuron of ReLU and MaxPool.

    before:  x -> Relu -> MaxPool -> y    or    x -> MaxPool -> Relu -> y
    after:   x -> ReluMaxPool -> y

Both orders are the same function, max(0, max over the window). As one neuron it costs one silent step and one coding
error instead of two. It does not fire where another node or an output reads the tensor in between, or where the
pool's indices are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import only_reader
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass

PAIR = {"Relu": "MaxPool", "MaxPool": "Relu"}


@dataclass(frozen=True)
class FuseReluMaxPool(BasePass):
    """Fuse the two operators into one activation."""

    name: ClassVar[str] = "fuse-relu-maxpool"

    def apply(self, network: Network) -> int:
        """Return the number of pairs fused."""
        graph = network.graph
        fused = 0
        for first in list(graph.nodes):
            if first.op not in PAIR or not first.outputs or (first.domain or ""):
                continue
            second = only_reader(graph, first.outputs[0])
            if second is None or second.op != PAIR[first.op] or any(t.outputs for t in _indices(first, second)):
                continue
            _fuse(first, second)
            fused += 1
        tidy(graph)
        return fused


def _indices(*nodes: gs.Node) -> list[gs.Variable]:
    return [t for node in nodes for t in node.outputs[1:]]


def _fuse(first: gs.Node, second: gs.Node) -> None:
    pool = first if first.op == "MaxPool" else second
    second.op, second.domain = "ReluMaxPool", ACTIVATION_DOMAIN
    second.attrs = dict(pool.attrs)
    second.inputs[0] = first.inputs[0]
    while len(second.outputs) > 1:
        del second.outputs[-1]
