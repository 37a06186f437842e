"""Make the weights in front of a quantiser whole numbers, and its factor the value of one of them.

    before:  spikes -> Conv(w * theta) -> TSAQuantise(1 / own scale)              w: whole numbers of steps of a scale
    after:   spikes -> Conv(n) -> TSAQuantise(scale * theta / own scale)          n: the whole numbers

A quantised unit is a whole number of steps, and so is the bias; what spikes make of whole numbers is one as well, and
exact in float32 up to 2**24. So a membrane holds what the accumulator of the quantised ANN holds, and the neuron
multiplies by the same scales before it rounds. Rounding the weights to a power of two instead (`SnapWeights`) would
move one activation in a hundred over a rounding edge.

The steps are found from the weights themselves: for each output channel, the largest number of which all its weights
are multiples. It does not fire where a channel has none, as for weights that were never quantised, or where something
else enters the current.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.biases import constant_part, set_constant_part
from csscc.dialect.grids import QUANTISERS
from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    constant_tensor,
    insert_node,
    only_reader,
    producer,
    rank_of,
    replace_readers,
    values_of,
)
from csscc.dialect.spiking import DOMAIN, Spiking, neurons, view_of
from csscc.passes.base import BasePass
from csscc.passes.convert.rescale import is_factor
from csscc.passes.convert.snap_weights import data_index
from csscc.passes.linear import LINEAR
from csscc.passes.linear.arithmetic import Scale
from csscc.passes.linear.factors import ONE, Factor, compress, spread
from csscc.passes.linear.layout import Concat, Selection
from csscc.passes.linear.mixing import Pool, Reduce
from csscc.passes.linear.weighted import WeightedOp

PARTS = 256  # the smallest unit is at most so many steps
LARGEST = 2.0**16  # number of steps
_MOVES = (Selection, Concat, Pool, Reduce)  # what passes spikes on, or averages or sums of them
PRECISION = 2.0**-21  # of float32 numbers that were multiplied two or three times, relative


@dataclass(frozen=True)
class IntegerWeights(BasePass):
    """Let quantisers read sums of whole numbers."""

    name: ClassVar[str] = "integer-weights"

    def apply(self, network: Network) -> int:
        """Return the number of currents whose weights became whole numbers."""
        graph = network.graph
        changed = 0
        for _, view in neurons(graph):
            if view.kind in QUANTISERS:
                changed += sum(_whole(network, view, k) for k in range(len(view.current)))
        tidy(graph)
        return changed


def _whole(network: Network, view: Spiking[gs.Tensor], index: int) -> bool:
    graph, current = network.graph, view.current[index]
    found = _selected(graph, current)
    if found is not None:
        unit, factors = found
        if not factors or not (unit > 0).all():
            return False
        for factor in factors:
            replace_readers(factor.outputs[0], factor.inputs[data_index(factor)])
            factor.outputs.clear()
    else:
        node = producer(current)
        rule = None if node is None or only_reader(graph, current) is None else LINEAR.get(node.op)
        if node is None or not isinstance(rule, WeightedOp) or rule.additive(node):  # a spread bias is not whole
            return False
        steps = _units_of_weights(network, node, rule)
        if steps is None or np.all(steps == 1):
            return False
        rule.scale_outputs(graph, node, 1 / steps)
        rule.snap(graph, node, np.ones_like(steps))
        unit = spread(steps, rank_of(current), rule.output_axis(node))
    maker = producer(view.biases[index])
    if maker is not None:  # what is known before time starts
        share = constant_tensor(graph, f"{view.name}_share", compress(1 / unit))
        maker.inputs[0] = insert_node(graph, "Mul", f"{maker.name}_shared", [maker.inputs[0], share])
    bias = _nearly_integer(np.asarray(constant_part(view, index), np.float64) / unit)
    set_constant_part(graph, view, index, compress(bias))
    view.set_parameter(index, constant_tensor(graph, f"{view.name}_factor", compress(_factor(view, index, unit))))
    return True


def _factor(view: Spiking[gs.Tensor], index: int, unit: Factor) -> Factor:
    """What the neuron multiplies whole numbers by: of one current, to steps of its own scale."""
    if view.kind != "Quantise":
        return unit
    scale = values_of(view.parameters[1]).astype(np.float32)
    return (unit.astype(np.float32) / scale).astype(np.float64)


def _selected(graph: gs.Graph, tensor: gs.Tensor) -> tuple[Factor, list[gs.Node]] | None:
    """What multiplies the spikes of which a tensor is a selection, and the nodes that do; None if it is none."""
    node = producer(tensor)
    if node is None or node.domain == DOMAIN:
        return None if node is None else (ONE, [])
    if only_reader(graph, tensor) is None:
        return None
    rule = LINEAR.get(node.op)
    inputs = [t for t in node.inputs if t.name and not isinstance(t, gs.Constant)]
    parts = [_selected(graph, t) for t in inputs] if is_factor(node) or isinstance(rule, _MOVES) else [None]
    factors = [part[0] for part in parts if part is not None]
    if len(factors) < len(parts):
        return None
    if is_factor(node):
        factor: Factor | None = factors[0] * Scale().factor(node)
    elif isinstance(rule, Concat):
        factor = rule.join(node, factors)
    else:
        assert rule is not None
        factor = rule.push(graph, node, 0, factors[0])
    nodes = [n for part in parts if part is not None for n in part[1]]
    return None if factor is None else (factor, [*nodes, *([node] if is_factor(node) else [])])


def _units_of_weights(network: Network, node: gs.Node, rule: WeightedOp) -> Factor | None:
    """The value of one integer in front of the neuron, for all channels or each; None if they have no steps.

    It is the product of the scales of weights and spikes, in float32 as integer kernels compute it, where both are
    known: those of the weights as the ANN has them.
    """
    assert network.ann is not None
    rows, theta = rule.outputs_first(node), theta_of(node.inputs[rule.data_index(node)])
    ann = next((n for n in network.ann.nodes if n.name == node.name and n.op == node.op), None)
    if ann is not None and theta is not None:
        steps = steps_of(rule.outputs_first(ann))
        if steps is not None:
            unit = (steps.astype(np.float32) * np.float32(theta)).astype(np.float64)
            counts = rows / unit.reshape(-1, 1)
            if (np.abs(counts - np.rint(counts)) <= 4 * PRECISION * np.maximum(np.abs(counts), 1)).all():
                return unit
    return steps_of(rows)


def theta_of(tensor: gs.Tensor) -> float | None:
    """Amplitude of the spikes of which a tensor is a selection or an average, the least if others are its multiples."""
    node = producer(tensor)
    if node is None:
        return None
    if node.domain == DOMAIN:
        theta = values_of(view_of(node).theta)
        least = theta.min()
        return float(least) if np.array_equal(theta, np.rint(theta / least) * least) else None
    thetas = [theta_of(t) for t in node.inputs if not isinstance(t, gs.Constant) and t.name]
    return thetas[0] if thetas and all(t == thetas[0] for t in thetas) else None


def steps_of(rows: Factor) -> Factor | None:
    """The step of all weights ``[channels, ...]``, or that of each channel; None if a channel has none."""
    common = step_of(rows.reshape(-1))
    if common is not None:
        return np.asarray(common)
    steps = [step_of(row) for row in rows]
    return None if any(s is None for s in steps) else np.array(steps, np.float64)


def step_of(values: Factor) -> float | None:
    """The largest number of which all `values` are multiples, up to float32 precision; 1 if all are zero.

    If there is a float32 number of which they are the rounded multiples, it is that one.
    """
    magnitudes = np.unique(np.abs(values[values != 0]))
    if not magnitudes.size:
        return 1.0
    for parts in range(1, PARTS + 1):
        step = magnitudes[0] / parts
        for _ in range(2):  # once more with the step that all of them have together
            counts = np.rint(magnitudes / step)
            if counts[-1] > LARGEST or (np.abs(magnitudes / step - counts) > 2 * PRECISION * counts[-1]).any():
                break
            step = float(magnitudes @ counts / (counts @ counts))
        else:
            return _as_float32(step, counts, magnitudes)
    return None


def _as_float32(step: float, counts: Factor, magnitudes: Factor) -> float:
    near = np.float32(step)
    candidates = (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf)))
    right = (c for c in candidates if np.array_equal(counts.astype(np.float32) * c, magnitudes.astype(np.float32)))
    return float(next(right, step))


def _nearly_integer(values: Factor) -> Factor:
    """Values that are whole numbers but for rounding as such, the others as they are."""
    whole = np.rint(values)
    return np.where(np.abs(values - whole) <= 4 * PRECISION * np.abs(whole), whole, values)
