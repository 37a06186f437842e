"""Absorb the amplitudes into the weights (Algorithm 2): w' = theta_in/theta_out * w, b' = b/(theta_out * sum(q)).

Every ``Mul`` by a constant in the core is a factor. Factors are first pushed down, from the spikes they belong to
towards the weights that read them, then pulled up, from the neurons they belong to towards the weights that feed
them; where two meet, on an identity shortcut, they become one. Each move is an identity of linear algebra that the
operators of `csscc.passes.linear` know. A factor that no weights can absorb stays: a diagonal synapse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.core import core_tensors
from csscc.dialect.network import Network
from csscc.dialect.order import tidy, toposort
from csscc.dialect.rewrite import (
    constant,
    constant_tensor,
    insert_node,
    is_output,
    only_reader,
    producer,
    replace_input,
    replace_readers,
)
from csscc.dialect.spiking import DOMAIN
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Scale
from csscc.passes.linear.factors import ONE, Factor
from csscc.passes.linear.layout import Concat, Selection


@dataclass(frozen=True)
class Rescale(BasePass):
    """Move factors into weights."""

    name: ClassVar[str] = "rescale"

    def apply(self, network: Network) -> int:
        """Return the number of moves made."""
        graph = network.graph
        core = {id(t) for t in core_tensors(graph)}
        moves = 0
        for move in (_push, _pull):
            while True:
                toposort(graph)
                factors = [n for n in graph.nodes if is_factor(n) and id(n.outputs[0]) in core]
                if move is _pull:
                    factors.reverse()
                made = sum(move(graph, node, core) for node in factors if node.outputs)
                moves += made
                if not made:
                    break
                graph.cleanup()
        tidy(graph)
        return moves


def is_factor(node: gs.Node) -> bool:
    """Whether the node multiplies one tensor by a constant."""
    return node.op == "Mul" and sum(constant(node, i) is not None for i in (0, 1)) == 1


def _data(node: gs.Node) -> gs.Tensor:
    return next(t for t in node.inputs if not isinstance(t, gs.Constant))


def _factor(node: gs.Node) -> Factor:
    return Scale().factor(node)


def _push(graph: gs.Graph, node: gs.Node, core: set[int]) -> int:
    """Move the factor at `node` into each of its readers that can take it."""
    source, output, factor = _data(node), node.outputs[0], _factor(node)
    if np.array_equal(factor, ONE):
        return _drop(graph, node)
    moves = 0
    for reader in list({id(r): r for r in output.outputs}.values()):
        if reader.domain == DOMAIN:
            continue
        if reader.op == "Concat":
            moves += _push_concat(graph, reader, core)
            continue
        indices = [i for i, t in enumerate(reader.inputs) if t is output]
        if len(indices) != 1 or reader.op not in LINEAR:
            continue
        rule = LINEAR[reader.op]
        each = rule.push_each(reader, factor) if isinstance(rule, Selection) else None
        passed = rule.push(graph, reader, indices[0], factor) if each is None else None
        if each is None and passed is None:
            continue
        replace_input(reader, output, source)
        moves += 1
        for k, tensor in enumerate(list(reader.outputs)):
            part = passed if each is None else each[k]
            if part is not None and not np.array_equal(part, ONE):
                _factor_after(graph, reader.name, tensor, part, core)
    return moves


def _push_concat(graph: gs.Graph, concat: gs.Node, core: set[int]) -> int:
    """Where every input of a concatenation is a factor, one after it does their work."""
    makers = [m for t in concat.inputs if (m := producer(t)) is not None and is_factor(m)]
    if len(makers) != len(concat.inputs):
        return 0
    joined = Concat().join(concat, [_factor(m) for m in makers])
    if joined is None:
        return 0
    for index, maker in enumerate(makers):
        concat.inputs[index] = _data(maker)
    _factor_after(graph, concat.name, concat.outputs[0], joined, core)
    return 1


def _factor_after(graph: gs.Graph, name: str, output: gs.Tensor, factor: Factor, core: set[int]) -> None:
    """Put a factor between what a node makes and its readers; outputs of the graph are never core tensors."""
    readers = list({id(r): r for r in output.outputs}.values())
    if not readers:
        return
    tensor = constant_tensor(graph, f"{name}_factor", factor)
    value = insert_node(graph, "Mul", f"{name}_factor", [output, tensor])
    core.add(id(value))
    for reader in readers:
        replace_input(reader, output, value)


def _pull(graph: gs.Graph, node: gs.Node, core: set[int]) -> int:
    """Move the factor at `node` into what made its data, if nothing else reads that."""
    source, factor = _data(node), _factor(node)
    if np.array_equal(factor, ONE):
        return _drop(graph, node)
    maker = producer(source)
    if maker is None or maker.domain == DOMAIN or maker.op not in LINEAR or only_reader(graph, source) is not node:
        return 0
    if len(maker.outputs) != 1:
        return 0
    remaining = LINEAR[maker.op].pull(graph, maker, factor)
    if remaining is None:
        return 0
    for index, part in remaining.items():
        tensor = maker.inputs[index]
        value = insert_node(
            graph, "Mul", f"{maker.name}_factor", [tensor, constant_tensor(graph, f"{maker.name}_factor", part)]
        )
        core.add(id(value))
        maker.inputs[index] = value
    replace_readers(node.outputs[0], source)
    node.outputs.clear()
    return 1


def _drop(graph: gs.Graph, node: gs.Node) -> int:
    if is_output(graph, node.outputs[0]):
        return 0
    replace_readers(node.outputs[0], _data(node))
    node.outputs.clear()
    return 1
