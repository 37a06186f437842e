"""Why a node stands in the way, where what the tables of operators state is not the cause.

A Dropout in training mode does mix the batch, and the arithmetic of sizes does hold operators that no neuron can send.
But neither is what a user can change: the one was exported in training mode, the other is there for a free size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

import onnx_graphsurgeon as gs

from csscc.dialect.rewrite import attribute, subgraphs
from csscc.dialect.sizes import example, is_free
from csscc.errors import Offender
from csscc.passes.linear import WEIGHTED
from csscc.passes.linear.core import read_tensors
from csscc.passes.linear.layout import MIXES_BATCH

RECURRENT = ("LSTM", "GRU", "RNN")
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
SHOWN = 3  # layers inside a node that are named

NO_SHAPE = "its shape is not known"
EVALUATION = "export the network in evaluation mode: model.eval() in PyTorch, training=False in Keras"
FLOAT = "compile the float network, or quantise it with constant scales and weights (docs/quantised.md)"
NO_RECURRENCE = "recurrence cannot be spiking; export the network without it, or split it here"
ONE_BRANCH = "control flow cannot be spiking; export one branch, with the condition constant"

Cause = tuple[str, str]


def true_cause(node: gs.Node, text: str, sizes: Sizes, noted: str = "") -> Cause | None:
    """Reason and advice for a core node, where tables give `text` and a pass `noted`; None where it is `text`."""
    found = _training(node) or named_cause(node.op, noted) or _recurrence(node)
    return found or sizes.cause(node, text) or _branches(node)


def instead_of_layers(graph: gs.Graph, noted: Mapping[str, str] = MappingProxyType({})) -> list[Offender]:
    """What a network without a weighted layer has in place of one, with the reasons; nothing if it has nothing.

    `noted` holds what passes noted of nodes, by name.
    """
    found = []
    for node in graph.nodes:
        cause = named_cause(node.op, noted.get(node.name, "")) or _recurrence(node)
        if cause is None and _layers_in(node):
            cause = _branches(node)
        if cause is not None:
            found.append(Offender(node.name, node.op, *cause))
    return found


def causes_first(graph: gs.Graph, offenders: Iterable[Offender]) -> list[Offender]:
    """Put recurrence first, and last what moves the batch next to a node that stands in the way: its advice names it.

    An LSTM has the batch in its second place, and so may an operator that is not in the tables: without it, the
    Transposes around it go as well.
    """
    found = {o.node: o for o in offenders}
    beside = {n.name: n for n in graph.nodes if n.name in found}
    reached = {name: name for name, o in found.items() if o.reason != MIXES_BATCH}
    waiting = list(reached)
    while waiting:
        name = waiting.pop(0)
        node = beside[name]
        near = [*(n for t in node.inputs for n in t.inputs), *(n for t in node.outputs for n in t.outputs)]
        for other in near:
            if other.name in found and other.name not in reached:
                reached[other.name] = reached[name]
                waiting.append(other.name)
    causes = [o for o in found.values() if reached.get(o.node) in (None, o.node)]
    causes.sort(key=lambda o: not o.op.endswith(RECURRENT))
    moves = [o for o in found.values() if reached.get(o.node) not in (None, o.node)]
    named = {o.node: f"{o.op} '{o.node}'" for o in causes}
    return [*causes, *(replace(o, advice=f"perhaps only for {named[reached[o.node]]}: see there first") for o in moves)]


def _training(node: gs.Node) -> Cause | None:
    if node.op in RANDOM:
        return "it draws random numbers", EVALUATION
    mode = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else None
    trains = mode is not None and mode.name != "" and not (isinstance(mode, gs.Constant) and not mode.values.any())
    if trains or (node.op == "BatchNormalization" and attribute(node, "training_mode", 0) != 0):
        return "it is in training mode", EVALUATION
    return None


def named_cause(op: str, noted: str = "") -> Cause | None:
    """Reason and advice for an operator that is recurrent or quantised by its name, in whatever domain.

    What is both, as DynamicQuantizeLSTM, is recurrent: the float network would be refused as well. What a pass has
    `noted` of a quantised one is its reason.
    """
    if op.endswith(RECURRENT):
        return "it is recurrent", NO_RECURRENCE
    named = "quant" in op.lower() or op.endswith("Integer") or (op[:1] == "Q" and op[1:2].isupper())
    return (noted or "the network is quantised here", FLOAT) if named else None


def _recurrence(node: gs.Node) -> Cause | None:
    """Recurrence inside a branch or a loop."""
    held = _named(n for g in subgraphs(node) for n in g.nodes if n.op.endswith(RECURRENT))
    if held:
        return f"it is recurrent: it holds {held}", NO_RECURRENCE
    return ("it is a loop", NO_RECURRENCE) if node.op in ("Loop", "Scan") else None


def _branches(node: gs.Node) -> Cause | None:
    if node.op != "If":
        return None
    layers = _named(_layers_in(node))
    return "its condition is computed" + (f", and it holds {layers}" if layers else ""), ONE_BRANCH


def _layers_in(node: gs.Node) -> list[gs.Node]:
    return [n for g in subgraphs(node) for n in g.nodes if n.op in (*WEIGHTED, *RECURRENT)]


def _named(nodes: Iterable[gs.Node]) -> str:
    text = [f"{n.op} '{n.name}'" for n in nodes]
    return ", ".join(text[:SHOWN]) + (f" and {len(text) - SHOWN} more" if len(text) > SHOWN else "")


class Sizes:
    """Which tensors of a graph are computed from sizes that are free, the batch among them.

    Attributes:
        advice: what to do about it.
    """

    def __init__(self, graph: gs.Graph) -> None:
        free = [t for t in graph.inputs if t.shape is None or not all(isinstance(d, int) for d in t.shape)]
        self.advice = "fix the sizes: " + " ".join(example(t.name, t.shape) for t in free)
        self._free, self._after_batch = bool(free), any(is_free(t.shape) for t in free)
        self._computed: set[int] = set()
        for node in graph.nodes:
            read = [t for t in read_tensors(node) if t.name and not isinstance(t, gs.Constant)]
            if node.op in ("Shape", "Size") or (read and all(id(t) in self._computed for t in read)):
                self._computed.update(id(t) for t in node.outputs)

    def cause(self, node: gs.Node, text: str) -> Cause | None:
        """Reason and advice where a size that is free is what stands in the way of a node, None elsewhere."""
        if not self._free:
            return None
        if any(id(t) in self._computed for t in node.outputs):
            return "it computes with sizes that are free", self.advice
        if any(id(t) in self._computed for t in node.inputs):
            return "its parameters are computed from sizes that are free", self.advice
        return ("the sizes of its input are free", self.advice) if text == NO_SHAPE and self._after_batch else None
