"""Give every neuron, and every readout, its bias on the first step.

    before:  Conv(s, w, b/sum(q)) -> TSA(z, 0)        the bias arrives in T parts
    after:   Conv(s, w) -> TSA(z, b)                  the neuron knows all of it from the start

The sum is the same; spikes are sent on better knowledge. A constant is followed from the weighted operators through
sums, factors, averages and layout to the neuron or readout that reads them. Where another node reads a tensor on the
way, or where padding would make the constant vary over space, the bias stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from csscc.dialect.biases import constant_part, set_constant_part
from csscc.dialect.core import core_tensors
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import constant, only_reader
from csscc.dialect.spiking import DOMAIN, spiking_nodes
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR, LinearOp
from csscc.passes.linear.factors import ZERO, Factor, compress
from csscc.passes.linear.layout import Concat


@dataclass(frozen=True)
class BiasOnFirstStep(BasePass):
    """Move constants from the linear operators to the readouts, and with `neurons` to the neurons as well."""

    name: ClassVar[str] = "bias-on-first-step"
    neurons: bool = True

    def apply(self, network: Network) -> int:
        """Return the number of inputs of neurons and readouts that got a bias."""
        graph = network.graph
        moved = 0
        for _, view in spiking_nodes(graph):
            if view.is_neuron and not self.neurons:
                continue
            for k, current in enumerate(view.current):
                taken = _take(graph, current, lambda constant: True)
                if np.any(taken != 0):
                    total = np.asarray(constant_part(view, k), np.float64) + taken * network.coding.levels
                    set_constant_part(graph, view, k, compress(total))
                    moved += 1
        _drop_zero_sums(graph)
        tidy(graph)
        return moved


def _take(graph: Any, tensor: Any, passes: Callable[[Factor], bool]) -> Factor:
    """Remove the constant part of `tensor` from the operators that make it, and return it.

    `passes` shows whether a constant on `tensor` is one at the neuron; one that is not stays where it is.
    """
    if not tensor.inputs or only_reader(graph, tensor) is None:
        return ZERO
    node = tensor.inputs[0]
    rule = LINEAR.get(node.op)
    if rule is None or node.domain == DOMAIN or len(node.outputs) != 1:
        return ZERO
    inputs = list(node.inputs)
    total = rule.take_constant(graph, node)
    if not passes(total):
        node.inputs.clear()
        node.inputs.extend(inputs)
        total = ZERO
    if rule.weighted:
        return total
    for index, source in enumerate(inputs):
        if constant(node, index) is not None or not source.name:
            continue
        carry = partial(_carried, rule, node, index)
        if carry(ZERO) is None:
            continue
        carried = carry(_take(graph, source, partial(_passes_after, carry, passes)))
        assert carried is not None
        total = compress(total + carried)  # a factor makes zeros of zero, and these vary nowhere
    return total


def _passes_after(carry: Callable[[Factor], Factor | None], passes: Callable[[Factor], bool], value: Factor) -> bool:
    """Whether a constant in front of an operator may move, given where it would be after it."""
    carried = carry(value)
    return carried is not None and passes(carried)


def _carried(rule: LinearOp, node: Any, index: int, value: Factor) -> Factor | None:
    """What a constant on input `index` is at the node's output."""
    if isinstance(rule, Concat):
        return rule.join(node, [value if i == index else ZERO for i in range(len(node.inputs))])
    return rule.carry_constant(node, index, value)


def _drop_zero_sums(graph: Any) -> None:
    """Sums whose constant was taken away pass their other operand on."""
    from csscc.dialect.rewrite import is_output, replace_readers

    core = {id(t) for t in core_tensors(graph)}
    for node in list(graph.nodes):
        if node.op not in ("Add", "Sub") or id(node.outputs[0]) not in core or is_output(graph, node.outputs[0]):
            continue
        index = next((i for i in (0, 1) if (v := constant(node, i)) is not None and not np.any(v)), None)
        if index is None or (node.op == "Sub" and index == 0):
            continue
        if len(node.inputs[1 - index].shape or []) == len(node.outputs[0].shape or []):
            replace_readers(node.outputs[0], node.inputs[1 - index])
            node.outputs.clear()
