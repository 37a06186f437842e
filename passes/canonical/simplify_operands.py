"""Bring operators of the core with many operands, or with a constant one, to a few forms.

    Max(a, b, c, k, l)            Max(Max(a, b), c), then AtLeast(., max(k, l))        Min likewise, with AtMost
    Mean(a, b, c)                 Mul(Sum(a, b, c), 1/3)
    Div(k, x), Pow(k, x)          DividedInto(x, k), PowerOf(x, k)
    Add(x, k), Max(a, b), ...     Add(Expand(x), k), Max(Expand(a), b), ...             where an operand is repeated

k and l are constants; AtLeast, AtMost, DividedInto and PowerOf are activations with a constant parameter
(`csscc.coding.activations`). An operand that the operator repeats along an axis is repeated by an ``Expand``, so that
after this pass factors and constants fit both sides. Prologue and epilogue stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import Shape, constant_tensor, insert_shaped, set_inputs
from csscc.dialect.spiking import ACTIVATION_DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.linear.core import core_nodes

BOUNDS: dict[str, tuple[str, np.ufunc]] = {"Max": ("AtLeast", np.maximum), "Min": ("AtMost", np.minimum)}
CONSTANT_FIRST = {"Div": "DividedInto", "Pow": "PowerOf"}
REPEATING = frozenset(["Add", "Sub", "Mul", "Div", "Max", "Min"])


@dataclass(frozen=True)
class SimplifyOperands(BasePass):
    """Rewrite operators of the core by their operands."""

    name: ClassVar[str] = "simplify-operands"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten."""
        graph = network.graph
        changed = 0
        for node in core_nodes(graph):
            if (node.domain or "") == "":
                changed += _few_operands(graph, node)
        for node in core_nodes(graph):
            if (node.domain or "") == "" and node.op in REPEATING:
                changed += _expand(graph, node)
        tidy(graph)
        return changed


def _few_operands(graph: gs.Graph, node: gs.Node) -> int:
    constants = [t for t in node.inputs if isinstance(t, gs.Constant)]
    computed = [t for t in node.inputs if not isinstance(t, gs.Constant)]
    if not computed:
        return 0
    if node.op in BOUNDS and (constants or len(computed) > 2):
        _chain(graph, node, computed, constants)
        return 1
    if node.op in CONSTANT_FIRST and isinstance(node.inputs[0], gs.Constant):
        _with_parameter(node, CONSTANT_FIRST[node.op], node.inputs[1], node.inputs[0])
        return 1
    if node.op == "Mean":
        share = constant_tensor(graph, f"{node.name}_share", np.float32(1 / len(node.inputs)))
        total = _insert(graph, node, "Sum", list(node.inputs), node.outputs[0].shape)
        node.op = "Mul"
        set_inputs(node, [total, share])
        return 1
    return 0


def _chain(graph: gs.Graph, node: gs.Node, computed: list[gs.Tensor], constants: Sequence[gs.Constant]) -> None:
    """Two operands at a time; the constants, as one, at the end."""
    bound, unite = BOUNDS[node.op]
    last = computed.pop() if not constants and len(computed) > 1 else None
    result = computed[0]
    for tensor in computed[1:]:
        result = _insert(graph, node, node.op, [result, tensor], _broadcast(result.shape, tensor.shape))
    if constants:
        united = reduce(unite, [t.values for t in constants])
        _with_parameter(node, bound, result, constant_tensor(graph, f"{node.name}_bound", united))
    elif last is not None:
        set_inputs(node, [result, last])


def _with_parameter(node: gs.Node, op: str, data: gs.Tensor, parameter: gs.Tensor) -> None:
    node.op, node.domain = op, ACTIVATION_DOMAIN
    set_inputs(node, [data, parameter])


def _insert(graph: gs.Graph, node: gs.Node, op: str, inputs: Sequence[gs.Tensor], shape: Shape | None) -> gs.Variable:
    return insert_shaped(graph, op, f"{node.name}_{op.lower()}", inputs, shape)


def _broadcast(a: Shape | None, b: Shape | None) -> Shape | None:
    """Shape of an operation on two tensors, or None where it is not known."""
    if a is None or b is None:
        return None
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    padded = [1] * (len(longer) - len(shorter)) + list(shorter)
    return [y if x == 1 else x for x, y in zip(longer, padded, strict=True)]


def _expand(graph: gs.Graph, node: gs.Node) -> int:
    """Repeat the computed operands that the node repeats after the batch, where a factor would meet the repeated axis.

    Products of two computed tensors need it not: their factors stay in front. Nor do sums, but along the channels:
    other factors pass.
    """
    computed = [t for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
    after = node.outputs[0].shape
    adds = len(computed) > 1 and node.op in ("Add", "Sub")
    if after is None or (len(computed) > 1 and node.op not in BOUNDS and not adds):
        return 0
    changed = 0
    for index, tensor in enumerate(node.inputs):
        if isinstance(tensor, gs.Constant) or tensor.shape is None or len(tensor.shape) != len(after):
            continue
        times = [a if b == 1 and isinstance(a, int) else 1 for b, a in zip(tensor.shape[1:], after[1:], strict=True)]
        times = times[:1] + [1] * len(times[1:]) if adds else times
        if max(times, default=1) > 1:
            target = constant_tensor(graph, f"{node.name}_shape", np.array([1, *times], np.int64))
            shape = [tensor.shape[0], *(t if t > 1 else b for t, b in zip(times, tensor.shape[1:], strict=True))]
            node.inputs[index] = _insert(graph, node, "Expand", [tensor, target], shape)
            changed += 1
    return changed
