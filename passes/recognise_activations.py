"""Recognise activations that exporters spell in several nodes, by what they compute.

    before:  x -> Div(sqrt 2) -> Erf -> Add(1) -> Mul(x) -> Mul(0.5) -> y
    after:   x -> Gelu -> y

Spellings differ from exporter to exporter and version to version; values do not. For each node, the elementwise nodes
with scalar constants behind which only one tensor x enters are evaluated on a grid by onnx's reference, and compared
with the activations below. One neuron then sends what would take a neuron for each node, with one error and one
silent step. It does not fire where the values differ anywhere on the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from csscc.passes.adapter import evaluate_nodes
from csscc.passes.base import BasePass
from csscc.passes.network import Network
from csscc.passes.rewrite import constant, is_output
from csscc.runtime.functions import ACTIVATION_DOMAIN

Array = NDArray[np.float64]
ELEMENTWISE = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Pow",
        "Sqrt",
        "Exp",
        "Erf",
        "Tanh",
        "Sigmoid",
        "HardSigmoid",
        "Softplus",
        "Clip",
        "Relu",
        "Min",
        "Max",
        "Identity",
        "Reciprocal",
    ]
)
MAX_NODES = 14
GRID = np.concatenate([np.linspace(-12, 12, 481), [-1e4, -300.0, -50.0, 50.0, 300.0, 1e4]])
TOLERANCE = 2e-5


@dataclass(frozen=True)
class Known:
    """An activation to be recognised: its values, and the node that stands for it."""

    values: Callable[[Array], Array]
    op: str
    domain: str | None = None
    attributes: tuple[tuple[str, Any], ...] = ()


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _gelu(x: Array) -> Array:
    from math import erf

    return np.asarray(x * 0.5 * (1 + np.array([erf(v / np.sqrt(2)) for v in x])))


KNOWN = (
    Known(lambda x: np.maximum(x, 0), "Relu"),
    Known(lambda x: x * _sigmoid(x), "Silu", ACTIVATION_DOMAIN),
    Known(lambda x: x * _sigmoid(1.702 * x), "QuickGelu", ACTIVATION_DOMAIN),
    Known(_gelu, "Gelu"),
    Known(
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        "Gelu",
        attributes=(("approximate", "tanh"),),
    ),
    Known(lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "HardSwish"),
    Known(lambda x: np.clip(x / 6 + 0.5, 0, 1), "HardSigmoid", attributes=(("alpha", 1 / 6), ("beta", 0.5))),
    Known(lambda x: x * np.tanh(np.logaddexp(0, x)), "Mish"),
)


@dataclass(frozen=True)
class RecogniseActivations(BasePass):
    """Replace spelled-out activations by one node each."""

    name: ClassVar[str] = "recognise-activations"

    def apply(self, network: Network) -> int:
        """Return the number of activations recognised."""
        graph = network.graph
        found = 0
        for node in reversed(list(graph.nodes)):
            if node.outputs and node.op in ("Mul", "Div", "Clip", "Max") and _recognise(graph, node):
                found += 1
        graph.cleanup().toposort()
        return found


def _recognise(graph: Any, last: Any) -> bool:
    for source, nodes in reversed(_cones(graph, last)):
        if len(nodes) == 1 and last.op in ("Mul", "Div"):
            continue
        values = evaluate_nodes(nodes, source, last.outputs[0], GRID.astype(np.float32))
        if values is None:
            continue
        for known in KNOWN:
            wanted = known.values(GRID)
            if np.allclose(values, wanted, rtol=TOLERANCE, atol=TOLERANCE):
                last.op, last.domain, last.attrs = known.op, known.domain, dict(known.attributes)
                last.inputs.clear()
                last.inputs.append(source)
                return True
    return False


def _cones(graph: Any, last: Any) -> list[tuple[Any, list[Any]]]:
    """Pairs of a tensor and the nodes between it and `last`, smaller first, where only that tensor enters."""
    nodes: list[Any] = []
    open_tensors = [last.outputs[0]]
    cones = []
    while open_tensors and len(nodes) < MAX_NODES:
        order = {id(n): i for i, n in enumerate(graph.nodes)}
        # Expand the open tensor that is made last, so that the set of open tensors stays a cut.
        open_tensors.sort(key=lambda t: order.get(id(t.inputs[0]), -1) if t.inputs else -1)
        tensor = open_tensors.pop()
        node = tensor.inputs[0] if tensor.inputs else None
        if node is None or not _elementwise(node) or (node is not last and is_output(graph, tensor)):
            break
        nodes.insert(0, node)
        for source in node.inputs:
            if source.name and not _scalar(source) and all(source is not t for t in open_tensors):
                open_tensors.append(source)
        if len(open_tensors) == 1:
            cones.append((open_tensors[0], list(nodes)))
    return cones


def _elementwise(node: Any) -> bool:
    if node.op not in ELEMENTWISE or (node.domain or "") or len(node.outputs) != 1:
        return False
    return all(not t.name or _scalar(t) or constant(node, i) is None for i, t in enumerate(node.inputs))


def _scalar(tensor: Any) -> bool:
    values = getattr(tensor, "values", None)
    return values is not None and values.size == 1
