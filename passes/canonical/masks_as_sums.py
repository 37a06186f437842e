"""Masks as sums and products, and no guards against NaN: what exporters write with Where, in the core.

    Where(c, k, scores) -> Softmax         Add(scores, Where(c, k, 0)) -> Softmax         k <= -1e4
    Where(c, k, x)                         Add(Mul(x, Where(c, 0, 1)), Where(c, k, 0))
    Where(IsNaN(s), 0, s)                  s

c is known before time starts, k a number. One as low as k means "not there": Softmax makes exactly 0 of such a score.
Where all of a row is not there, k = -inf makes NaN of it in the ANN, and a guard makes 0 of that: such a Softmax
becomes ``SoftmaxOrZero``. Elsewhere neurons send finite values, and 0 where their activation has none, so that a guard
has nothing to do.

It does not fire where c or k repeats x along an axis, or where a guard gives another number than 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    attribute,
    constant_tensor,
    insert_node,
    insert_shaped,
    is_output,
    producer,
    rank_of,
    replace_readers,
    set_inputs,
)
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes, keeps_size

LOW = -1e4  # a number that no score comes near
ABSORBING = np.float32(-1e37)  # what is added to it vanishes, so that all are alike where nothing of a row is there
TO_SCORES = frozenset(["Add", "Cast", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Where"])
ROWS = frozenset(["Softmax", "LogSoftmax", "SoftmaxOrZero", "ReduceMax"])


@dataclass(frozen=True)
class MasksAsSums(BasePass):
    """Rewrite the Where nodes of the core whose conditions are known before time starts, and guards against NaN."""

    name: ClassVar[str] = "masks-as-sums"

    def apply(self, network: Network) -> int:
        """Return the number of Where nodes rewritten."""
        graph = network.graph
        core = {id(n) for n in core_nodes(graph)}
        masks = [n for n in graph.nodes if id(n) in core and n.op == "Where"]
        changed = sum(_drop_guard(graph, node) or _apart(graph, node, core) for node in masks)
        tidy(graph)
        return changed


def _drop_guard(graph: gs.Graph, node: gs.Node) -> int:
    """Let the readers of ``Where(IsNaN(s), 0, s)`` read s."""
    test, number, value = node.inputs
    asked = producer(test)
    if asked is None or asked.op != "IsNaN" or asked.inputs[0] is not value or not _is_number(number, 0):
        return 0
    maker = producer(value)
    if maker is not None and maker.op in ("Softmax", "LogSoftmax"):
        last = attribute(maker, "axis", -1) % rank_of(value) == rank_of(value) - 1
        if maker.op != "Softmax" or not last or is_output(graph, value) or len(value.outputs) > 2:
            return 0
        maker.op, maker.domain, maker.attrs = "SoftmaxOrZero", ACTIVATION_DOMAIN, {}
    if is_output(graph, node.outputs[0]):
        node.op = "Identity"
        set_inputs(node, [value])
        return 1
    replace_readers(node.outputs[0], value)
    node.outputs.clear()
    return 1


def _is_number(tensor: gs.Tensor, number: float) -> bool:
    return isinstance(tensor, gs.Constant) and bool((tensor.values == number).all())


def _apart(graph: gs.Graph, node: gs.Node, core: set[int]) -> int:
    """Write ``Where(c, k, x)``, or ``Where(c, x, k)``, as a sum with a mask, or a product with one and a sum."""
    test, total = node.inputs[0], node.outputs[0]
    made = [i for i in (1, 2) if (maker := producer(node.inputs[i])) is not None and id(maker) in core]
    tested = producer(test)
    if len(made) != 1 or (tested is not None and id(tested) in core):
        return 0
    value, number = node.inputs[made[0]], node.inputs[3 - made[0]]
    if not isinstance(number, gs.Constant) or not keeps_size(value, total):
        return 0
    masked = made[0] == 2  # where the test holds

    def mask(name: str, there: gs.Constant, absent: gs.Constant) -> gs.Tensor:
        true, false = (absent, there) if masked else (there, absent)
        if isinstance(test, gs.Constant):
            return constant_tensor(graph, f"{node.name}_{name}", np.where(test.values, true.values, false.values))
        return insert_shaped(graph, "Where", f"{node.name}_{name}", [test, true, false], None)

    zero, one = (constant_tensor(graph, f"{node.name}_{n:.0f}", np.float32(n)) for n in (0, 1))
    if (number.values <= LOW).all() and _only_scores(graph, total):
        kept, number = value, constant_tensor(graph, f"{node.name}_low", np.minimum(number.values, ABSORBING))
    elif np.isfinite(number.values).all():
        kept = insert_node(graph, "Mul", f"{node.name}_kept", [value, mask("there", one, zero)])
    else:
        return 0
    if kept is not value and _is_number(number, 0):
        node.op = "Mul"
        set_inputs(node, list(kept.inputs[0].inputs))
    else:
        node.op = "Add"
        set_inputs(node, [kept, mask("mask", zero, number)])
    return 1


def _only_scores(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Whether a tensor goes nowhere but into operators that look for the largest of a row."""
    if is_output(graph, tensor) or not tensor.outputs:
        return False
    return all(r.op in ROWS or (r.op in TO_SCORES and _only_scores(graph, r.outputs[0])) for r in tensor.outputs)
