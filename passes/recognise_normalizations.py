"""Recognise normalisations over the last axis that exporters spell in several nodes, by what they compute.

    before:  x -> ReduceMean -> Sub(x) -> Pow(2) -> ReduceMean -> Add(epsilon) -> Sqrt -> Div(x - mean) -> y
    after:   x -> LayerNormalization -> y,    y = (x - mean) / sqrt(variance + epsilon)

    before:  x -> Pow(2) -> ReduceMean -> Add(epsilon) -> Sqrt -> Div(x) -> y
    after:   x -> Rms -> y,                   y = x / sqrt(mean of x^2 + epsilon)

As neurons of their own, the square and the quotient err far more than the whole does. As in `recognise_activations`,
the nodes are evaluated, on rows of several magnitudes and offsets, and compared; epsilon is read off the smallest. It
does not fire where the values differ anywhere, or where the length of a row is not known. Scale and shift behind it
stay, and become part of the next weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from csscc.passes.adapter import evaluate_nodes
from csscc.passes.base import BasePass
from csscc.passes.network import Network
from csscc.passes.recognise_activations import cones, is_elementwise
from csscc.passes.rewrite import constant, constant_tensor, set_inputs
from csscc.runtime.functions import ACTIVATION_DOMAIN

MAGNITUDES = np.array([1e-4, 1e-3, 0.01, 0.1, 1, 10, 1, 1])
OFFSETS = np.array([0, 0, 0, 0, 0, 0, 1, -3])
TOLERANCE = 1e-4


@dataclass(frozen=True)
class RecogniseNormalizations(BasePass):
    """Replace spelled-out normalisations by one node each."""

    name: ClassVar[str] = "recognise-normalizations"

    def apply(self, network: Network) -> int:
        """Return the number of normalisations recognised."""
        graph = network.graph
        found = 0
        for node in reversed(list(graph.nodes)):
            if node.outputs and node.op in ("Div", "Mul") and _recognise(graph, node):
                found += 1
        graph.cleanup().toposort()
        return found


def _recognise(graph: Any, last: Any) -> bool:
    for source, nodes in reversed(cones(graph, last, _in_normalization)):
        length = source.shape[-1] if source.shape else None
        if not isinstance(length, int) or length < 2 or all(n.op != "ReduceMean" for n in nodes):
            continue
        x = np.random.default_rng(0).standard_normal((len(MAGNITUDES), length))
        x = (x - x.mean(axis=1, keepdims=True)) * MAGNITUDES[:, None] + OFFSETS[:, None]
        shape = (len(x), *(1,) * (len(source.shape) - 2), length)
        values = evaluate_nodes(nodes, source, last.outputs[0], x.reshape(shape).astype(np.float32))
        if values is None:
            continue
        y = values.reshape(x.shape).astype(np.float64)
        for op, centred in (("LayerNormalization", x - x.mean(axis=1, keepdims=True)), ("Rms", x)):
            epsilon = _epsilon(centred, y)
            if np.allclose(y, _normalised(centred, epsilon), rtol=TOLERANCE, atol=TOLERANCE):
                _stand_in(graph, last, source, op, epsilon, length)
                return True
    return False


def _in_normalization(node: Any) -> bool:
    if node.op != "ReduceMean":
        return is_elementwise(node)
    axes, rank = constant(node, 1), len(node.inputs[0].shape or ())
    along_row = axes is not None and rank > 1 and list(axes % rank) == [rank - 1]
    return along_row and bool(node.attrs.get("keepdims", 1))


def _epsilon(centred: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    power, size = (centred[0] ** 2).mean(), (y[0] ** 2).mean()
    return max(0.0, float(power / size - power)) if size > 0 else 0.0


def _normalised(centred: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon))


def _stand_in(graph: Any, last: Any, source: Any, op: str, epsilon: float, length: int) -> None:
    last.op = op
    if op == "LayerNormalization":
        last.attrs = {"axis": -1, "epsilon": epsilon}
        parameter = constant_tensor(graph, f"{last.name}_scale", np.ones(length, np.float32))
    else:
        last.domain, last.attrs = ACTIVATION_DOMAIN, {}
        parameter = constant_tensor(graph, f"{last.name}_epsilon", np.float32(epsilon))
    set_inputs(last, [source, parameter])
