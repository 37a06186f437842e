"""Fold quantisers of constants that only became constants by folding.

    before:  QuantizeLinear(w, s) -> DequantizeLinear(., s)      s: the largest weight over 127, computed in the graph
    after:   what the two make of w

The graph library folds everything but these two operators; what is constant in the file itself is brought to floats
when it is loaded (`csscc.passes.canonical.dequantise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import is_output, replace_readers, unique_name
from csscc.passes.base import BasePass
from csscc.passes.canonical.dequantise import PAIR, folded_quantiser


@dataclass(frozen=True)
class FoldQuantised(BasePass):
    """Fold QuantizeLinear and DequantizeLinear of constants."""

    name: ClassVar[str] = "fold-quantised"

    def apply(self, network: Network) -> int:
        """Return the number of nodes folded."""
        graph = network.graph
        folded = 0
        for node in toposort(graph).nodes:
            if node.op in PAIR and not node.domain and not is_output(graph, node.outputs[0]):
                made = _value(node)
                if made is not None:
                    name = unique_name(graph, f"{node.outputs[0].name}_folded")
                    replace_readers(node.outputs[0], gs.Constant(name, numpy_helper.to_array(made)))
                    folded += 1
        graph.cleanup()
        return folded


def _value(node: gs.Node) -> onnx.TensorProto | None:
    given = [t for t in node.inputs if t.name]
    constants = [numpy_helper.from_array(t.values) for t in given if isinstance(t, gs.Constant)]
    return folded_quantiser(node.op, constants, dict(node.attrs)) if len(constants) == len(given) else None
