"""Carry what is known before time starts to the neurons that take it as a bias.

    before:  s = Add(z, m)    LayerNormalization(s)    Relu(Add(s, w))
    after:   s = Add(z, m)    LayerNormalization(s)    Relu(Add(Add(z, w), m))

m is computed from the inputs, without a weighted layer in between: embeddings, positions, masks. Added to a core tensor
z it needs no spikes if all that reads the sum are neurons and readouts (see `FindRegions`). Where a linear operator
without weights stands in between, it acts on z and on m by itself: f(z + m) = f(z) + f'(m), f' being f without what it
adds. What feeds a weighted layer stays where it is: that reads spikes, of z and m side by side, but not their sum.

    Sub(z, m)         Add(z, Neg(m))
    Concat(z, m)      Add(Pad(z), Pad(m))

It does not fire where m repeats z along an axis; nor, for an operator that is no arithmetic, where sizes after the
batch are not known. A constant is m, too, if it holds numbers that mean "not there": no factor should multiply those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from csscc.dialect.network import Network
from csscc.dialect.order import tidy
from csscc.dialect.rewrite import (
    constant_tensor,
    insert_shaped,
    is_output,
    replace_input,
    set_inputs,
    sizes_after_batch,
    unique_name,
)
from csscc.passes.base import BasePass
from csscc.passes.linear import LINEAR
from csscc.passes.linear.core import core_of, is_known, is_neuron, known_operand
from csscc.passes.linear.layout import concat_axis

SCALES = frozenset(["Mul", "Div", "Neg"])
SEVERAL = frozenset(["Add", "Sub", "Concat"])  # linear in all of their operands


@dataclass(frozen=True)
class CarryKnown(BasePass):
    """Move sums with what is known before time starts after the linear operators that follow them."""

    name: ClassVar[str] = "carry-known"

    def apply(self, network: Network) -> int:
        """Return the number of operators rewritten or passed."""
        carrier = _Carrier(network.graph)
        changed = carrier.run()
        tidy(network.graph)
        return changed


class _Carrier:
    def __init__(self, graph: gs.Graph) -> None:
        self.graph = graph
        weighted, before, self.core = core_of(graph)
        self.dependent = weighted | before  # nodes that depend on a weighted one

    def run(self) -> int:
        changed = sum(self._as_sum(node) for node in list(self.graph.nodes) if id(node) in self.core)
        work = [n for n in self.graph.nodes if self._known_operand(n) is not None]
        while work:
            node = work.pop(0)
            moved = self._carry(node)
            changed += len(moved)
            work += moved
            changed += self._split(node)
        return changed

    def _is_known(self, tensor: gs.Tensor) -> bool:
        return is_known(tensor, self.dependent)

    def _known_operand(self, node: gs.Node) -> int | None:
        """Which operand of a sum with a core tensor is known; None for what is no such sum."""
        return known_operand(node, self.dependent) if id(node) in self.core else None

    def _as_sum(self, node: gs.Node) -> int:
        """Write another operator on a core tensor and a known one as an Add."""
        known = [i for i, t in enumerate(node.inputs) if self._is_known(t)]
        if len(known) != 1 or len(node.inputs) != 2 or isinstance(node.inputs[1 - known[0]], gs.Constant):
            return 0
        index, tensors = known[0], list(node.inputs)
        if node.op == "Sub":
            tensors[1] = self._insert("Neg", node, [tensors[1]], tensors[1].shape)
            if index == 0:
                self._mark_core(tensors[1])
        elif node.op == "Concat" and not self._feeds_weights(node):
            parts = [self._padded(node, i) for i in (0, 1)]
            if any(p is None for p in parts):
                return 0
            tensors = [p for p in parts if p is not None]
            self._mark_core(tensors[1 - index])
        elif node.op != "Sum":
            return 0
        node.op, node.attrs = "Add", {}
        set_inputs(node, tensors)
        return 1

    def _carry(self, node: gs.Node) -> list[gs.Node]:
        """Move a sum after each of its readers that leads to a neuron; returns the sums that come of it."""
        index = self._known_operand(node)
        if index is None:
            return []
        total, made = node.outputs[0], list[gs.Node]()
        for reader in list({id(r): r for r in total.outputs}.values()):
            if sum(t is total for t in reader.inputs) != 1 or not self._passes(reader) or not self._leads_on(reader):
                continue
            other = self._known_operand(reader)
            if other is not None:
                reader.inputs[other] = self._insert("Add", reader, [node.inputs[index], reader.inputs[other]], None)
            else:
                known = self._through(reader, total, node.inputs[index])
                if known is None:
                    continue
                made += [self._after(reader, i, k) for i, k in enumerate(known)]
            replace_input(reader, total, node.inputs[1 - index])
        return made

    def _after(self, reader: gs.Node, index: int, known: gs.Tensor) -> gs.Node:
        """A sum after an operator, which makes what the operator made."""
        total = reader.outputs[index]
        part = gs.Variable(unique_name(self.graph, f"{total.name}_apart"), dtype=np.float32, shape=total.shape)
        reader.outputs[index] = part
        node = gs.Node("Add", unique_name(self.graph, f"{reader.name}_known"), inputs=[part, known], outputs=[total])
        self.graph.nodes.append(node)
        self._mark_core(total)
        return node

    def _through(self, reader: gs.Node, total: gs.Tensor, known: gs.Tensor) -> list[gs.Tensor] | None:
        """What a linear operator makes of the known part of its input, for each output; None if that is not known."""
        place = next(i for i, t in enumerate(reader.inputs) if t is total)
        if reader.op in ("Add", "Sub"):
            return [self._insert("Neg", reader, [known], None) if reader.op == "Sub" and place == 1 else known]
        inputs, attrs = list(reader.inputs), dict(reader.attrs)
        if reader.op in SCALES:
            inputs[place] = known
            return [self._insert(reader.op, reader, inputs, None)]
        expanded = self._expanded(reader, known, total)
        if expanded is None:
            return None
        if reader.op == "Concat":
            padded = self._padded(reader, place, expanded)
            return None if padded is None else [padded]
        inputs[place] = expanded
        name = unique_name(self.graph, f"{reader.name}_of_known")
        outputs = [gs.Variable(unique_name(self.graph, f"{o.name}_known"), dtype=np.float32) for o in reader.outputs]
        self.graph.nodes.append(gs.Node(reader.op, name, attrs, inputs, outputs))
        return list(outputs)

    def _expanded(self, reader: gs.Node, known: gs.Tensor, total: gs.Tensor) -> gs.Tensor | None:
        """The known part with all axes of the sum, but for the batch."""
        if known.shape == total.shape:
            return known
        sizes = sizes_after_batch(total.shape)
        if sizes is None:
            return None
        shape = constant_tensor(self.graph, f"{reader.name}_sizes", np.array([1, *sizes], np.int64))
        return self._insert("Expand", reader, [known, shape], None)

    def _padded(self, concat: gs.Node, place: int, tensor: gs.Tensor | None = None) -> gs.Tensor | None:
        """One input of a concatenation, with zeros in place of the others; the batch axis is not theirs."""
        axis, after = concat_axis(concat), concat.outputs[0].shape
        tensor = concat.inputs[place] if tensor is None else tensor
        sizes = [t.shape[axis] if t.shape else None for t in concat.inputs]
        known = [s for s in sizes if isinstance(s, int)]
        if axis == 0 or after is None or len(known) < len(sizes):
            return None
        pads = np.zeros((2, len(after)), np.int64)
        pads[:, axis] = sum(known[:place]), sum(known[place + 1 :])
        values = constant_tensor(self.graph, f"{concat.name}_pads", pads.reshape(-1))
        return self._insert("Pad", concat, [tensor, values], after)

    def _passes(self, reader: gs.Node) -> bool:
        """Whether the operator is linear without weights, in its one input or in all of them."""
        rule = LINEAR.get(reader.op)
        if id(reader) not in self.core or (reader.domain or "") or rule is None or rule.weighted:
            return False
        computed = [i for i, t in enumerate(reader.inputs) if t.name and not isinstance(t, gs.Constant)]
        return computed == [0] or reader.op in SEVERAL or (reader.op == "Mul" and computed == [1])

    def _leads_on(self, reader: gs.Node) -> bool:
        """Whether what the operator makes comes to a neuron or a readout before it comes to weights."""
        for tensor in reader.outputs:
            if is_output(self.graph, tensor):
                return True
            for node in tensor.outputs:
                if self._hears(node) or (self._passes(node) and self._leads_on(node)):
                    return True
        return False

    def _feeds_weights(self, node: gs.Node) -> bool:
        """Whether a layer with weights reads what the operator makes, with no neuron in between: it reads spikes."""
        readers = [r for t in node.outputs for r in t.outputs if not self._hears(r)]
        return any(not self._passes(r) or self._feeds_weights(r) for r in readers)

    def _hears(self, node: gs.Node) -> bool:
        """Whether the node takes a bias: a neuron, or what a readout stands in front of."""
        return id(node) not in self.core or is_neuron(node)

    def _split(self, node: gs.Node) -> int:
        """Give the readers that are no neurons a sum of their own, which is then encoded for them."""
        index, total = self._known_operand(node), node.outputs[0]
        if index is None:
            return 0
        readers = list({id(r): r for r in total.outputs}.values())
        others = [r for r in readers if not self._hears(r)]
        if not others or (len(others) == len(readers) and not is_output(self.graph, total)):
            return 0
        copy = self._insert("Add", node, list(node.inputs), total.shape)
        self._mark_core(copy)
        for reader in others:
            replace_input(reader, total, copy)
        return 1

    def _insert(
        self, op: str, node: gs.Node, inputs: Sequence[gs.Tensor], shape: Sequence[int | str | None] | None
    ) -> gs.Variable:
        return insert_shaped(self.graph, op, f"{node.name}_{op.lower()}", inputs, shape)

    def _mark_core(self, tensor: gs.Tensor) -> None:
        """The node that makes the tensor is of the core."""
        self.core.add(id(tensor.inputs[0]))
        self.dependent.add(id(tensor.inputs[0]))
