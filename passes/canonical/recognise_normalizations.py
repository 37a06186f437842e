"""Recognise normalisations over the last axis that exporters decompose into several nodes, by what they compute.

    before:  x -> ReduceMean -> Sub(x) -> Pow(2) -> ReduceMean -> Add(epsilon) -> Sqrt -> Div(x - mean) -> Mul, Add -> y
    after:   x -> LayerNormalization -> y,    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

    before:  x -> Pow(2) -> ReduceMean -> Add(epsilon) -> Sqrt -> Div(x) -> y
    after:   x -> Rms -> y,                   y = x / sqrt(mean of x^2 + epsilon)

As neurons of their own, the square and the quotient err far more than the whole does. As in `recognise_activations`,
the nodes are evaluated, here on rows of several magnitudes and offsets: scale and shift are read off a large row and
its negative, epsilon off the smallest row, and all rows are compared. It does not fire where the values differ
anywhere, or where the length of a row is not known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import evaluate_nodes
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import attribute, constant, constant_tensor, rank_of, set_inputs
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.canonical.recognise_activations import cones, is_elementwise

MAGNITUDES = np.array([1e3, -1e3, 1e-4, 1e-3, 0.01, 0.1, 1, 10, 1, 1])
OFFSETS = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, -3])
SMALLEST = 2
TOLERANCE = 1e-4


Array = NDArray[np.float64]


@dataclass(frozen=True)
class RecogniseNormalizations(BasePass):
    """Replace decomposed normalisations by one node each."""

    name: ClassVar[str] = "recognise-normalizations"

    def apply(self, network: Network) -> int:
        """Return the number of normalisations recognised."""
        graph = network.graph
        found = 0
        for node in reversed(list(graph.nodes)):
            if node.outputs and node.op in ("Div", "Mul", "Add") and _recognise(graph, node):
                found += 1
                graph.cleanup()  # what it was decomposed into, which may be part of another one
        toposort(graph)
        return found


def _recognise(graph: gs.Graph, last: gs.Node) -> bool:
    for source, nodes in reversed(cones(graph, last, _in_normalization)):
        length = source.shape[-1] if source.shape else None
        if not isinstance(length, int) or length < 2 or all(n.op != "ReduceMean" for n in nodes):
            continue
        x = _rows(length)
        shape = (len(x), *(1,) * (rank_of(source) - 2), length)
        values = evaluate_nodes(nodes, source, last.outputs[0], x.reshape(shape).astype(np.float32))
        if values is None or not np.isfinite(values).all():
            continue
        y = values.reshape(x.shape).astype(np.float64)
        for op, centred in (("LayerNormalization", x - x.mean(axis=1, keepdims=True)), ("Rms", x)):
            scale, shift, epsilon = _fit(centred, y)
            if op == "Rms":
                scale, shift = np.ones(length), np.zeros(length)
            wanted = _normalised(centred, epsilon) * scale + shift
            if np.allclose(y, wanted, rtol=TOLERANCE, atol=TOLERANCE * np.abs(scale).max()):
                _stand_in(graph, last, source, op, scale, shift, epsilon)
                return True
    return False


def _rows(length: int) -> Array:
    """Rows far from zero everywhere, of all magnitudes and offsets; all but the first two random."""
    x = np.random.default_rng(0).standard_normal((len(MAGNITUDES), length))
    x[:2] = (1 + 0.25 * (np.arange(length) % 3)) * (-1.0) ** np.arange(length)
    x -= x.mean(axis=1, keepdims=True)
    return np.asarray(x * MAGNITUDES[:, None] + OFFSETS[:, None])


def _in_normalization(node: gs.Node) -> bool:
    if node.op != "ReduceMean":
        return is_elementwise(node, vectors=True)
    axes, rank = constant(node, 1), len(node.inputs[0].shape or ())
    along_row = axes is not None and rank > 1 and list(axes % rank) == [rank - 1]
    return along_row and bool(attribute(node, "keepdims", 1))


def _fit(centred: Array, y: Array) -> tuple[Array, Array, float]:
    """Scale, shift and epsilon of a normalisation, if `y` is one; a wrong guess shows in the comparison."""
    shift = (y[0] + y[1]) / 2
    scale = (y[0] - y[1]) / 2 / _normalised(centred, 0.0)[0]
    small = centred[SMALLEST]
    size = ((y[SMALLEST] - shift) ** 2).sum()
    epsilon = ((scale * small) ** 2).sum() / size - (small**2).mean() if size > 0 else 0.0
    return scale, shift, max(0.0, float(epsilon))


def _normalised(centred: Array, epsilon: float) -> Array:
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + epsilon))


def _stand_in(
    graph: gs.Graph, last: gs.Node, source: gs.Tensor, op: str, scale: Array, shift: Array, epsilon: float
) -> None:
    last.op = op
    if op == "LayerNormalization":
        last.attrs = {"axis": -1, "epsilon": epsilon}
        parameters = [constant_tensor(graph, f"{last.name}_{n}", v) for n, v in (("scale", scale), ("shift", shift))]
    else:
        last.domain, last.attrs = ACTIVATION_DOMAIN, {}
        parameters = [constant_tensor(graph, f"{last.name}_epsilon", np.float32(epsilon))]
    set_inputs(last, [source, *parameters])
