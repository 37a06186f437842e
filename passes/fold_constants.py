"""Fold what does not depend on the inputs.

Before: ``Constant``, shape arithmetic around Pad and Reshape, transposed weights, `If` with a known condition.
After: initializers. Folding is onnx-graphsurgeon's, which evaluates in onnxruntime; a Reshape whose target has one
dimension that is not known, in front, gets the constant target ``[-1, ...]``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.passes.adapter import infer_shapes
from csscc.passes.base import BasePass
from csscc.passes.network import Network


@dataclass(frozen=True)
class FoldConstants(BasePass):
    """Constant folding, and Reshape targets made constant."""

    name: ClassVar[str] = "fold-constants"

    def apply(self, network: Network) -> int:
        """Fold to a fixed point; return the number of nodes removed plus targets made constant."""
        before = len(network.graph.nodes)
        targets = 0
        while True:
            infer_shapes(network)
            with _quiet_onnxruntime():
                network.graph.fold_constants(fold_shapes=True, recurse_subgraphs=True)
            network.graph.cleanup().toposort()
            now = sum(_constant_target(n) for n in network.graph.nodes)
            targets += now
            if not now:
                break
        network.graph.cleanup()
        infer_shapes(network)
        return before - len(network.graph.nodes) + targets


@contextlib.contextmanager
def _quiet_onnxruntime() -> Iterator[None]:
    """The graph library evaluates constants in sessions of its own, whose optimiser warns of nothing that matters."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    try:
        yield
    finally:
        ort.set_default_logger_severity(2)


def _constant_target(node: Any) -> int:
    if node.op != "Reshape" or isinstance(node.inputs[1], gs.Constant):
        return 0
    shape = node.outputs[0].shape
    if not shape or isinstance(shape[0], int) or not all(isinstance(d, int) for d in shape[1:]):
        return 0
    target = np.array([-1, *shape[1:]], dtype=np.int64)
    node.inputs[1] = gs.Constant(f"{node.name}_shape", target)
    return 1
