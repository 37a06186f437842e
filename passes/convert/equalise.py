"""Equalise the ranges of neighbouring layers (Nagel et al. 2019, section 4.1), for amplitudes of whole layers.

    before:  x -> W1, b1 -> f -> y    -> W2        f(c*x) = c*f(x), y read by W2 alone
    after:   x -> W1/s, b1/s -> f -> y/s -> W2*s    s_i = sqrt(r1_i / r2_i) for each channel i of y

r1_i is the largest weight that makes channel i, r2_i the largest that reads it. The network computes the same, and its
channels come closer to one another in size, so that one theta fits them all. With an amplitude per channel it changes
little: theta follows the channels already.

It does not fire where the activation is not positively homogeneous or mixes channels, where anything else reads a
tensor in between or it is an output, and where a channel's weights are all zero. Pairs share layers, so all of them
take turns until nothing moves, at most `rounds` times.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.coding.activations import ACTIVATIONS
from csscc.dialect.network import Network
from csscc.dialect.rewrite import only_reader, producer, rank_of
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR
from csscc.passes.linear.core import is_weighted
from csscc.passes.linear.factors import Factor
from csscc.passes.linear.weighted import WeightedOp

SETTLED = 1e-3


@dataclass(frozen=True)
class Equalise(BasePass):
    """Scale the channels between pairs of weighted layers."""

    name: ClassVar[str] = "equalise"
    rounds: int = 20

    def apply(self, network: Network) -> int:
        """Return the number of pairs of layers whose channels were scaled."""
        graph = network.graph
        pairs = [pair for node in graph.nodes if (pair := _pair(graph, node)) is not None]
        changed: set[int] = set()
        for _ in range(self.rounds):
            moved = {i for i, pair in enumerate(pairs) if _equalise(graph, *pair)}
            changed |= moved
            if not moved:
                break
        return len(changed)


def _pair(graph: gs.Graph, node: gs.Node) -> tuple[gs.Node, gs.Node] | None:
    """The weighted nodes around an activation that nothing else reads."""
    activation = ACTIVATIONS.get(node.op)
    if activation is None or not activation.homogeneous or activation.inputs != 1 or activation.scope == "row":
        return None
    before, after = producer(node.inputs[0]), only_reader(graph, node.outputs[0])
    if before is None or after is None or only_reader(graph, node.inputs[0]) is not node:
        return None
    if not is_weighted(before) or not is_weighted(after):
        return None
    rank = rank_of(node.outputs[0])
    made, read = _rule(before).output_axis(before) % rank, _rule(after).input_axis(after) % rank
    if made != read or rank_of(node.inputs[0]) != rank or (activation.scope == "window" and made != 1):
        return None
    return before, after


def _rule(node: gs.Node) -> WeightedOp:
    rule = LINEAR[node.op]
    assert isinstance(rule, WeightedOp)
    return rule


def _equalise(graph: gs.Graph, before: gs.Node, after: gs.Node) -> bool:
    """Make both ranges of every channel their geometric mean; False where they are close to it already."""
    made, read = _largest(_rule(before).outputs_first(before)), _largest(_rule(after).inputs_first(after))
    alive = (made > 0) & (read > 0)
    scale = np.sqrt(np.divide(made, read, out=np.ones_like(made), where=alive))
    if np.abs(scale - 1).max(initial=0.0) < SETTLED:
        return False
    _rule(before).scale_outputs(graph, before, 1 / scale)
    _rule(after).scale_inputs(graph, after, scale)
    return True


def _largest(rows: Factor) -> Factor:
    largest: Factor = np.abs(rows).max(axis=1)
    return largest
