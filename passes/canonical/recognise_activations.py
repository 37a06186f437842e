"""Recognise activations that exporters decompose into several nodes, by what they compute.

    before:  x -> Div(sqrt 2) -> Erf -> Add(1) -> Mul(x) -> Mul(0.5) -> y
    after:   x -> Gelu -> y

Forms differ from exporter to exporter and version to version; values do not. For each node, the elementwise nodes
with scalar constants after which only one tensor x enters are evaluated on a grid by onnx's reference, and compared
with the activations below. One neuron then sends what would take a neuron for each node, with one error and one
silent step. It does not fire where the values differ anywhere on the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from csscc.dialect.adapter import evaluate_nodes
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant, constant_tensor, is_output, producer, set_inputs
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass

Array = NDArray[np.float64]
ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Sqrt", "Exp", "Log", "Erf", "Abs", "Sign", "Reciprocal")
COMPARISON = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Where", "Cast", "Min", "Max", "Identity")
ACTIVATION = ("Tanh", "Sigmoid", "HardSigmoid", "Softplus", "Clip", "Relu", "LeakyRelu", "Elu")
ELEMENTWISE = frozenset((*ARITHMETIC, *COMPARISON, *ACTIVATION))
LAST = frozenset(["Add", "Sub", "Mul", "Div", "Clip", "Min", "Max", "Where", "Log", "Reciprocal"])
MAX_NODES = 14
FAR = 1e4
SMALL = np.geomspace(1e-5, 0.05, 40)
GRID = np.unique(np.concatenate([np.linspace(-12, 12, 481), SMALL, -SMALL, np.outer([-1, 1], [50, 300, FAR]).ravel()]))
TOLERANCE = 2e-5


Attributes = Mapping[str, float | str]


@dataclass(frozen=True)
class Known:
    """An activation to be recognised: its values, and the node that stands for it.

    Attributes:
        op, domain: of the node.
        values: what it computes, given its attributes.
        fit: its attributes, given the values of what may be it; a wrong guess shows in the comparison.
    """

    op: str
    values: Callable[..., Array]
    domain: str | None = None
    fit: Callable[[Array], Attributes] = lambda values: {}


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _gelu(x: Array, approximate: str) -> Array:
    from math import erf

    if approximate == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x * 0.5 * (1 + np.array([erf(v / np.sqrt(2)) for v in x])))


def _at(values: Array, x: float) -> float:
    value = float(values[np.abs(GRID - x).argmin()])
    return value if np.isfinite(value) else 0.0


def _bounds(values: Array) -> dict[str, float]:
    """What the function is at the ends of the grid, where that is not the end itself."""
    low, high = _at(values, -FAR), _at(values, FAR)
    return ({"min": low} if low > -FAR else {}) | ({"max": high} if high < FAR else {})


def _clip(x: Array, min: float = -np.inf, max: float = np.inf) -> Array:
    # A function without bounds is no Clip.
    return np.clip(x, min, max) if min < max and (min, max) != (-np.inf, np.inf) else np.full_like(x, np.nan)


KNOWN = (
    Known("Relu", lambda x: np.maximum(x, 0)),
    Known("Abs", np.abs),
    Known("Clip", _clip, fit=_bounds),
    Known(
        "LeakyRelu",
        lambda x, alpha: np.where(x < 0, alpha * x, x) if alpha != 1 else np.full_like(x, np.nan),
        fit=lambda values: {"alpha": -_at(values, -1)},
    ),
    Known(
        "Elu",
        lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x),
        fit=lambda values: {"alpha": -_at(values, -FAR)},
    ),
    Known("Sigmoid", _sigmoid),
    Known("Softplus", lambda x: np.logaddexp(0, x)),
    Known("Softsign", lambda x: x / (1 + np.abs(x))),
    Known("Silu", lambda x: x * _sigmoid(x), ACTIVATION_DOMAIN),
    Known("QuickGelu", lambda x: x * _sigmoid(1.702 * x), ACTIVATION_DOMAIN),
    Known("Gelu", _gelu, fit=lambda values: {"approximate": "none"}),
    Known("Gelu", _gelu, fit=lambda values: {"approximate": "tanh"}),
    Known("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Known(
        "HardSigmoid",
        lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1),
        fit=lambda values: {"alpha": (_at(values, 1) - _at(values, -1)) / 2, "beta": _at(values, 0)},
    ),
    Known("Mish", lambda x: x * np.tanh(np.logaddexp(0, x))),
)


@dataclass(frozen=True)
class RecogniseActivations(BasePass):
    """Replace decomposed activations by one node each."""

    name: ClassVar[str] = "recognise-activations"

    def apply(self, network: Network) -> int:
        """Return the number of activations recognised."""
        graph = network.graph
        found = 0
        for node in reversed(list(graph.nodes)):
            if node.outputs and node.op in LAST and _recognise(graph, node):
                found += 1
                graph.cleanup()  # parts of it may be activations as well, and nothing reads them any more
        tidy(graph)
        return found


def _recognise(graph: gs.Graph, last: gs.Node) -> bool:
    for source, nodes in reversed(cones(graph, last, is_elementwise)):
        if len(nodes) == 1 and last.op not in ("Max", "Min"):
            continue
        values = evaluate_nodes(nodes, source, last.outputs[0], GRID.astype(np.float32))
        if values is None:
            continue
        # Where a decomposition overflows far out, the activation is what is meant.
        finite = np.isfinite(values)
        if not finite[np.abs(GRID) <= 50].all():
            continue
        for known in KNOWN:
            attributes = known.fit(values)
            wanted = known.values(GRID, **attributes)
            if np.allclose(values[finite], wanted[finite], rtol=TOLERANCE, atol=TOLERANCE):
                _stand_in(graph, last, source, known, attributes)
                return True
    return False


def _stand_in(graph: gs.Graph, last: gs.Node, source: gs.Tensor, known: Known, attributes: Attributes) -> None:
    """Let `last` compute the known activation of `source`; the bounds of a Clip are inputs."""
    last.op, last.domain = known.op, known.domain
    if known.op != "Clip":
        last.attrs = dict(attributes)
        set_inputs(last, [source])
        return
    last.attrs = {}
    bounds = ((f"{last.name}_{name}", attributes.get(name)) for name in ("min", "max"))
    tensors = [gs.Variable.empty() if v is None else constant_tensor(graph, name, v) for name, v in bounds]
    set_inputs(last, [source, *tensors])


def cones(graph: gs.Graph, last: gs.Node, allowed: Callable[[gs.Node], bool]) -> list[tuple[gs.Tensor, list[gs.Node]]]:
    """Pairs of a tensor and the `allowed` nodes between it and `last`, smaller first, where only that tensor enters."""
    nodes: list[gs.Node] = []
    open_tensors: list[gs.Tensor] = [last.outputs[0]]
    cones = []
    order = {id(n): i for i, n in enumerate(graph.nodes)} if allowed(last) else {}
    while open_tensors and len(nodes) < MAX_NODES:
        # Expand the open tensor that is made last, so that the set of open tensors stays a cut.
        open_tensors.sort(key=lambda t: order.get(id(t.inputs[0]), -1) if t.inputs else -1)
        tensor = open_tensors.pop()
        node = producer(tensor)
        if node is None or not allowed(node) or (node is not last and is_output(graph, tensor)):
            break
        nodes.insert(0, node)
        for source in node.inputs:
            if source.name and not isinstance(source, gs.Constant) and all(source is not t for t in open_tensors):
                open_tensors.append(source)
        if len(open_tensors) == 1:
            cones.append((open_tensors[0], list(nodes)))
    return cones


def is_elementwise(node: gs.Node, *, vectors: bool = False) -> bool:
    """Whether the node computes each element of its result from one of a tensor, and scalar constants.

    With `vectors`, constants may vary along the last axis.
    """
    if node.op not in ELEMENTWISE or (node.domain or "") or len(node.outputs) != 1:
        return False
    values = [constant(node, i) for i in range(len(node.inputs))]
    return all(v is None or v.size == 1 or (vectors and v.size == v.shape[-1]) for v in values)
