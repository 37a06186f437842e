"""Let an operator repeat a constant for the batch by itself, where it does.

    before:  k [1, h, 1, d] -> Expand [batch, h, 1, d] -> MatMul(., x [batch, h, d, n])
    after:   MatMul(k, x)

The constant is weights then, or a part of a bias, and no tensor that is computed before time starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import producer
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes

BROADCASTS = frozenset(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "MatMul"])


@dataclass(frozen=True)
class BroadcastConstants(BasePass):
    """Read constants in place of what repeats them for the batch."""

    name: ClassVar[str] = "broadcast-constants"

    def apply(self, network: Network) -> int:
        """Return the number of operands replaced."""
        graph = network.graph
        changed = 0
        for node in core_nodes(graph):
            if node.op in BROADCASTS and not node.domain and len(node.inputs) == 2:
                for index, other in ((0, node.inputs[1]), (1, node.inputs[0])):
                    once = _repeated(node.inputs[index], other)
                    if once is not None:
                        node.inputs[index] = once
                        changed += 1
                        break
        tidy(graph)
        return changed


def _repeated(tensor: gs.Tensor, other: gs.Tensor) -> gs.Constant | None:
    """The constant that `tensor` repeats for the batch alone, if `other` has the batch too."""
    maker = producer(tensor)
    if maker is None or maker.op != "Expand" or isinstance(other, gs.Constant):
        return None
    once, after, beside = maker.inputs[0], tensor.shape, other.shape
    if not isinstance(once, gs.Constant) or not after or not beside or not len(once.shape) == len(after) == len(beside):
        return None
    alone = once.shape[0] == 1 and list(once.shape[1:]) == list(after[1:])
    return once if alone and np.dtype(once.dtype).kind == "f" and beside[0] == after[0] else None
