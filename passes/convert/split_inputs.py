"""Send an input that has more digits than there are steps as several trains side by side.

    before:  x -> Conv(w)
    after:   x -> Clip(Round(x / s)) * s = high;  Concat(high, x - high) -> Conv(Concat(w, w))

Four steps send activations well enough, but not an image of 8 bits: a first layer that sees 4 bits of it is another
network. The high digits and the low ones become channels, with amplitudes `levels` apart; the first layer has its
weights once for each. In a quantised network, whose other layers round nothing, the input gets all of its digits: those
of its quantiser, or of `BITS` bits where none is known. In others it gets two trains, if the first layer is a small
part of the work or the user asks for it.

It fires where spike weights are integers, in quantised networks and where a train has few levels, if only weighted
operators without groups read the input, along one axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.adapter import sized_shapes
from csscc.dialect.grids import grid_of
from csscc.dialect.macs import multiply_accumulates_of
from csscc.dialect.network import Network
from csscc.dialect.order import toposort
from csscc.dialect.rewrite import (
    attribute,
    constant,
    insert_node,
    rank_of,
    replace_input,
    set_constant,
    shape_of,
)
from csscc.passes.base import BasePass
from csscc.passes.canonical.float_quantisers import parameter
from csscc.passes.convert.channels import weight_axis
from csscc.passes.convert.find_regions import survey
from csscc.passes.convert.known_amplitudes import is_quantised
from csscc.passes.linear import LINEAR
from csscc.passes.linear.factors import Factor, along, spread
from csscc.passes.linear.weighted import WeightedOp

BITS = 24  # of a quantised network's inputs that no quantiser rounds: of a float32 number

CHEAP = 0.1  # of all multiply-accumulates


@dataclass(frozen=True)
class SplitInputs(BasePass):
    """Give inputs more trains where one has too few steps; with `always`, whatever the first layer's work."""

    name: ClassVar[str] = "split-inputs"
    always: bool = False

    def apply(self, network: Network) -> int:
        """Return the number of inputs that were split."""
        assert network.regions is not None
        coding = network.coding
        quantised = is_quantised(network)
        if network.ann is not None or not (quantised or coding.splits_inputs):
            return 0
        names = network.regions.encoded if quantised or self.always else _cheap(network)
        exact = [name for name in names if coding.is_exact(burst=name in network.bursts)]
        split = sum(_split(network, name, BITS if quantised else None) for name in exact)
        if split:
            toposort(network.graph)
            network.regions, _ = survey(network.graph, network.events)
        return split


def _cheap(network: Network) -> list[str]:
    """Inputs whose readers do a small part of the work."""
    graph, regions = network.graph, network.regions
    assert regions is not None
    shapes, tensors = sized_shapes(network), graph.tensors()
    most = CHEAP * multiply_accumulates_of(graph.nodes, shapes)
    return [name for name in regions.encoded if multiply_accumulates_of(tensors[name].outputs, shapes) <= most]


def _split(network: Network, name: str, bits: int | None) -> bool:
    """Split an input; `bits` are those to be sent where no quantiser is known, or those of two trains."""
    graph, coding = network.graph, network.coding
    tensor, theta, levels = graph.tensors()[name], network.amplitudes[name], network.levels(name)
    grid, base = grid_of(tensor, network.grids), levels + 1
    span = grid.span if grid else 2.0**bits - 1 if bits else base**2 - 1
    parts = next((p for p in range(1, 9) if base**p > span), 1)
    readers = list({id(r): r for r in tensor.outputs}.values())
    axes = {_input_axis(r) for r in readers if network.regions and r.name in network.regions.core_inputs}
    if parts == 1 or len(axes) != 1 or None in axes or len(readers) != len(tensor.outputs):
        return False
    axis, rank = next(a for a in axes if a is not None), rank_of(tensor)
    channels = shape_of(tensor)[axis]
    if not isinstance(channels, int) or along(theta, rank, axis) is None:
        return False
    last = theta * levels / span if grid is None else grid.scale
    steps = [last * base**p for p in reversed(range(parts))]
    digits = _digits(graph, tensor, steps, levels)
    joined = insert_node(graph, "Concat", f"{name}_digits", digits, axis=axis)
    joined.shape = [parts * channels if i == axis else d for i, d in enumerate(shape_of(tensor))]
    for reader in readers:
        if network.regions and reader.name in network.regions.core_inputs:
            replace_input(reader, tensor, joined)
            weights = np.asarray(constant(reader, 1))
            set_constant(graph, reader, 1, np.concatenate([weights] * parts, weight_axis(reader, weights.ndim)))
    vectors = [np.broadcast_to(np.asarray(along(step, rank, axis)), channels) for step in steps]
    network.amplitudes[joined.name] = spread(np.concatenate(vectors), rank, axis)
    network.trains[joined.name] = parts
    del network.amplitudes[name]
    network.bursts = frozenset(joined.name if n == name else n for n in network.bursts)
    network.report(SplitInputs.name, name, f"more digits than {coding.T} steps can send: sent as {parts} trains")
    return True


def _digits(graph: gs.Graph, tensor: gs.Tensor, steps: list[Factor], levels: float) -> list[gs.Tensor]:
    """Parts of a tensor that add up to it, each but the last a whole number of its step, up to `levels` of them."""
    parts, rest = list[gs.Tensor](), tensor
    for number, step in enumerate(steps[:-1], 1):
        name = f"{tensor.name}_digit{number}"
        size = parameter(graph, f"{name}_step", step)
        bounds = [parameter(graph, f"{name}_bound", bound) for bound in (-levels, levels)]
        whole = insert_node(graph, "Round", f"{name}_round", [insert_node(graph, "Div", f"{name}_div", [rest, size])])
        part = insert_node(graph, "Mul", name, [insert_node(graph, "Clip", f"{name}_clip", [whole, *bounds]), size])
        parts.append(part)
        rest = insert_node(graph, "Sub", f"{name}_rest", [rest, part])
    return [*parts, rest]


def _input_axis(node: gs.Node) -> int | None:
    """The channel axis of the data of an operator whose weights can be repeated along it; None if they cannot."""
    rule = LINEAR.get(node.op)
    if not isinstance(rule, WeightedOp) or node.op not in ("Conv", "Gemm", "MatMul") or constant(node, 1) is None:
        return None
    if attribute(node, "group", 1) != 1 or attribute(node, "transA", 0):
        return None
    return rule.input_axis(node) % rank_of(node.inputs[0])
