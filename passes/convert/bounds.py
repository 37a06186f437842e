"""How large the values of an activation can become, where it is known without samples."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import constant

BY_ONE = {"HardSigmoid", "Sigmoid", "Tanh", "Erf", "Softsign", "Softmax"}


def bound_of(node: gs.Node | None) -> float:
    """Largest magnitude that the node can send; infinite where none is known."""
    if node is None:
        return math.inf
    if node.op in BY_ONE:
        return 1.0
    if node.op != "Clip" or len(node.inputs) < 3:
        return math.inf
    low, high = constant(node, 1), constant(node, 2)
    if low is None or high is None:
        return math.inf
    largest = float(max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0)))
    return largest if 0 < largest < float(np.finfo(np.float32).max) else math.inf
